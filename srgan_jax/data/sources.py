"""Where HR photographs come from: a folder, TensorFlow Datasets, scikit-image.

A source is a list of photographs in a fixed order, with their sizes known before the
first one is decoded. Files that cannot be read or are too small for a crop are named
in one warning and left out; a source of nothing is refused. TensorFlow is imported by
`tfds:` sources alone.
"""

import dataclasses
import glob
import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import PIL.Image

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SAMPLE = (
    "chelsea",
    "coffee",
    "rocket",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "stereo_motorcycle",
)
HELD_OUT = "astronaut"

ELSEWHERE = (
    "train on photographs of your own with --config.data.source=folder:PATH, or on the "
    "photographs inside scikit-image with --config.data.source=sample"
)


class SourceError(ValueError):
    """A source that does not exist, cannot be had, or holds no usable photograph."""


class ImageError(OSError):
    """A picture that cannot be read; the message begins with its name."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Photographs in a fixed order.

    Attributes:
        name: the specification it was opened with.
        labels: a name for each photograph, unique.
        sizes: int64 `[photographs, 2]`, height and width.
        jpeg: bool `[photographs]`, whether `load` gives a JPEG of one or three
            components, from which a part can be decoded by itself.
        load: the photograph's encoded bytes, or its pixels where they are at hand.
    """

    name: str
    labels: Sequence[str]
    sizes: npt.NDArray[np.int64]
    jpeg: npt.NDArray[np.bool_]
    load: Callable[[int], bytes | Image]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """Changes when a photograph is added, lost, renamed or resized."""
        listing = "\n".join(self.labels).encode() + self.sizes.tobytes()
        return hashlib.sha256(listing).hexdigest()[:16]

    def image(self, index: int) -> Image:
        """Photograph `index` as uint8 RGB `[height, width, 3]`.

        Raises:
            ImageError: its file is gone or cannot be decoded.
        """
        loaded = self.load(index)
        if isinstance(loaded, bytes):
            return _decode(io.BytesIO(loaded), self.labels[index])
        return loaded


def open_source(spec: str, *, minimum_size: int) -> Source:
    """Opens `folder:PATH`, `tfds:NAME[:SPLIT]`, `sample` or `astronaut`.

    Args:
        spec: a folder is searched recursively; TFDS prepares what is not prepared yet
            (split `train` unless named); `sample` is scikit-image's colour photographs
            without the astronaut, who is kept for evaluation.
        minimum_size: photographs with fewer pixels on a side are left out.

    Raises:
        SourceError: an unknown specification, an empty result, no way to download.
    """
    kind, _, argument = spec.partition(":")
    if spec == "sample":
        return _photographs(spec, SAMPLE, minimum_size)
    if spec == HELD_OUT:
        return _photographs(spec, (HELD_OUT,), minimum_size)
    if kind == "folder" and argument:
        return _folder(spec, Path(argument), minimum_size)
    if kind == "tfds" and argument:
        name, _, split = argument.partition(":")
        return _tfds(spec, name, split or "train", minimum_size)
    raise SourceError(
        f"{spec!r} is no source: expected 'folder:PATH', 'tfds:NAME' or 'sample'."
    )


def read_image(path: str | os.PathLike[str]) -> Image:
    """The picture in a file as uint8 RGB `[height, width, 3]`; grey becomes RGB.

    Transparency is dropped, and 16 bits are rounded to 8.

    Raises:
        ImageError: the file is missing, damaged or of an unknown format.
    """
    try:
        with open(path, "rb") as file:
            return _decode(file, str(path))
    except OSError as error:
        raise _image_error(str(path), error) from error


def image_files(folder: Path) -> list[Path]:
    """All picture files below `folder` by extension, in the order of names.

    Raises:
        SourceError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}.")
    found = glob.glob("**/*", root_dir=folder, recursive=True)  # follows links
    names = sorted(n for n in found if n.lower().endswith(EXTENSIONS))
    if not names:
        raise SourceError(
            f"The folder {str(folder)!r} holds no picture ({', '.join(EXTENSIONS)})."
        )
    return [folder / name for name in names]


def _folder(spec: str, folder: Path, minimum_size: int) -> Source:
    files = image_files(folder)

    def load(index: int) -> bytes:
        try:
            return files[index].read_bytes()
        except OSError as error:
            raise _image_error(str(files[index]), error) from error

    def inspect(index: int) -> _Found:
        with open(files[index], "rb") as file:
            return _inspect(file)

    labels = [file.relative_to(folder).as_posix() for file in files]
    return _select(spec, labels, load, inspect, minimum_size)


def _tfds(spec: str, name: str, split: str, minimum_size: int) -> Source:
    from srgan_jax.data import tfds

    labels, load = tfds.open_records(name, split)
    return _select(
        spec, labels, load, lambda i: _inspect(io.BytesIO(load(i))), minimum_size
    )


def _photographs(spec: str, names: Sequence[str], minimum_size: int) -> Source:
    import skimage.data

    images = [getattr(skimage.data, name)() for name in names]
    # The stereo pair comes as left, right and disparity.
    images = [image[0] if isinstance(image, tuple) else image for image in images]
    return _select(
        *(spec, names, images.__getitem__),
        lambda i: (*images[i].shape[:2], False),
        minimum_size,
    )


_Found = tuple[int, int, bool]  # height, width, whether it is a JPEG to decode in parts


def _select(
    spec: str,
    labels: Sequence[str],
    load: Callable[[int], bytes | Image],
    inspect: Callable[[int], _Found],
    minimum_size: int,
) -> Source:
    """The photographs that can be trained on; the others are named in one warning."""

    def attempt(index: int) -> _Found | ImageError:
        try:
            return inspect(index)
        except Exception as error:  # Pillow's plugins raise what they like
            return _image_error(labels[index], error)

    kept: dict[int, _Found] = {}
    left_out = []
    with futures.ThreadPoolExecutor() as pool:
        for index, found in enumerate(pool.map(attempt, range(len(labels)))):
            if isinstance(found, ImageError):
                left_out.append(str(found))
            elif min(found[:2]) < minimum_size:
                left_out.append(f"{labels[index]}: {found[1]}x{found[0]} pixels")
            else:
                kept[index] = found
    if left_out:
        logger.warning(
            "%s: left out %d of %d photographs, unreadable or of fewer than %d pixels "
            "on a side:\n  %s",
            *(spec, len(left_out), len(labels), minimum_size, "\n  ".join(left_out)),
        )
    if not kept:
        raise SourceError(
            f"{spec} holds no readable photograph of at least {minimum_size}x"
            f"{minimum_size} pixels (of {len(labels)} looked at)."
        )
    indices = list(kept)
    return Source(
        name=spec,
        labels=[labels[i] for i in indices],
        sizes=np.array([found[:2] for found in kept.values()], np.int64),
        jpeg=np.array([found[2] for found in kept.values()]),
        load=lambda i: load(indices[i]),
    )


def _inspect(file: BinaryIO) -> _Found:
    """Size by the header alone, and whether the file has its end.

    A picture cut short by a broken download would otherwise stop a run hours later.
    """
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
    with PIL.Image.open(file) as image:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 64))
        if image.format not in ends or ends[image.format] not in file.read():
            _to_rgb(image)
        parts = image.format == "JPEG" and image.mode in ("L", "RGB")
        return image.height, image.width, parts


def _decode(file: BinaryIO, label: str) -> Image:
    try:
        with PIL.Image.open(file) as image:
            return _to_rgb(image)
    except Exception as error:  # Pillow's plugins raise what they like
        raise _image_error(label, error) from error


def _to_rgb(image: PIL.Image.Image) -> Image:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) * 2 + 257) // 514
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("grey values of 32 bits, whose range is unknown")
    return np.asarray(image.convert("RGB"))


def _image_error(label: str, error: Exception) -> ImageError:
    if isinstance(error, ImageError):
        return error
    if isinstance(error, PIL.UnidentifiedImageError):
        return ImageError(f"{label}: not a picture that Pillow can read")
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"{label}: {reason}")
