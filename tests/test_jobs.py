"""Jobs: outputs of inputs, refused inputs, and upscaling of alpha."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from image_files import pixels

from srgan_jax.data.resize import imresize
from srgan_jax.images import decode, encode
from srgan_jax.images.image import Image
from srgan_jax.inference.jobs import Job, prepare, run, upscale
from srgan_jax.inference.sizes import Size


def double(image: np.ndarray) -> np.ndarray:
    """Stands in for an upscaler."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def test_colour_hidden_by_alpha_is_not_visible() -> None:
    """A white disc on hidden black, blurred by the upscaler, stays white."""
    y, x = np.mgrid[:32, :32]
    disc = (y - 16) ** 2 + (x - 16) ** 2 < 100
    alpha = np.where(disc, 255, 0).astype(np.uint8)
    image = Image(np.repeat(alpha[..., None], 3, axis=-1), alpha)

    def blur(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(double(image), (9, 9), 0)

    big = upscale(image, blur)
    assert big.alpha.shape == (64, 64)
    assert big.pixels[big.alpha > 0].min() == 255
    assert (big.alpha.min(), big.alpha.max()) == (0, 255)
    assert np.count_nonzero((big.alpha > 0) & (big.alpha < 255)) > 0


def test_alpha_of_16_bits_is_bicubic() -> None:
    alpha = np.linspace(1000, 60_000, 64).astype(np.uint16).reshape(8, 8)
    big = upscale(Image(np.zeros((8, 8), np.uint16), alpha), double).alpha
    assert big.dtype == np.uint16
    expected = cv2.resize(alpha, (16, 16), interpolation=cv2.INTER_CUBIC)
    assert np.abs(big.astype(int) - expected).max() < 1200  # another kernel


def test_a_fully_transparent_image_stays_transparent() -> None:
    clear = Image(pixels(4, 4, 3), np.zeros((4, 4), np.uint8))
    assert not upscale(clear, double).alpha.any()


def test_smaller_sizes_are_made_by_matlabs_bicubic() -> None:
    image = Image(pixels(16, 24, 3), pixels(16, 24) | 1)
    small = upscale(image, double, (20, 30))
    expected = imresize(double(image.pixels), Fraction(20, 32))
    assert np.array_equal(small.pixels, expected)
    assert small.pixels.shape == (20, 30, 3)
    assert small.alpha.shape == (20, 30)


def test_unsupported_formats_are_named(tmp_path: Path) -> None:
    for name in ("a.gif", "b.HEIC", "c.ppm", "sub/c.jxl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    made = prepare([str(tmp_path)], str(tmp_path / "out"))
    assert not made.jobs
    assert made.failures == [
        f"{tmp_path / 'a.gif'}: GIF cannot be read",
        f"{tmp_path / 'b.HEIC'}: HEIC cannot be read",
        f"{tmp_path / 'c.ppm'}: PNM cannot be read",
        f"{tmp_path / 'sub/c.jxl'}: JPEG XL cannot be read",
    ]


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").touch()
    listed = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry]:
        if path.endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    errors: list[OSError] = []
    assert decode.scan(tmp_path, errors.append) == [tmp_path / "a.png"]
    assert [error.filename for error in errors] == [str(tmp_path / "locked")]
    with pytest.raises(PermissionError):
        decode.scan(tmp_path)
    assert prepare([str(tmp_path)], str(tmp_path / "out")).failures[0] == (
        f"{tmp_path / 'locked'}: Permission denied"
    )


def test_a_folder_that_cannot_be_written_costs_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.png"
    encode.write(source, Image(pixels(4, 4, 3)))

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    job = Job(source, tmp_path / "out/b.png", "PNG")
    upscaler = Mock(scale=2, side_effect=AssertionError)
    (done,) = run([job], upscaler, size=Size())
    assert str(done.image) == f"{job.target}: Read-only file system"
    upscaler.assert_not_called()


def test_closed_streams_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    for inputs, out in ((["-"], "a.png"), (["a.png"], "-")):
        with pytest.raises(ValueError, match="is closed; give a file"):
            prepare(inputs, out, kind="PNG")


def test_streams_that_fail_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.png"
    encode.write(source, Image(pixels(4, 4, 3)))
    broken = Mock()
    broken.buffer.read.side_effect = OSError(errno.EISDIR, "Is a directory")
    broken.buffer.write.side_effect = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(sys, "stdin", broken)
    monkeypatch.setattr(sys, "stdout", broken)
    upscaler = Mock(scale=2, side_effect=lambda image, _: double(image))
    jobs = [Job(None, tmp_path / "b.png", "PNG"), Job(source, None, "PNG")]
    reading, writing = run(jobs, upscaler, size=Size())
    assert str(reading.image) == "standard input: Is a directory"
    assert str(writing.image) == "standard output: No space left on device"
