"""Training batches: exact LR crops, on any host and from any step."""

import contextlib
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from srgan_jax.data import (
    augment,
    crops,
    degrade,
    examples,
    pipeline,
    sampling,
    sources,
)
from srgan_jax.data import source as source_module
from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.data.resize import imresize, mod_crop
from srgan_jax.data.source import Source, SourceError, UnreadableError
from srgan_jax.images.image import ImageError

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth image whose chroma JPEG subsamples and interpolates."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 5 + 2, width // 5 + 2, 3), np.uint8)
    return imresize(coarse, 5)[:height, :width]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Seven images in every JPEG layout; their sizes are not multiples of a scale."""
    folder = tmp_path_factory.mktemp("images")
    jpegs = {
        "444": {"subsampling": 0},
        "422": {"subsampling": 1},
        "420": {"subsampling": 2},
        "progressive": {"progressive": True},
        "restart": {"restart_marker_rows": 1},
    }
    for seed, (name, options) in enumerate(jpegs.items()):
        image = PIL.Image.fromarray(smooth(71 + seed, 90 - 3 * seed, seed))
        image.save(folder / f"{name}.jpg", quality=90, **options)
    grey = PIL.Image.fromarray(smooth(64, 77, 5)).convert("L")
    grey.save(folder / "grey.jpg")
    PIL.Image.fromarray(smooth(48, 51, 6)).save(folder / "whole.png")
    return folder


@pytest.fixture
def source(folder) -> Source:
    return sources.open_source(f"folder:{folder}", minimum_size=48)


def batches(source, count, **changes):
    settings = {"batch_size": 4, "crop": 48, "scale": 4, "seed": 1, **changes}
    return list(islice(pipeline.training_batches(source, **settings), count))


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a["lr"], b["lr"])
        np.testing.assert_array_equal(a["hr"], b["hr"])


@pytest.mark.parametrize(
    ("scale", "border"),
    [(2, "mirrored"), (3, "clamped"), (4, "mirrored"), (4, "clamped"), (8, "mirrored")],
)
def test_lr_of_a_crop_equals_the_crop_of_lr(source, scale, border):
    made = batches(source, 14, scale=scale, border=border)
    sampler = sampling.Sampler(source.sizes, batch_size=4, crop=48, scale=scale, seed=1)
    side = 48 // scale
    for step, batch in enumerate(made):
        assert batch["lr"].shape == (4, side, side, 3)
        assert batch["hr"].shape == (4, 48, 48, 3)
        assert batch["lr"].dtype == batch["hr"].dtype == np.uint8
        for row, lr, hr in zip(
            sampler.examples(step), batch["lr"], batch["hr"], strict=True
        ):
            index, top, left, *_ = row
            whole = mod_crop(source.image(index), scale)
            small = imresize(whole, Fraction(1, scale), border=border)
            np.testing.assert_array_equal(hr, whole[top:, left:][:48, :48])
            y, x = top // scale, left // scale
            np.testing.assert_array_equal(lr, small[y:, x:][:side, :side])


def test_a_region_of_a_jpeg_equals_the_whole_image_there(source):
    """Tries corners all over each image, at every alignment to JPEG's blocks."""
    reader = crops.CropReader(
        source, crop=24, margin=0, multiple=1, border="clamped", cache_bytes=0
    )
    assert source.jpeg.sum() == 6
    for index in np.flatnonzero(source.jpeg):
        whole = source.image(index)
        for top in range(0, whole.shape[0] - 23, 3):
            for left in range(0, whole.shape[1] - 23, 5):
                part = reader.read(index, top, left)
                expected = whole[top : top + 24, left : left + 24]
                np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("process_count", [2, 4])
def test_the_shares_of_hosts_form_the_batch_of_a_single_host(source, process_count):
    alone = batches(source, 6, flips=True, rotations=True)
    shares = [
        batches(
            *(source, 6),
            flips=True,
            rotations=True,
            process_index=index,
            process_count=process_count,
        )
        for index in range(process_count)
    ]
    together = [
        {name: np.concatenate([share[name] for share in step]) for name in ("lr", "hr")}
        for step in zip(*shares, strict=True)
    ]
    assert_same(together, alone)


def test_batches_resume_at_any_step(source):
    settings = {"flips": True, "rotations": True}
    run = batches(source, 9, **settings)
    for step in (1, 4, 8):
        resumed = batches(source, 9 - step, first_step=step, **settings)
        assert_same(resumed, run[step:])


def test_seeds_differ(source):
    (one,), (other,) = batches(source, 1), batches(source, 1, seed=2)
    assert not np.array_equal(one["hr"], other["hr"])


def test_flips_and_quarter_turns_apply_to_both_images(source):
    plain = batches(source, 8)
    turned = batches(source, 8, flips=True, rotations=True)
    flipped = batches(source, 8, flips=True)
    sampler = sampling.Sampler(source.sizes, batch_size=4, crop=48, scale=4, seed=1)
    met = set()
    for step in range(8):
        for k, row in enumerate(sampler.examples(step).tolist()):
            flip, turns = row[3:5]
            met.add((flip, turns))
            for name in ("lr", "hr"):
                image = plain[step][name][k]
                image = image[:, ::-1] if flip else image
                np.testing.assert_array_equal(flipped[step][name][k], image)
                image = np.rot90(image, turns)
                np.testing.assert_array_equal(turned[step][name][k], image)
    assert len(met) == 8


def test_graded_patches_replace_the_given_fraction_of_crops(source):
    plain, some = batches(source, 25), batches(source, 25, graded=0.25)
    sampler = sampling.Sampler(source.sizes, batch_size=4, crop=48, scale=4, seed=1)
    replaced = 0
    for step in range(25):
        for k, row in enumerate(sampler.examples(step).tolist()):
            if row[6] < 2**30:
                replaced += 1
                patch = augment.graded_patch(48 + 16, row[6])
                np.testing.assert_array_equal(some[step]["hr"][k], patch[8:-8, 8:-8])
            else:
                np.testing.assert_array_equal(some[step]["hr"][k], plain[step]["hr"][k])
    assert 15 <= replaced <= 35


def test_exposure_changes_hr_and_lr_equally(source):
    plain, exposed = batches(source, 4), batches(source, 4, exposure=3.0)
    sampler = sampling.Sampler(source.sizes, batch_size=4, crop=48, scale=4, seed=1)
    for step in range(4):
        for k, row in enumerate(sampler.examples(step).tolist()):
            hr = augment.expose(plain[step]["hr"][k], 3.0, row[5])
            np.testing.assert_array_equal(exposed[step]["hr"][k], hr)
            lr = imresize(hr, 1 / 4)[3:-3, 3:-3]  # away from the border
            np.testing.assert_array_equal(exposed[step]["lr"][k, 3:-3, 3:-3], lr)


@pytest.mark.parametrize("cache_bytes", [0, 10_000, 1 << 30])
def test_the_cache_size_does_not_change_batches(source, cache_bytes):
    made = batches(source, 6, cache_bytes=cache_bytes)
    assert_same(made, batches(source, 6))


def test_cached_images_are_used_after_their_files_are_deleted(tmp_path):
    for seed in range(2):
        image = PIL.Image.fromarray(smooth(60, 60, seed))
        image.save(tmp_path / f"{seed}.png")
    source = sources.open_source(f"folder:{tmp_path}", minimum_size=48)
    stream = pipeline.training_batches(source, batch_size=2, crop=48, scale=4, seed=0)
    next(stream)
    for path in tmp_path.iterdir():
        path.unlink()
    for _ in range(20):
        next(stream)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_file_deleted_during_the_run_stops_it_with_its_name(
    tmp_path, suffix, damage, monkeypatch
):
    monkeypatch.setattr(source_module, "RETRY_SECONDS", (0.01,))
    for name in "abcd":
        image = PIL.Image.fromarray(smooth(60, 60, 0))
        image.save(tmp_path / f"{name}.{suffix}")
    source = sources.open_source(f"folder:{tmp_path}", minimum_size=48)
    stream = pipeline.training_batches(
        source, batch_size=2, crop=48, scale=4, seed=0, cache_bytes=0
    )
    next(stream)

    def continue_run():
        for _ in range(50):
            next(stream)

    victim = tmp_path / f"c.{suffix}"
    if damage == "lost":
        victim.unlink()
    else:
        victim.write_bytes(b"\xff\xd8 no longer an image")
    with pytest.raises(ImageError, match=rf"c\.{suffix}: "):
        continue_run()


def damage(path: Path) -> None:
    """Changes bytes in the middle of a file; its header and its end remain valid."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)


@pytest.fixture
def damaged(tmp_path):
    """A source of nine images, two of which were damaged after it was opened."""
    for seed in range(9):
        image = PIL.Image.fromarray(smooth(52 + 4 * seed, 64, seed))
        image.save(tmp_path / f"{seed}.png")
    opened = sources.open_source(f"folder:{tmp_path}", minimum_size=48)
    for seed in (2, 5):
        damage(tmp_path / f"{seed}.png")
    return opened


def skipping(source, count, told=None, **changes):
    told = [] if told is None else told
    on_skip = lambda name, reason: told.append((name, reason))  # noqa: E731
    return batches(source, count, on_skip=on_skip, **changes)


def test_a_damaged_image_is_replaced_by_the_next_good_one_of_its_epoch(
    damaged, monkeypatch
):
    tolerate(monkeypatch)
    told = []
    made = skipping(damaged, 9, told)  # four epochs
    sampler = sampling.Sampler(damaged.sizes, batch_size=4, crop=48, scale=4, seed=1)
    replaced = 0
    for step, batch in enumerate(made):
        for row, lr, hr in zip(
            sampler.examples(step).tolist(), batch["lr"], batch["hr"], strict=True
        ):
            example = sampling.Example(*row)
            if example.image in (2, 5):
                replaced += 1
                example = next(
                    other
                    for other in sampler.replacements(example)
                    if other.image not in (2, 5)
                )
            whole = mod_crop(damaged.image(example.image), 4)
            expected = whole[example.top :, example.left :][:48, :48]
            np.testing.assert_array_equal(hr, expected)
            small = imresize(whole, Fraction(1, 4))
            small = small[example.top // 4 :, example.left // 4 :][:12, :12]
            np.testing.assert_array_equal(lr, small)
    assert replaced == 8
    assert sorted(name for name, _ in told) == ["2.png", "5.png"]
    assert all(reason.startswith(f"{name}: ") for name, reason in told)


def tolerate(monkeypatch):
    """Lets two of nine images be damaged."""
    monkeypatch.setattr(examples.DamagedImages, "limit", property(lambda self: 2))


def test_replacements_do_not_depend_on_hosts_or_resumes(damaged, monkeypatch):
    tolerate(monkeypatch)
    run = skipping(damaged, 9)
    for step in (1, 4, 8):
        assert_same(skipping(damaged, 9 - step, first_step=step), run[step:])
    shares = [
        skipping(damaged, 9, process_index=index, process_count=2) for index in (0, 1)
    ]
    together = [
        {name: np.concatenate([share[name] for share in step]) for name in ("lr", "hr")}
        for step in zip(*shares, strict=True)
    ]
    assert_same(together, run)


def test_more_than_one_percent_of_damaged_images_stop_the_run(damaged):
    told = []
    with pytest.raises(
        SourceError, match=r"2 of 9 images .* more than 1 %: .*\.png, .*\.png; restore"
    ):
        skipping(damaged, 9, told)
    assert told


def test_a_damaged_jpeg_is_replaced(tmp_path):
    for seed in range(4):
        image = PIL.Image.fromarray(smooth(60, 60, seed))
        image.save(tmp_path / f"{seed}.jpg")
    opened = sources.open_source(f"folder:{tmp_path}", minimum_size=48)
    (tmp_path / "3.jpg").write_bytes(b"\xff\xd8 no longer an image")
    told = []
    skipping(opened, 6, told)
    assert [name for name, _ in told] == ["3.jpg"]


def test_a_deleted_file_does_not_count_as_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "RETRY_SECONDS", ())
    for seed in range(4):
        image = PIL.Image.fromarray(smooth(60, 60, seed))
        image.save(tmp_path / f"{seed}.jpg")
    opened = sources.open_source(f"folder:{tmp_path}", minimum_size=48)
    (tmp_path / "3.jpg").unlink()
    told = []
    with pytest.raises(UnreadableError, match=r"3\.jpg: No such file .* restore"):
        skipping(opened, 6, told)
    assert not told


def test_a_file_that_returns_in_time_does_not_stop_the_run(tmp_path, monkeypatch):
    for seed in range(2):
        image = PIL.Image.fromarray(smooth(60, 60, seed))
        image.save(tmp_path / f"{seed}.jpg")
    opened = sources.open_source(f"folder:{tmp_path}", minimum_size=48)
    run = batches(opened, 3)
    tmp_path.rename(tmp_path.with_name("unmounted"))

    def mount_again(seconds):
        with contextlib.suppress(FileNotFoundError):  # another thread has deleted it
            tmp_path.with_name("unmounted").rename(tmp_path)

    monkeypatch.setattr(source_module.time, "sleep", mount_again)
    assert_same(batches(opened, 3), run)


@pytest.fixture
def paired(tmp_path):
    """Five HR images, and LR images that are not their bicubic, as PNG and as JPEG."""
    for seed in range(5):
        height, width = 52 + 4 * seed, 67
        suffix = "jpg" if seed % 2 else "png"
        image = PIL.Image.fromarray(smooth(height, width, seed))
        image.save(tmp_path / f"{seed}_HR.{suffix}")
        image = PIL.Image.fromarray(smooth(height // 4, width // 4, seed + 50))
        image.save(tmp_path / f"{seed}_LR.png")
    return tmp_path


def test_crops_of_a_pair_come_from_the_same_place_in_both_files(paired):
    opened = sources.open_source(f"pairs:{paired}", minimum_size=48, scale=4)
    assert list(opened.labels) == [
        *("0_HR.png", "1_HR.jpg", "2_HR.png", "3_HR.jpg", "4_HR.png"),
    ]
    made = batches(opened, 6, flips=True, rotations=True)
    sampler = sampling.Sampler(opened.sizes, batch_size=4, crop=48, scale=4, seed=1)
    for step, batch in enumerate(made):
        for row, lr, hr in zip(
            sampler.examples(step).tolist(), batch["lr"], batch["hr"], strict=True
        ):
            example = sampling.Example(*row)
            y, x = example.top, example.left
            expected = opened.image(example.image)[y : y + 48, x : x + 48]
            small = opened.lr.image(example.image)
            small = small[y // 4 : y // 4 + 12, x // 4 : x // 4 + 12]
            if example.flip:
                expected, small = expected[:, ::-1], small[:, ::-1]
            np.testing.assert_array_equal(hr, np.rot90(expected, example.turns))
            np.testing.assert_array_equal(lr, np.rot90(small, example.turns))


def test_a_damaged_lr_file_replaces_its_pair(paired):
    opened = sources.open_source(f"pairs:{paired}", minimum_size=48, scale=4)
    damage(paired / "2_LR.png")
    told = []
    assert_same(skipping(opened, 5, told)[3:], skipping(opened, 2, first_step=3))
    assert [name for name, _ in told] == ["2_HR.png"]
    assert "2_LR.png: " in told[0][1]


def test_graded_patches_among_pairs_have_a_bicubic_lr(paired):
    opened = sources.open_source(f"pairs:{paired}", minimum_size=48, scale=4)
    (batch,) = batches(opened, 1, graded=1.0)
    for lr, hr in zip(batch["lr"], batch["hr"], strict=True):
        np.testing.assert_array_equal(lr, imresize(hr, Fraction(1, 4)))


def test_degraded_lr_depends_on_seed_and_example_alone(source):
    settings = {"degradation": "photo", "flips": True}
    run = batches(source, 4, **settings)
    assert_same(batches(source, 2, first_step=2, **settings), run[2:])
    wide = batches(source, 2, batch_size=8, **settings)  # more than the seven images
    np.testing.assert_array_equal(wide[0]["lr"][:4], run[0]["lr"])
    share = batches(source, 4, process_index=1, process_count=2, **settings)
    np.testing.assert_array_equal(share[3]["lr"], run[3]["lr"][2:])
    bicubic = batches(source, 4, flips=True)
    for degraded, clean in zip(run, bicubic, strict=True):
        np.testing.assert_array_equal(degraded["hr"], clean["hr"])
        assert (degraded["lr"] != clean["lr"]).any(axis=(1, 2, 3)).all()


def test_degraded_lr_equals_that_of_the_module_degrade(source):
    (batch,) = batches(source, 1, degradation="photo")
    sampler = sampling.Sampler(source.sizes, batch_size=4, crop=48, scale=4, seed=1)
    margin = 4 * degrade.MARGIN
    for row, lr in zip(sampler.examples(0).tolist(), batch["lr"], strict=True):
        example = sampling.Example(*row)
        whole = mod_crop(source.image(example.image), 4)
        wide = np.pad(whole, [(margin, margin)] * 2 + [(0, 0)], mode="symmetric")
        side = 48 + 2 * margin
        wide = wide[example.top :, example.left :][:side, :side]
        random = sampling.degradation_generator(1, example.number)
        np.testing.assert_array_equal(lr, degrade.photo(wide, 4, random))


def test_the_interpreter_can_exit_while_batches_are_being_made(folder):
    """Otherwise TensorFlow's threads and Python would deadlock."""
    code = (
        "from srgan_jax.data import augment, pipeline, sources\n"
        f"source = sources.open_source({f'folder:{folder}'!r}, minimum_size=48)\n"
        "settings = dict(batch_size=64, crop=48, scale=4, seed=0, rotations=True)\n"
        "streams = [pipeline.training_batches(source, **settings) for _ in range(3)]\n"
        "next(streams[0]), next(streams[1])\n"
        "del streams[0]\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop": 50}, "crop is 50; expected a positive multiple of the scale, 4"),
        ({"batch_size": 5, "process_count": 2}, "cannot share a batch of 5"),
        ({"crop": 52}, r"whole\.png .* smaller than a crop of 52x52"),
        ({"border": "zero"}, "'zero'"),
        ({"seed": -1}, r"seed is -1; expected 0 to"),
        ({"batch_size": 0}, "batch of 0"),
        ({"degradation": "jpeg"}, "'jpeg'; expected one of bicubic, photo"),
    ],
)
def test_errors_name_the_invalid_input(source, changes, words):
    with pytest.raises(ValueError, match=words):
        batches(source, 1, **changes)


def test_crops_of_real_images_equal_crops_of_the_decoded_images():
    if not (SHARED / "imagenet1000").exists():
        pytest.skip("needs imagenet1000 of the shared data folder")
    source = sources.open_source(f"folder:{SHARED / 'imagenet1000'}", minimum_size=96)
    assert len(source) == 996
    stream = pipeline.training_batches(source, batch_size=16, crop=96, scale=4, seed=0)
    sampler = sampling.Sampler(source.sizes, batch_size=16, crop=96, scale=4, seed=0)
    for step in range(4):
        batch = next(stream)
        for row, hr, lr in zip(
            sampler.examples(step), batch["hr"], batch["lr"], strict=True
        ):
            index, top, left, *_ = row
            whole = mod_crop(source.image(index), 4)
            np.testing.assert_array_equal(hr, whole[top:, left:][:96, :96])
            small = imresize(whole, 0.25)[top // 4 :, left // 4 :][:24, :24]
            np.testing.assert_array_equal(lr, small)


def test_batches_may_be_dropped_while_a_graph_is_built(source):
    """The garbage collector may drop them at any time."""
    tf = import_tensorflow()
    held = [pipeline.training_batches(source, batch_size=4, crop=48, scale=4, seed=1)]
    next(held[0])

    @tf.function
    def build():
        held.clear()
        return tf.constant(1)

    graph = build.get_concrete_function().graph
    assert "IteratorGetNext" not in {
        operation.type for operation in graph.get_operations()
    }
