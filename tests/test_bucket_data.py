"""Images, weights and locks in a bucket, on a real storage server on loopback."""

import json
import logging
import shutil
import time

import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner

from srgan_jax import bucket_client, buckets
from srgan_jax.cli import data as cli_data
from srgan_jax.cli import weights as cli_weights
from srgan_jax.cli.main import app
from srgan_jax.data import file_cache, pipeline, scan, source, sources
from srgan_jax.data.evaluation_sets import evaluation_pairs
from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.evaluation import datasets, rows
from srgan_jax.images import decode
from srgan_jax.training import checkpoint, lock, network_files
from srgan_jax.training.lock import Lock, LockError
from srgan_jax.weights import files, store
from srgan_jax.weights.layout import WeightsError

# The client leaves the connection of a failed request to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


def upload(folder, target):
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder).as_posix()).upload(path)
    return target


@pytest.fixture
def photographs(tmp_path, bucket):
    """Returns the same images in a local folder and in a bucket; some are JPEGs."""
    folder = tiny.photographs(tmp_path / "photographs", count=5)
    (folder / "sub").mkdir()
    with Image.open(folder / "0.png") as image:
        image.resize((900, 700)).save(folder / "sub/large.jpg", quality=100)
        image.save(folder / "sub/small.jpg")
    (folder / ".hidden.png").write_bytes(b"not an image")
    return folder, upload(folder, bucket / "photographs")


def batches(opened, count=3):
    stream = pipeline.training_batches(
        opened, batch_size=4, crop=32, scale=4, seed=1, flips=True, rotations=True
    )
    return [next(stream) for _ in range(count)]


def test_a_folder_in_a_bucket_gives_the_batches_of_a_local_one(photographs, tmp_path):
    folder, remote = photographs
    expected = sources.open_source(f"folder:{folder}", minimum_size=32)
    opened = sources.open_source(
        f"folder:{remote}", minimum_size=32, file_cache=tmp_path / "cache"
    )
    assert opened.labels == expected.labels
    assert "sub/large.jpg" in opened.labels
    assert opened.fingerprint == expected.fingerprint
    for ours, theirs in zip(batches(opened), batches(expected), strict=True):
        for name in ("lr", "hr"):
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_an_unchanged_folder_is_only_listed_again(photographs, bucket, bucket_proxy):
    _, remote = photographs
    options = {"minimum_size": 32, "index_dir": bucket / "run"}
    first = sources.open_source(f"folder:{remote}", **options)
    bucket_proxy.requests.clear()
    again = sources.open_source(f"folder:{remote}", **options)
    assert again.fingerprint == first.fingerprint
    # Does the folder exist, what does it hold, and the index.
    assert len(bucket_proxy.requests) <= 3


def test_another_host_reads_the_listing_of_the_first(photographs, bucket, bucket_proxy):
    _, remote = photographs
    options = {"minimum_size": 32, "index_dir": bucket / "run"}
    first = sources.open_source(f"folder:{remote}", **options)
    (remote / "new.png").write_bytes((remote / "1.png").read_bytes())
    bucket_proxy.requests.clear()
    other = sources.open_source(f"folder:{remote}", **options, relist=False)
    assert len(bucket_proxy.requests) == 1  # the index
    assert other.labels == first.labels
    assert other.fingerprint == first.fingerprint
    np.testing.assert_array_equal(other.image(2), first.image(2))


def test_another_host_that_sees_no_listing_is_refused(photographs, tmp_path):
    _, remote = photographs
    options = {"minimum_size": 32, "index_dir": tmp_path, "relist": False}
    with pytest.raises(source.SourceError, match="choose a --workdir that all hosts"):
        sources.open_source(f"folder:{remote}", **options)


def test_an_image_is_fetched_once_if_it_fits(photographs, tmp_path, bucket_proxy):
    _, remote = photographs
    paths = remote.files()[1:3]  # after .hidden.png
    for name, expected in (("warm", 2), ("cold", 2), ("full", 4)):
        directory = tmp_path / "cache" / ("full" if name == "full" else "kept")
        cache = file_cache.FileCache(directory, paths)
        if name == "full":
            cache._room = 0
        bucket_proxy.requests.clear()
        for path in 2 * paths:
            assert cache.read(path) == decode.read_bytes(path)
        fetched = len(bucket_proxy.requests) - 4  # those of read_bytes
        assert fetched == (0 if name == "cold" else expected), name


def test_a_cut_off_file_in_the_cache_is_fetched_again(photographs, tmp_path):
    _, remote = photographs
    path = remote.files()[1]
    cache = file_cache.FileCache(tmp_path / "cache/a", [path])
    whole = cache.read(path)
    (kept,) = (tmp_path / "cache/a").iterdir()
    kept.write_bytes(whole[:10])
    assert cache.read(path) == whole
    assert kept.read_bytes() == whole


def test_the_files_of_other_sources_make_room(photographs, tmp_path, monkeypatch):
    _, remote = photographs
    for name in ("old", "older"):
        (tmp_path / name).mkdir()
    usage = shutil._ntuple_diskusage(100, 100, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    cache = file_cache.FileCache(tmp_path / "new", remote.files())
    assert [path.name for path in tmp_path.iterdir() if path.name != "photographs"] == [
        "new"
    ]
    assert cache.read(remote.files()[1])
    assert list((tmp_path / "new").iterdir()) == []  # no room, and no error


def kept_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Returns a function that sets the size of the disk with the folder `cache`."""
    folder = tmp_path / "cache"

    def resize(size):
        monkeypatch.setattr(
            shutil,
            "disk_usage",
            lambda _: shutil._ntuple_diskusage(size, 0, size - kept_bytes(folder)),
        )
        return folder

    return resize


def test_the_cache_never_takes_more_than_half_of_the_disk(tmp_path, bucket, small_disk):
    upload(tiny.photographs(tmp_path / "hr"), bucket)
    files = bucket.files()
    size = sum(path.stamp[1] for path in files)
    folder = small_disk(size)
    for _ in range(2):  # starts
        cache = file_cache.FileCache(folder / "a", files)
        for path in files:
            cache.read(path)
        assert size / 3 < kept_bytes(folder) <= size / 2


def test_the_folders_of_pairs_share_one_cache(
    tmp_path, bucket, bucket_proxy, small_disk
):
    for name, side in (("hr", 32), ("lr", 16)):
        upload(tiny.photographs(tmp_path / name, side=side), bucket / name)
    size = sum(path.stamp[1] for path in bucket.files())
    folder = small_disk(size)
    opened = sources.open_source(
        f"pairs:{bucket}/hr,{bucket}/lr", minimum_size=16, scale=2, file_cache=folder
    )
    for i in range(len(opened)):
        assert opened.lr.image(i).shape == (16, 16, 3)
        assert opened.image(i).shape == (32, 32, 3)
    assert size / 3 < kept_bytes(folder) <= size / 2
    bucket_proxy.requests.clear()
    opened.lr.image(0)
    assert bucket_proxy.requests == []


def test_outdated_and_unfinished_files_of_the_cache_are_deleted(photographs, tmp_path):
    _, remote = photographs
    path, folder = remote / "1.png", tmp_path / "cache/a"
    for data in (b"first", b"second"):
        path.write_bytes(data)
        (listed,) = (file for file in remote.files() if file == path)
        assert file_cache.FileCache(folder, [listed]).read(listed) == data
    (folder / ".0123.part").write_bytes(b"killed")
    (kept,) = (p for p in folder.iterdir() if p.read_bytes() == b"second")
    file_cache.FileCache(folder, [listed])
    assert list(folder.iterdir()) == [kept]


def test_an_image_that_vanishes_is_named(photographs, monkeypatch):
    monkeypatch.setattr(source, "RETRY_SECONDS", (0.01,))
    _, remote = photographs
    opened = sources.open_source(f"folder:{remote}", minimum_size=32)
    (remote / "1.png").unlink()
    with pytest.raises(source.UnreadableError) as caught:
        opened.image(opened.labels.index("1.png"))
    assert str(caught.value) == (
        f"{remote}/1.png: No such file or directory; restore the file and run the same "
        "command again"
    )


def test_images_of_a_bucket_that_does_not_answer_end_the_run(
    photographs, monkeypatch, bucket_proxy
):
    """The client has tried again for a while already."""
    monkeypatch.setattr(bucket_client, "RETRY_SECONDS", 1.0)
    _, remote = photographs
    opened = sources.open_source(f"folder:{remote}", minimum_size=32)
    bucket_proxy.plan("", 503, times=None)
    with pytest.raises(source.UnreadableError) as caught:
        opened.image(0)
    assert str(caught.value) == (
        f"{remote}/0.png: the bucket did not answer in 1 s (status 503); run the same "
        "command again once it does"
    )


def test_a_damaged_image_is_left_out(photographs, caplog):
    _, remote = photographs
    (remote / "2.png").write_bytes(b"\x89PNG damaged")
    with caplog.at_level(logging.WARNING):
        opened = sources.open_source(f"folder:{remote}", minimum_size=32)
    assert "2.png" not in opened.labels
    assert "2.png: " in caplog.text


def test_a_missing_folder_is_named(bucket):
    with pytest.raises(source.SourceError, match=f"there is no folder '{bucket}'"):
        sources.open_source(f"folder:{bucket}", minimum_size=32)


def test_pairs_in_a_bucket_are_read(tmp_path, bucket):
    for name, side in (("hr", 32), ("lr", 8)):
        tiny.photographs(tmp_path / name, count=2, side=side)
        upload(tmp_path / name, bucket / name)
    spec = f"pairs:{bucket}/hr,{bucket}/lr"
    local = f"pairs:{tmp_path}/hr,{tmp_path}/lr"
    for ours, theirs in zip(
        evaluation_pairs(spec, scale=4), evaluation_pairs(local, scale=4), strict=True
    ):
        assert ours.name == theirs.name
        np.testing.assert_array_equal(ours.lr, theirs.lr)
        np.testing.assert_array_equal(ours.hr, theirs.hr)
    opened = sources.open_source(spec, minimum_size=16, scale=4, file_cache=tmp_path)
    np.testing.assert_array_equal(opened.lr.image(1), ours.lr)


def test_data_sets_of_an_evaluation_may_be_in_a_bucket(tmp_path, bucket):
    upload(tiny.photographs(tmp_path / "Set2", count=2), bucket / "Set2/HR")
    (opened,) = datasets.open_datasets([f"{bucket}/Set2/HR"])
    assert opened.name == "Set2"
    assert [str(image.hr) for image in opened.images] == [
        f"{bucket}/Set2/HR/0.png",
        f"{bucket}/Set2/HR/1.png",
    ]


@pytest.fixture
def generator(bucket):
    recipe = tiny.recipe()
    variables = tiny.initialise(recipe.generator, 8)
    path = bucket / "run/generator.safetensors"
    settings = tiny.settings_of(recipe.generator)
    store.save_generator(path, settings, variables, blend=["a", "b"], alpha=0.5)
    return path, settings, variables


def test_weights_are_written_and_read(generator):
    path, settings, variables = generator
    loaded_settings, loaded = store.load_generator(str(path))
    assert loaded_settings == settings
    kernel = loaded["params"]["conv_in"]["kernel"]
    np.testing.assert_array_equal(kernel, variables["params"]["conv_in"]["kernel"])
    assert files.metadata(path)["alpha"] == 0.5
    assert rows.find_blends([str(path)]) == {str(path): rows.Blend("a", "b", 0.5)}
    assert network_files.is_readable("generator", path)


def test_weights_that_cannot_be_read_are_named(generator, bucket):
    path, _, _ = generator
    with pytest.raises(WeightsError, match=f"{bucket}/run is a folder"):
        store.load_generator(str(path.parent))
    with pytest.raises(WeightsError, match=f"is named {bucket}/other"):
        store.load_generator(f"{bucket}/other")
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=f"^{path} is not a safetensors file"):
        store.load_generator(str(path))
    assert not network_files.is_readable("generator", path)


def test_only_committed_checkpoints_count(bucket):
    for step, name in ((1, "commit_success.txt"), (2, "state/commit_success.txt")):
        (bucket / f"{step}/{name}").write_bytes(b"")
    (bucket / "1/stage/metadata").write_bytes(b'{"name": "pretrain"}')
    assert checkpoint.newest_description(bucket) == {"name": "pretrain"}
    assert checkpoint.newest_description(bucket / "none") is None


@pytest.fixture
def short_times(monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)
    monkeypatch.setattr(lock, "STALE_AFTER", 1.0)


@pytest.mark.usefixtures("short_times")
def test_a_lock_is_held_refreshed_and_released(bucket):
    with Lock(bucket, print) as held:
        generation, _, touched = (bucket / lock.NAME).status()
        time.sleep(0.5)
        held.check()
        assert (bucket / lock.NAME).status()[0] != generation
        assert (bucket / lock.NAME).status()[2] > touched
    assert bucket.files() == []


@pytest.mark.usefixtures("short_times")
def test_a_lock_of_another_host_is_waited_for_and_replaced(bucket):
    (bucket / lock.NAME).write_bytes(b'{"host": "elsewhere", "pid": 1}')
    said = []
    with Lock(bucket, said.append):
        assert "elsewhere" not in (bucket / lock.NAME).read_text()
    assert f"{bucket}/lock.json is held by process 1 on elsewhere" in said[0]


@pytest.mark.usefixtures("short_times")
def test_a_second_run_is_refused_and_a_taken_lock_is_noticed(bucket, monkeypatch):
    monkeypatch.setattr(lock, "_is_running", lambda _: True)
    with Lock(bucket, print) as first:
        with pytest.raises(LockError, match=f"{bucket} is in use by process"):
            Lock(bucket, print).__enter__()
        (bucket / lock.NAME).write_bytes(json.dumps({"host": "a", "pid": 1}).encode())
        time.sleep(0.5)
        with pytest.raises(LockError, match=f"another run took {bucket}"):
            first.check()
    assert json.loads((bucket / lock.NAME).read_text())["host"] == "a"


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize("fault", ["cut", "lost", 503])
def test_a_lock_survives_faults(bucket, bucket_proxy, fault):
    bucket_proxy.plan("/upload", fault)
    with Lock(bucket, print) as held:
        bucket_proxy.plan("/upload", fault)
        time.sleep(1.5)
        held.check()
    assert len(bucket_proxy.failed) == 2


def test_a_new_lock_is_never_read_with_the_time_of_an_old_one(bucket, monkeypatch):
    """It would count as stale and be removed."""
    path = bucket / lock.NAME
    path.write_bytes(b"old")
    _, _, old = path.status()

    def then_replace(method):
        def replaced(self):
            answer = method(self)
            self.write_bytes(b"new")
            return answer

        return replaced

    for name in ("status", "read_text"):
        changed = then_replace(getattr(buckets.BucketPath, name))
        monkeypatch.setattr(buckets.BucketPath, name, changed)
    text, touched = lock._InBucket(path).read()
    assert (text, touched > old) == ("old", True)


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: checkpoint.read_description(folder, 1),
        lambda folder: scan.file_headers("", [folder / "a.png"], ["a"], folder / "i"),
        lambda folder: scan.read_listing(folder, folder / "i"),
        lambda folder: scan._write_index(folder / "i", {}),
    ],
)
def test_a_bucket_that_does_not_answer_is_not_taken_for_a_missing_file(
    bucket, bucket_proxy, monkeypatch, read
):
    monkeypatch.setattr(bucket_client, "RETRY_SECONDS", 0.5)
    bucket_proxy.plan("", 503, times=None)
    with pytest.raises(bucket_client.BucketError, match="did not answer"):
        read(bucket)


def test_checkpoints_that_cannot_be_listed_are_named(bucket, bucket_proxy):
    bucket_proxy.plan("", 403, times=None)
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.Checkpoints(bucket / "checkpoints", keep=1, fingerprint="")
    assert str(caught.value).startswith(f"the checkpoints in {bucket}/checkpoints cann")
    assert str(caught.value).endswith("; solve this and run the same command again")
    assert "\n" not in str(caught.value)


@pytest.fixture
def tfds(bucket, monkeypatch):
    """Returns TFDS with its TFDS_DATA_DIR in the bucket."""
    monkeypatch.setenv("TFDS_DATA_DIR", f"{bucket}/tfds")
    import_tensorflow()  # before TFDS, which would import it with accelerators
    import tensorflow_datasets as tfds

    # TFDS reads the environment only once, when it is imported.
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", f"{bucket}/tfds")
    return tfds


@pytest.fixture
def dataset(tfds):
    """Defines a TFDS dataset and returns its images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)

    class InBucket(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(encoding_format="png")}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((i, {"image": image}) for i, image in enumerate(images))

    return images


def test_a_tfds_dataset_is_prepared_in_a_bucket_and_read(dataset, bucket, bucket_proxy):
    done = CliRunner().invoke(cli_data.app, ["prepare", "tfds:in_bucket"])
    assert done.exit_code == 0, done.output
    assert [path.name for path in (bucket / "tfds").files()] == [
        "dataset_info.json",
        "features.json",
        "in_bucket-train.array_record-00000-of-00001",
    ]
    bucket_proxy.requests.clear()
    opened = sources.open_source("tfds:in_bucket", minimum_size=32)
    ours = {opened.image(i).tobytes() for i in range(len(opened))}
    assert ours == {image.tobytes() for image in dataset}
    assert any("array_record" in request for request in bucket_proxy.requests)


@pytest.mark.usefixtures("tfds")
@pytest.mark.parametrize("status", [400, 403])
def test_a_tfds_directory_that_cannot_be_used_is_named(status, bucket_proxy):
    bucket_proxy.plan("", status, times=None)
    with pytest.raises(source.SourceError) as caught:
        sources.open_source("tfds:div2k", minimum_size=32)
    assert str(caught.value).startswith("the TFDS dataset 'div2k' cannot be opened")
    assert "\n" not in str(caught.value)


def test_only_tfds_datasets_are_prepared():
    done = CliRunner().invoke(cli_data.app, ["prepare", "folder:x"])
    assert done.exit_code == 2


def test_commands_write_and_read_weights_in_a_bucket(generator, bucket):
    path, _, _ = generator
    done = CliRunner().invoke(
        cli_weights.app, ["convert", str(path), f"{bucket}/half.safetensors"]
    )
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(
        cli_weights.app, ["convert", str(path), f"{bucket}/half.safetensors"]
    )
    assert again.exit_code == 2
    shown = CliRunner().invoke(
        cli_weights.app, ["show", "--json", f"{bucket}/half.safetensors"]
    )
    assert json.loads(shown.output)["metadata"] == {"source": "generator.safetensors"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "a.png", "-o", "gs://b/out"],
        ["upscale", "gs://b/a.png", "-o", "out"],
        ["evaluate", "--data", "x", "--out", "gs://b/out"],
        ["export", "--to", "onnx", "-o", "gs://b/a.onnx"],
        ["data", "preview", "--config", "x", "-o", "gs://b/a.png"],
    ],
)
def test_commands_that_write_only_locally_refuse_a_bucket(arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    said = " ".join(done.output.replace("│", "").split())
    assert "expected a local path" in said, said
