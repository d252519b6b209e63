"""Finds image files in folders, and reads their sizes and samples.

These files are refused, with an error that names the file: damaged and empty files,
files whose suffix contradicts their contents, animations, files of several pages,
images with more pixels than allowed, and variants that a format's decoder lacks.
"""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from srgan_jax import paths
from srgan_jax.buckets import BucketPath
from srgan_jax.images import exif, pillow_codecs
from srgan_jax.images.formats import BY_SUFFIX, EXPECTED, FORMATS, identify
from srgan_jax.images.image import Image, ImageError, Refusal, check_pixels, to_8_bits
from srgan_jax.paths import AnyPath

MAX_PIXELS = 2**26  # in an input, 67 million: the result at x4 takes 3 GB
PathT = TypeVar("PathT", bound=AnyPath)
_START = 32  # bytes at a file's start by which its format is identified
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
      height: the image's height in pixels.
      width: the image's width in pixels.
      jpeg: True for a JPEG of one or three components, of which a region can be decoded
        without the rest.
    """

    height: int
    width: int
    jpeg: bool


def find(folder: PathT) -> list[PathT]:
    """Lists all image files below `folder` (by suffix), sorted by name.

    Links are followed, but no folder is visited twice. Hidden files are skipped.

    Raises:
      ValueError: the folder does not exist, or holds no image.
    """
    found = [path for path in scan(folder) if path.suffix.lower() in BY_SUFFIX]
    if not found:
        raise ValueError(
            f"the folder {str(folder)!r} holds no image ({', '.join(BY_SUFFIX)})"
        )
    return found


def scan(
    folder: PathT, on_error: Callable[[OSError], object] | None = None
) -> list[PathT]:
    """Lists all files below `folder`, sorted by name; skips hidden ones.

    Links are followed, but no folder is visited twice. A folder that can be reached
    both directly and by a link is listed under its own name. A link that leads nowhere
    is listed as a file.

    Args:
      folder: the folder to begin at.
      on_error: called with the error of a folder that cannot be listed; None raises it.

    Raises:
      ValueError: the folder does not exist.
      OSError: a folder below it cannot be listed.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}")
    if isinstance(folder, BucketPath):
        hidden = re.compile(r"(^|/)\.")
        return [
            cast(PathT, path)
            for path in folder.files()
            if not hidden.search(str(path.relative_to(folder)))
        ]
    files: list[str] = []
    visited: set[tuple[int, int]] = set()
    folders = [""]
    links: list[str] = []
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(os.path.join(folder, here))
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(os.path.join(folder, here)))
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(here, entry.name)
            link = entry.is_symlink()
            # Of a link that leads in a circle, `entry.is_dir` raises an error.
            if not (os.path.isdir(entry.path) if link else entry.is_dir()):
                files.append(name)
            else:
                (links if link else folders).append(name)
        links.sort()
    return [cast(PathT, folder / name) for name in sorted(files)]


def read(path: AnyPath, max_pixels: int | None = MAX_PIXELS) -> Image:
    """Reads an image with its metadata, and turns it upright.

    Args:
      path: the file.
      max_pixels: refuse images with more pixels; None for no limit.

    Raises:
      ImageError: the file is refused (see the module's docstring); the message begins
        with its name.
    """
    data = read_bytes(path)
    try:
        _check_suffix(path, identify(data[:_START]))
    except Refusal as error:
        raise describe_error(str(path), error) from error
    return decode_upright(data, str(path), max_pixels)


def read_bytes(path: AnyPath) -> bytes:
    """Reads the bytes of a file.

    Raises:
      ImageError: the file cannot be opened or read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise describe_error(str(path), error) from error


def decode_upright(data: bytes, label: str, max_pixels: int | None) -> Image:
    """Decodes an image and turns it upright, as `read` does."""
    image = decode_image(data, label, max_pixels)
    if image.metadata.xmp:  # holds the orientation too
        xmp = re.sub(
            rb"(tiff:Orientation(?:=.|>))[2-8]", rb"\g<1>1", image.metadata.xmp
        )
        image = dataclasses.replace(
            image, metadata=dataclasses.replace(image.metadata, xmp=xmp)
        )
    if image.metadata.exif is None:
        return image
    try:
        orientation, block = exif.upright(image.metadata.exif)
    except ValueError:
        metadata = dataclasses.replace(image.metadata, exif=None)
        notes = (*image.notes, "EXIF is damaged and left out")
        return dataclasses.replace(image, metadata=metadata, notes=notes)
    return dataclasses.replace(
        image,
        pixels=_turn(image.pixels, orientation),
        alpha=None if image.alpha is None else _turn(image.alpha, orientation),
        metadata=dataclasses.replace(image.metadata, exif=block),
    )


def decode_image(data: bytes, label: str, max_pixels: int | None = None) -> Image:
    """Decodes an image as it is stored: its orientation tag is not applied.

    Raises:
      ImageError: the image is refused, as by `read`.
    """
    try:
        if not data:
            raise Refusal("not an image: the file is empty")
        return FORMATS[_known(identify(data[:_START]))].decode(data, max_pixels)
    except Exception as error:  # decoders raise exceptions of any type
        raise describe_error(label, error) from error


def check(path: Path, max_pixels: int | None = MAX_PIXELS) -> None:
    """Makes those checks of `read` that need only the file's header.

    Raises:
      ImageError: the file is refused.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
            if not start:
                raise Refusal("not an image: the file is empty")
            kind = identify(start)
            _check_suffix(path, kind)
            file.seek(0)
            width, height = FORMATS[_known(kind)].size(file)
            check_pixels(width, height, max_pixels)
    except Exception as error:  # decoders raise exceptions of any type
        raise describe_error(str(path), error) from error


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads an image as uint8 RGB `[height, width, 3]`.

    Grey becomes RGB and 16 bits are rounded to 8. Transparency, the orientation tag and
    the colour profile are ignored.

    Raises:
      ImageError: the file is missing, damaged or of an unknown format.
    """
    return to_rgb(decode_image(read_bytes(paths.parse(path)), str(path)).pixels)


def read_header(file: BinaryIO) -> Header:
    """Reads the header, and checks that the file is complete.

    The check looks for the end marker of a JPEG or PNG and decodes other formats. A
    file truncated by a broken download would otherwise stop a run hours later.

    Raises:
      Exception: the file is damaged; the type is that of the decoder's error.
    """
    kind = _known(identify(file.read(_START)))
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 64))
    if kind not in _ENDS or _ENDS[kind] not in file.read():
        file.seek(0)
        FORMATS[kind].decode(file.read(), None)
    file.seek(0)
    if kind == "JPEG":
        width, height, croppable = pillow_codecs.jpeg_header(file)
        return Header(height, width, croppable)
    width, height = FORMATS[kind].size(file)
    return Header(height, width, jpeg=False)


def decode(file: BinaryIO, label: str) -> npt.NDArray[np.uint8]:
    """Reads an open file, or `io.BytesIO`, as `read_image` does."""
    return to_rgb(decode_image(file.read(), label).pixels)


def to_rgb(pixels: np.ndarray) -> npt.NDArray[np.uint8]:
    """Converts grey or RGB of 8 or 16 bits to uint8 RGB `[height, width, 3]`."""
    pixels = to_8_bits(pixels)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def describe_error(label: str, error: Exception) -> ImageError:
    """Turns an error of a decoder or of the system into one that names the image.

    Decoders report damage by exceptions of many types, with messages that only their
    authors understand.
    """
    if isinstance(error, ImageError):
        return error
    if isinstance(error, MemoryError):
        return ImageError(f"{label}: there is not enough memory for it")
    if isinstance(error, Refusal):
        return ImageError(f"{label}: {error}")
    reason = getattr(error, "strerror", None)
    return ImageError(
        f"{label}: {reason or 'is damaged, truncated or of an unknown kind'}"
    )


def _known(kind: str | None) -> str:
    if kind is None:
        raise Refusal(f"not an image: expected one of {EXPECTED}")
    if kind not in FORMATS:
        raise Refusal(f"is {kind}; expected one of {EXPECTED}")
    return kind


def _check_suffix(path: AnyPath, kind: str | None) -> None:
    if kind in FORMATS and BY_SUFFIX.get(path.suffix.lower(), kind) != kind:
        raise Refusal(f"is {kind} in spite of its name; rename it")


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an image upright (EXIF 2.3, tag 274), unless its orientation is unknown."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
