"""Picture files: which there are in a folder, and their pixels as 8-bit RGB.

Decoding is Pillow's. Damaged files, formats that Pillow does not know and grey values
of 32 bits are refused. Orientation tags and colour profiles are left alone, since a
crop knows neither up nor ink.
"""

import glob
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

Image = npt.NDArray[np.uint8]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class ImageError(OSError):
    """A picture that cannot be read; the message begins with its name."""


class Header(NamedTuple):
    """What is known of a picture before it is decoded.

    Attributes:
        height: in pixels.
        width: in pixels.
        jpeg: whether it is a JPEG of one or three components, from which a part can be
            decoded by itself.
    """

    height: int
    width: int
    jpeg: bool


def find(folder: Path) -> list[Path]:
    """All picture files below `folder` by extension, in the order of names.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r}.")
    found = glob.glob("**/*", root_dir=folder, recursive=True)  # follows links
    names = sorted(n for n in found if n.lower().endswith(EXTENSIONS))
    if not names:
        raise ValueError(
            f"The folder {str(folder)!r} holds no picture ({', '.join(EXTENSIONS)})."
        )
    return [folder / name for name in names]


def read_image(path: str | os.PathLike[str]) -> Image:
    """The picture in a file as uint8 RGB `[height, width, 3]`; grey becomes RGB.

    Transparency is dropped, and 16 bits are rounded to 8.

    Raises:
        ImageError: the file is missing, damaged or of an unknown format.
    """
    try:
        with open(path, "rb") as file:
            return decode(file, str(path))
    except OSError as error:
        raise describe_error(str(path), error) from error


def read_header(file: BinaryIO) -> Header:
    """Size by the header alone, and whether the file has its end.

    A picture cut short by a broken download would otherwise stop a run hours later.
    """
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
    with PIL.Image.open(file) as image:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 64))
        if image.format not in ends or ends[image.format] not in file.read():
            _to_rgb(image)
        jpeg = image.format == "JPEG" and image.mode in ("L", "RGB")
        return Header(image.height, image.width, jpeg)


def decode(file: BinaryIO, label: str) -> Image:
    """The picture in an open file, or in `io.BytesIO`, as `read_image` gives it."""
    try:
        with PIL.Image.open(file) as image:
            return _to_rgb(image)
    except Exception as error:  # Pillow's plugins raise what they like
        raise describe_error(label, error) from error


def _to_rgb(image: PIL.Image.Image) -> Image:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) * 2 + 257) // 514
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("grey values of 32 bits, whose range is unknown")
    return np.asarray(image.convert("RGB"))


def describe_error(label: str, error: Exception) -> ImageError:
    """Says of an error of Pillow's or the system's which picture it was."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, PIL.UnidentifiedImageError):
        return ImageError(f"{label}: not a picture that Pillow can read")
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"{label}: {reason}")
