"""Benchmarks: rows, labels, supplied and generated LR, and images that are left out."""

import os
import pathlib
import time

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from srgan_jax.data import resize
from srgan_jax.evaluation import benchmark, lpips, metrics, rows
from srgan_jax.evaluation.datasets import find, open_datasets, select
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.models import generator
from srgan_jax.weights import store

SET5 = pathlib.Path(__file__).parents[1] / "../shared/data/set5"


def _image(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth shapes, so that interpolations differ as they do on photos."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return resize.imresize(coarse, 8)[:height, :width]


def _save(path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _brighter(lr: np.ndarray) -> np.ndarray:
    return np.minimum(resize.imresize(lr, 4), 245) + 10


@pytest.fixture
def folder(tmp_path):
    """Three images of different sizes, none of them a multiple of 4."""
    for seed, (height, width) in enumerate([(50, 61), (45, 70), (63, 47)]):
        _save(tmp_path / "set" / f"{seed}.png", _image(seed, height, width))
    return tmp_path / "set"


def test_scores_equal_the_metrics_on_mod_cropped_images(folder):
    advanced = []
    plan = benchmark.Benchmark({"brighter": _brighter}, protocols=metrics.PROTOCOLS)
    report = plan.run(open_datasets([folder]), advance=lambda: advanced.append(1))
    assert len(advanced) == 3
    assert not report.failures
    assert [(r.protocol, r.weights) for r in report.results] == [
        (protocol, name)
        for protocol in ("standard", "paper", "rgb", "pyiqa")
        for name in ("nearest", "bicubic", "brighter")
    ]
    for result in report.results:
        assert result.dataset == "set"
        assert [score.image for score in result.per_image] == ["0", "1", "2"]
    hr = resize.mod_crop(_image(1, 45, 70), 4)
    sr = _brighter(resize.imresize(hr, 1 / 4))
    options = {"protocol": "paper", "scale": 4}
    score = next(
        r for r in report.results if (r.protocol, r.weights) == ("paper", "brighter")
    ).per_image[1]
    assert score.psnr == metrics.psnr(sr, hr, **options)
    assert score.ssim == metrics.ssim(sr, hr, **options)
    assert score.lpips is None


@pytest.mark.parametrize("layout", ["pairs", "folders", "div2k"])
def test_supplied_lr_is_used_unchanged(tmp_path, layout):
    hr_name, lr_name = {
        "pairs": ("hr/a_HR.png", "hr/a_LR.png"),
        "folders": ("hr/a.png", "lr/a.png"),
        "div2k": ("hr/a.png", "lr/ax4.png"),
    }[layout]
    hr, lr = _image(0, 48, 48), _image(1, 12, 12)
    _save(tmp_path / hr_name, hr)
    _save(tmp_path / lr_name, lr)
    lr_folders = [] if layout == "pairs" else [tmp_path / "lr"]
    datasets = open_datasets([tmp_path / "hr"], lr_folders)
    report = benchmark.Benchmark({}).run(datasets)
    nearest, bicubic = (result.per_image for result in report.results)
    assert len(nearest) == len(bicubic) == 1
    expected = metrics.psnr(
        lr.repeat(4, axis=0).repeat(4, axis=1), hr, protocol="standard", scale=4
    )
    assert nearest[0].psnr == expected


def test_border_affects_lr_and_bicubic(folder):
    datasets = open_datasets([folder])
    scores = [
        benchmark.Benchmark({}, border=border, protocols=["rgb"], scale=2).run(datasets)
        for border in ("mirrored", "clamped")
    ]
    assert scores[0].results[1].mean.psnr != scores[1].results[1].mean.psnr


def test_standard_scores_a_grey_file_in_full_range(tmp_path):
    grey = _image(0, 48, 48)[..., 0]
    _save(tmp_path / "grey" / "a.png", grey)
    _save(tmp_path / "colour" / "a.png", np.repeat(grey[..., None], 3, axis=2))
    datasets = open_datasets([tmp_path / "grey", tmp_path / "colour"])
    report = benchmark.Benchmark({}, protocols=["standard", "paper"]).run(datasets)
    scores = {
        (r.dataset, r.protocol): r.mean.psnr
        for r in report.results
        if r.weights == "bicubic"
    }
    hr = np.repeat(grey[..., None], 3, axis=2)
    sr = resize.imresize(resize.imresize(hr, 1 / 4), 4)
    options = {"protocol": "standard", "scale": 4}
    assert scores["grey", "standard"] == metrics.psnr(sr, hr, grey=True, **options)
    assert scores["colour", "standard"] == metrics.psnr(sr, hr, **options)
    assert scores["grey", "standard"] < scores["colour", "standard"] - 1
    assert scores["colour", "paper"] == scores["grey", "paper"]


def test_broken_images_are_named_and_left_out_of_every_row(folder):
    (folder / "1b.png").write_bytes((folder / "1.png").read_bytes()[:200])
    (folder / "text.png").write_text("no picture")
    _save(folder / "tiny.png", _image(0, 17, 60))
    report = benchmark.Benchmark({"brighter": _brighter}).run(open_datasets([folder]))
    assert len(report.failures) == 3
    for failure, name in zip(report.failures, ["1b", "text", "tiny"], strict=True):
        assert str(folder / f"{name}.png") in failure
    assert "11x11 must fit" in report.failures[2]
    for result in report.results:
        assert [score.image for score in result.per_image] == ["0", "1", "2"]


def test_images_with_lr_of_another_scale_are_left_out(tmp_path):
    _save(tmp_path / "a_HR.png", _image(0, 48, 48))
    _save(tmp_path / "a_LR.png", _image(0, 24, 24))
    report = benchmark.Benchmark({}).run(open_datasets([tmp_path]))
    assert not report.results
    assert "48x48" in report.failures[0]
    assert "24x24" in report.failures[0]


def test_images_are_kept_on_request(folder):
    plan = benchmark.Benchmark({"brighter": _brighter}, keep=["1"])
    report = plan.run(open_datasets([folder]))
    assert list(report.kept) == [("set", "1")]
    images = report.kept["set", "1"]
    assert list(images) == ["nearest", "bicubic", "brighter", "original"]
    assert {image.shape for image in images.values()} == {(44, 68, 3)}


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["a/HR", "b/HR"], ["a", "b"]),
        (["Set5/image_SRF_4"], ["Set5"]),
        (["a/set", "b/set"], ["{root}/a/set", "{root}/b/set"]),
        (["a/x/HR", "b/x"], ["{root}/a/x/HR", "{root}/b/x"]),
    ],
)
def test_data_sets_have_different_labels(tmp_path, folders, labels):
    for folder in folders:
        _save(tmp_path / folder / "0.png", _image(0, 48, 48))
    datasets = open_datasets([f"folder:{tmp_path}/{folder}" for folder in folders])
    assert [d.name for d in datasets] == [x.format(root=tmp_path) for x in labels]


def test_images_are_never_taken_from_the_originals_themselves(tmp_path):
    originals = {"img": _image(0, 48, 48)}
    for place in ("a/set", "b/set"):  # one label, so that both get their whole path
        _save(tmp_path / place / "img.png", originals["img"])
    _write_bicubic(tmp_path / "out", originals)
    datasets = open_datasets([tmp_path / "a/set", tmp_path / "b/set"])
    images = rows.match_images([f"theirs={tmp_path}/out"], datasets)
    assert set(images["theirs"].values()) == {tmp_path / "out/img.png"}


def test_labels_are_valid_text(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/s\xe9t/\xe9")
    _save(pathlib.Path(folder) / "img.png", _image(0, 48, 48))
    (dataset,) = open_datasets([pathlib.Path(folder).parent])
    assert dataset.name == r"s\xe9t"
    assert [files.name for files in dataset.images] == [r"\xe9/img"]


def test_names_that_differ_in_their_extension_stay_distinct(tmp_path):
    for name in ("a.png", "a.bmp", "b.png"):
        _save(tmp_path / name, _image(0, 48, 48))
    (dataset,) = open_datasets([tmp_path])
    assert [files.name for files in dataset.images] == ["a.bmp", "a.png", "b"]


def test_equal_names_in_sub_folders_stay_distinct(tmp_path):
    for place in ("A/x", "A/y", "A"):
        _save(tmp_path / place / "img.png", _image(0, 48, 48))
    _save(tmp_path / "A/x/other.png", _image(0, 48, 48))
    datasets = open_datasets([tmp_path / "A"])
    names = [files.name for files in datasets[0].images]
    assert sorted(names) == ["img", "x/img", "x/other", "y/img"]
    assert select(["x/img", "other", "img"], datasets) == {
        "x/img": "x/img",
        "other": "x/other",
        "img": "img",
    }
    (tmp_path / "A/img.png").unlink()
    with pytest.raises(ValueError, match="img is ambiguous: choose from x/img, y/img"):
        select(["img"], open_datasets([tmp_path / "A"]))
    with pytest.raises(ValueError, match="no image named z"):
        find("z", datasets)
    report = benchmark.Benchmark({}, keep=["x/img", "y/img"]).run(datasets)
    assert sorted(report.kept) == [("A", "x/img"), ("A", "y/img")]


def test_unsuitable_folders_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="no folder"):
        open_datasets([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        open_datasets([tmp_path / "empty"])
    with pytest.raises(ValueError, match="is given twice"):
        open_datasets([folder, folder])
    with pytest.raises(ValueError, match="one LR folder for each HR folder"):
        open_datasets([folder, folder], [folder])
    _save(tmp_path / "lr" / "0.png", _image(0, 12, 12))
    with pytest.raises(ValueError, match=r"1\.png"):
        open_datasets([folder], [tmp_path / "lr"])


def _random_generator(**settings):
    network = generator.Generator(**settings)
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), lr)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.01, np.float32), shapes)
    return tiny.settings_of(network), variables


def test_generators_of_different_scales_are_refused(tmp_path):
    for scale in (2, 4):
        made = _random_generator(scale=scale, blocks=1, channels=4)
        store.save_generator(tmp_path / f"x{scale}.safetensors", *made)
    two, four = (str(tmp_path / f"x{scale}.safetensors") for scale in (2, 4))
    generators, scale = rows.load_generators([two, "bicubic"])
    assert list(generators) == [two]
    assert scale == 2
    with pytest.raises(ValueError, match="different scales"):
        rows.load_generators([two, four])
    with pytest.raises(ValueError, match="no-such-name"):
        rows.load_generators(["no-such-name"])


def _write_bicubic(folder, images, name="{}", whole=False):
    """Writes images as another program might make them from the originals."""
    for stem, hr in images.items():
        sr = resize.imresize(resize.imresize(resize.mod_crop(hr, 4), 1 / 4), 4)
        if whole:
            rows, columns = np.subtract(hr.shape[:2], sr.shape[:2])
            sr = np.pad(sr, ((0, rows), (0, columns), (0, 0)))
        _save(folder / f"{name.format(stem)}.png", sr)


def test_images_of_another_program_are_scored_unchanged(folder, tmp_path):
    originals = {
        str(i): _image(i, *size)
        for i, size in enumerate([(50, 61), (45, 70), (63, 47)])
    }
    _write_bicubic(tmp_path / "out", originals, "{}_SRGAN", whole=True)
    _write_bicubic(tmp_path / "exact/set", originals)
    _write_bicubic(tmp_path / "exact/other", originals, "{}_x")
    datasets = open_datasets([folder])
    images = rows.match_images(
        [f"ours={tmp_path}/out", f"theirs={tmp_path}/exact"], datasets
    )
    report = benchmark.Benchmark({}, images=images, extremes=1).run(datasets)
    means = {result.weights: result.mean for result in report.results}
    assert list(means) == ["nearest", "bicubic", "ours", "theirs"]
    assert means["ours"] == means["theirs"] == means["bicubic"]
    assert [path.name for path in report.cut["ours"]] == [
        "0_SRGAN.png",
        "1_SRGAN.png",
        "2_SRGAN.png",
    ]
    assert "theirs" not in report.cut
    assert any("ours: 3 images are cropped" in note for note in report.notes())
    assert len(report.kept) == 2  # the worst and the best


def test_images_of_other_sizes_are_left_out_of_every_row(folder, tmp_path):
    originals = {str(i): _image(0, 60, 60) for i in range(3)}
    _write_bicubic(tmp_path / "out", originals)
    datasets = open_datasets([folder])
    images = rows.match_images([f"ours={tmp_path}/out"], datasets)
    report = benchmark.Benchmark({}, images=images).run(datasets)
    assert len(report.failures) == 3
    assert "is 60x60 but its original 60x48" in report.failures[0]
    assert not report.results


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("folder", "'folder' is not NAME=FOLDER"),
        ("bicubic={}", "'bicubic' is the name of another row"),
        ("mine={}", "'mine' is the name of another row"),
        ("a={}/absent", "no folder"),
    ],
)
def test_malformed_rows_are_refused(folder, spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        rows.match_images([spec.format(folder)], open_datasets([folder]), ["mine"])


def test_only_the_worst_and_best_images_stay_in_memory(tmp_path):
    for seed in range(7):
        _save(tmp_path / "set" / f"{seed}.png", _image(seed, 48, 48))
    datasets = open_datasets([tmp_path / "set"])
    report = benchmark.Benchmark({}, keep=["3"], extremes=2).run(datasets)
    scores = next(r.per_image for r in report.results if r.weights == "bicubic")
    ranked = [s.image for s in sorted(scores, key=lambda score: score.psnr)]
    expected = {*ranked[:2], *ranked[-2:], "3"}
    assert {image for _, image in report.kept} == expected


def test_scoring_is_much_faster_than_upscaling():
    """The best of three rounds: one protocol against the paper's generator."""
    upscaler = Upscaler(*_random_generator())
    hr = _image(0, 256, 256)
    lr = resize.imresize(hr, 1 / 4)
    sr = upscaler(lr)
    generating, scoring = [], []
    for _ in range(3):
        start = time.perf_counter()
        upscaler(lr)
        middle = time.perf_counter()
        metrics.psnr(sr, hr, protocol="standard", scale=4)
        metrics.ssim(sr, hr, protocol="standard", scale=4)
        generating.append(middle - start)
        scoring.append(time.perf_counter() - middle)
    assert min(scoring) < 0.15 * min(generating)


def test_published_generators_reach_their_scores_on_set5():
    names = ["krasserm-srresnet", "krasserm-srgan"]
    if not SET5.is_dir():
        pytest.skip("Set5 is not part of the project")
    for name in (*names, "lpips-alex"):
        if not store.is_cached(name):
            pytest.skip(f"{name} is not in the cache: srgan-jax weights fetch {name}")
    generators, scale = rows.load_generators(names)
    plan = benchmark.Benchmark(generators, scale, distance=lpips.load("alex"))
    report = plan.run(open_datasets([SET5]))
    means = {result.weights: result.mean for result in report.results}
    for name, psnr, distance in zip(
        names, (31.99, 29.17), (0.1785, 0.0880), strict=True
    ):
        assert means[name].psnr == pytest.approx(psnr, abs=0.01)
        assert means[name].lpips == pytest.approx(distance, abs=0.0005)
