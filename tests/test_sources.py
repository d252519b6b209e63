"""Every kind of source, and the treatment of unusable files."""

import io
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from srgan_jax.data import scan, sources
from srgan_jax.data import source as source_module
from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.data.source import SourceError
from srgan_jax.images import decode
from srgan_jax.images.decode import read_image
from srgan_jax.images.image import ImageError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def save(array: np.ndarray, path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path, **options)


def encoded(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(array).save(stream, **options)
    return stream.getvalue()


def test_a_folder_is_searched_recursively_for_every_format(tmp_path):
    names = ["a.bmp", "b/c.png", "b/d/e.tif", "f.TIFF", "g.webp", "h.jpg", "i.JPEG"]
    expected = {name: noise(20, 30, seed) for seed, name in enumerate(names)}
    for name, array in expected.items():
        options = {"lossless": True} if name.endswith("webp") else {}
        save(array, tmp_path / name, **options)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image either")
    source = sources.open_source(f"folder:{tmp_path}", minimum_size=16)
    assert list(source.labels) == names
    assert source.sizes.tolist() == [[20, 30]] * len(names)
    assert [n for n, jpeg in zip(names, source.jpeg, strict=True) if jpeg] == names[-2:]
    for index, name in enumerate(names):
        image = source.image(index)
        assert image.dtype == np.uint8
        if source.jpeg[index]:
            assert image.shape == (20, 30, 3)
        else:
            np.testing.assert_array_equal(image, expected[name])


def test_the_order_does_not_depend_on_the_file_system(tmp_path):
    names = ["b.png", "a.png", "sub/a.png", "B.png"]
    for name in names:
        save(noise(8, 8), tmp_path / name)
    source = sources.open_source(f"folder:{tmp_path}", minimum_size=1)
    assert list(source.labels) == sorted(names)


def test_unusable_files_are_named_once_and_left_out(tmp_path, caplog):
    save(noise(40, 40), tmp_path / "good.png")
    save(noise(40, 15), tmp_path / "narrow.png")
    save(noise(16, 40), tmp_path / "just.png")
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, options in {
        "cut.jpg": {"format": "JPEG"},
        "cut.png": {"format": "PNG"},
        "cut.bmp": {"format": "BMP"},
        "cut.webp": {"format": "WEBP"},
    }.items():
        whole = encoded(noise(40, 40), **options)
        (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with caplog.at_level(logging.WARNING):
        source = sources.open_source(f"folder:{tmp_path}", minimum_size=16)
    assert list(source.labels) == ["good.png", "just.png"]
    (record,) = caplog.records
    message = record.getMessage()
    for name in ("narrow.png", "text.jpg", "empty.png", "cut.jpg", "cut.png"):
        assert message.count(name) == 1
    assert "left out 7 of 9" in message
    assert "15x40 pixels" in message


def test_a_jpeg_with_bytes_after_its_end_is_usable(tmp_path):
    whole = encoded(noise(40, 40), format="JPEG")
    (tmp_path / "a.jpg").write_bytes(whole + bytes(500))
    assert len(sources.open_source(f"folder:{tmp_path}", minimum_size=16)) == 1


def test_a_source_without_usable_images_is_refused(tmp_path, caplog):
    with pytest.raises(SourceError, match="no folder"):
        sources.open_source(f"folder:{tmp_path / 'absent'}", minimum_size=8)
    with pytest.raises(SourceError, match="holds no image"):
        sources.open_source(f"folder:{tmp_path}", minimum_size=8)
    save(noise(7, 9), tmp_path / "small.png")
    with pytest.raises(SourceError, match="8x8 pixels among its 1;"):
        sources.open_source(f"folder:{tmp_path}", minimum_size=8)


@pytest.mark.parametrize(
    "spec", ["", "images", "folder:", "tfds:", "pairs:", "samples"]
)
def test_an_unknown_specification_is_refused(spec):
    with pytest.raises(SourceError, match="expected 'folder:PATH'"):
        sources.open_source(spec, minimum_size=8)


def test_sample_holds_scikit_images_images_except_the_astronaut():
    source = sources.open_source("sample", minimum_size=96)
    sizes = dict(zip(source.labels, source.sizes.tolist(), strict=True))
    assert sizes == {
        "chelsea": [300, 451],
        "coffee": [400, 600],
        "rocket": [427, 640],
        "hubble_deep_field": [872, 1000],
        "immunohistochemistry": [512, 512],
        "retina": [1411, 1411],
        "stereo_motorcycle": [500, 741],
    }
    for index, (height, width) in enumerate(source.sizes):
        image = source.image(index)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
    held_out = sources.open_source("astronaut", minimum_size=96)
    assert held_out.image(0).shape == (512, 512, 3)


def test_the_fingerprint_depends_on_names_and_sizes(tmp_path):
    def fingerprint():
        return sources.open_source(f"folder:{tmp_path}", minimum_size=8).fingerprint

    save(noise(20, 30), tmp_path / "a.png")
    first = fingerprint()
    assert fingerprint() == first
    save(noise(30, 20), tmp_path / "a.png")
    resized = fingerprint()
    save(noise(30, 20), tmp_path / "b.png")
    assert len({first, resized, fingerprint()}) == 3


def test_a_deleted_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "RETRY_SECONDS", (0.01,))
    save(noise(20, 30), tmp_path / "gone.png")
    source = sources.open_source(f"folder:{tmp_path}", minimum_size=8)
    (tmp_path / "gone.png").unlink()
    with pytest.raises(ImageError, match=r"gone\.png: No such file"):
        source.image(0)


@pytest.mark.parametrize(("patience", "attempts"), [(60, 3), (-1, 1)])
def test_a_record_that_cannot_be_read_is_named_with_the_reason(
    monkeypatch, patience, attempts
):
    """An attempt that took long is not repeated."""
    monkeypatch.setattr(source_module, "RETRY_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(source_module, "PATIENCE", patience)
    calls = []

    def load():
        calls.append(1)
        raise RuntimeError("no access\nto the bucket")

    with pytest.raises(source_module.UnreadableError) as caught:
        source_module.read(load, "images/train[3]")
    assert str(caught.value) == (
        "images/train[3]: cannot be read (no access); restore the file and run the "
        "same command again"
    )
    assert len(calls) == attempts


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_read_as_rgb(tmp_path, mode):
    grey = np.linspace(0, 255, 20 * 30).reshape(20, 30).astype(np.uint8)
    if mode == "I;16":
        image = PIL.Image.fromarray(grey.astype(np.uint16) * 257)
        assert image.mode == mode
    else:
        image = PIL.Image.fromarray(grey).convert("RGB").convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    read = read_image(path)
    assert read.shape == (20, 30, 3)
    assert read.dtype == np.uint8
    if mode not in ("1", "P"):  # Pillow dithers these
        np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, -1))


def test_sixteen_bits_are_rounded(tmp_path):
    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")[0, :, 0]
    np.testing.assert_array_equal(read, [0, 0, 1, 1, 254, 255, 255])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.png", None, r"absent\.png: No such file"),
        ("text.png", b"no image", r"text\.png: not an image"),
        ("empty.jpg", b"", r"empty\.jpg: not an image"),
        ("cut.png", encoded(noise(40, 40), format="PNG")[:2000], r"cut\.png: "),
        ("cut.jpg", encoded(noise(40, 40), format="JPEG")[:1500], r"cut\.jpg: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=words):
        read_image(tmp_path / name)


def test_grey_values_of_unknown_range_are_refused(tmp_path):
    PIL.Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif: .*32 bits"):
        read_image(tmp_path / "a.tif")


def test_reading_images_does_not_import_tensorflow():
    code = (
        "import sys; from srgan_jax.data import evaluation_sets, pipeline, sources\n"
        "sources.open_source('astronaut', minimum_size=8)\n"
        "assert not {'tensorflow', 'jax'} & set(sys.modules), 'imported too early'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def open_folder(path, **options):
    return sources.open_source(f"folder:{path}", minimum_size=8, **options)


def test_a_tilde_is_expanded_to_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(noise(40, 50), tmp_path / "images" / "a_HR.png")
    save(noise(10, 12), tmp_path / "images" / "a_LR.png")
    assert len(open_folder("~/images")) == 2
    paired = sources.open_source("pairs:~/images", minimum_size=8, scale=4)
    assert list(paired.labels) == ["a_HR.png"]


def test_a_name_that_is_not_utf_8_is_printable_and_its_image_is_read(tmp_path):
    save(noise(20, 30), tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"))
    source = open_folder(tmp_path)
    assert list(source.labels) == [r"caf\xe9.png"]
    assert len(source.fingerprint) == 16
    np.testing.assert_array_equal(source.image(0), noise(20, 30))


def test_the_fingerprint_equals_a_recorded_value(tmp_path):
    """Runs of earlier versions resume only if the fingerprint does not change."""
    save(noise(20, 30), tmp_path / "a.png")
    save(noise(24, 16), tmp_path / "b" / "é.png")
    assert open_folder(tmp_path).fingerprint == "131f40c936ef1dca"


@pytest.fixture
def small_scans(monkeypatch):
    """Lowers the limits, so that a few images cause an index and progress."""
    monkeypatch.setattr(scan, "LARGE", 1)
    monkeypatch.setattr(scan, "SECONDS_BETWEEN_LINES", 0)


def test_the_index_gives_the_sizes_of_unchanged_files(
    tmp_path, small_scans, monkeypatch
):
    folder, index_dir = tmp_path / "images", tmp_path / "cache" / "sizes"
    for name in ("a.png", "b.jpg", "c.png"):
        save(noise(20, 30), folder / name)
    first = open_folder(folder, index_dir=index_dir)
    save(noise(40, 30), folder / "c.png")
    save(noise(9, 9), folder / "d.png")
    read = []

    def read_header(file):
        read.append(Path(file.name).name)
        return decode.read_header(file)

    monkeypatch.setattr(scan, "decode", SimpleNamespace(read_header=read_header))
    second = open_folder(folder, index_dir=index_dir)
    assert sorted(read) == ["c.png", "d.png"]
    assert second.sizes.tolist() == [[20, 30], [20, 30], [40, 30], [9, 9]]
    assert second.jpeg.tolist() == [False, True, False, False]
    assert first.sizes.tolist() == [[20, 30]] * 3
    read.clear()
    open_folder(folder, index_dir=index_dir)
    assert not read


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"x": [1]}', b"\xff\x00", None]
)
def test_a_damaged_index_is_rebuilt(tmp_path, small_scans, content):
    folder, index_dir = tmp_path / "images", tmp_path / "sizes"
    save(noise(20, 30), folder / "a.png")
    open_folder(folder, index_dir=index_dir)
    (index,) = index_dir.iterdir()
    good = index.read_bytes()
    index.write_bytes(good[: len(good) // 2] if content is None else content)
    assert open_folder(folder, index_dir=index_dir).sizes.tolist() == [[20, 30]]
    assert index.read_bytes() == good


def test_an_index_that_cannot_be_written_causes_only_a_warning(
    tmp_path, small_scans, caplog
):
    save(noise(20, 30), tmp_path / "images" / "a.png")
    (tmp_path / "file").write_text("in the way")
    source = open_folder(tmp_path / "images", index_dir=tmp_path / "file" / "sizes")
    assert len(source) == 1
    (record,) = caplog.records
    assert "the next start reads all headers again" in record.getMessage()


def test_a_long_scan_prints_lines_to_a_pipe(tmp_path, small_scans, capsys):
    for name in ("a.png", "b.png"):
        save(noise(20, 30), tmp_path / name)
    open_folder(tmp_path)
    captured = capsys.readouterr()
    assert f"folder:{tmp_path}: read 2 of 2 headers" in captured.err.splitlines()
    assert not captured.out


def test_a_large_scan_draws_a_bar_on_a_terminal(tmp_path, small_scans, monkeypatch):
    save(noise(20, 30), tmp_path / "a.png")
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=200)
    monkeypatch.setattr(scan.console, "notes", terminal)
    open_folder(tmp_path)
    assert "reading the headers of folder:" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_a_small_scan_is_silent(tmp_path, capsys):
    save(noise(20, 30), tmp_path / "a.png")
    open_folder(tmp_path)
    assert capsys.readouterr() == ("", "")


def save_pairs(folder, hr: np.ndarray, lr: np.ndarray) -> str:
    save(hr, folder / "hr" / "a.png")
    save(lr, folder / "lr" / "ax4.png")
    return f"pairs:{folder / 'hr'},{folder / 'lr'}"


def test_pairs_of_two_folders_are_matched_and_checked(tmp_path):
    spec = save_pairs(tmp_path, noise(42, 51), noise(10, 12))
    source = sources.open_source(spec, minimum_size=16, scale=4)
    assert list(source.labels) == ["a.png"]
    assert list(source.lr.labels) == ["lr/ax4.png"]
    assert source.lr.sizes.tolist() == [[10, 12]]
    alone = sources.open_source(f"folder:{tmp_path / 'hr'}", minimum_size=16)
    assert source.fingerprint != alone.fingerprint


@pytest.mark.parametrize("size", [(10, 13), (11, 12), (21, 25), (9, 12)])
def test_pairs_with_wrong_sizes_are_refused_when_opened(tmp_path, size):
    spec = save_pairs(tmp_path, noise(42, 51), noise(*size))
    with pytest.raises(SourceError, match=r"a\.png of 51x42 .* not 4 times .*ax4\.png"):
        sources.open_source(spec, minimum_size=16, scale=4)


def test_the_pair_of_an_unreadable_file_is_left_out(tmp_path, caplog):
    spec = save_pairs(tmp_path, noise(42, 51), noise(10, 12))
    save(noise(40, 40), tmp_path / "hr" / "b.png")
    (tmp_path / "lr" / "b_LR.png").write_bytes(b"no image")
    source = sources.open_source(spec, minimum_size=16, scale=4)
    assert list(source.labels) == ["a.png"]
    assert "lr/b_LR.png: not" in caplog.text


def test_a_folder_without_pairs_is_refused(tmp_path):
    save(noise(40, 40), tmp_path / "a.png")
    with pytest.raises(SourceError, match=r"no \*_HR and \*_LR files; .*folder:PATH"):
        sources.open_source(f"pairs:{tmp_path}", minimum_size=16, scale=4)


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    import_tensorflow()  # before TFDS, which would import it with accelerators
    import tensorflow_datasets

    # TFDS reads the environment only once, when it is imported.
    constants = tensorflow_datasets.core.constants
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    return tensorflow_datasets


def test_a_prepared_dataset_is_read_in_any_order(tfds, tmp_path, caplog):
    shapes = [(50, 60), (10, 60), (70, 40), (64, 64)]

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(encoding_format="png")}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for seed, shape in enumerate(shapes):
                yield seed, {"image": noise(*shape, seed)}

    source = sources.open_source("tfds:tiny", minimum_size=32)  # also prepares it
    assert (tmp_path / "tiny").is_dir()
    assert len(source) == 3  # one of four is too small
    written = {shape: noise(*shape, seed) for seed, shape in enumerate(shapes)}
    for index, size in enumerate(source.sizes.tolist()):
        np.testing.assert_array_equal(source.image(index), written[tuple(size)])
    with pytest.raises(SourceError, match="Unknown split"):
        sources.open_source("tfds:tiny:validation", minimum_size=32)


def test_an_unknown_dataset_is_refused(tfds):
    with pytest.raises(SourceError, match="no dataset 'absent'"):
        sources.open_source("tfds:absent", minimum_size=8)


def test_a_dataset_without_images_is_refused(tfds):
    with pytest.raises(SourceError, match=r"neither .*'hr' nor 'image'"):
        sources.open_source("tfds:iris", minimum_size=8)


def test_without_a_network_the_error_immediately_names_other_sources(tfds, monkeypatch):
    def refuse(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(SourceError) as caught:
        sources.open_source("tfds:div2k", minimum_size=96)
    message = str(caught.value)
    assert "data.vision.ee.ethz.ch" in message
    assert "--config.data.source=folder:PATH" in message
    assert "--config.data.source=sample" in message
