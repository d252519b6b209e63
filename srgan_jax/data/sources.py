"""Where HR photographs come from: a folder, TensorFlow Datasets, scikit-image.

A source is a list of photographs in a fixed order, with their sizes known before the
first one is decoded. Files that cannot be read or are too small for a crop are named
in one warning and left out; a source of nothing is refused. TensorFlow is imported by
`tfds:` sources alone.
"""

import dataclasses
import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srgan_jax.images import decode as pictures
from srgan_jax.images.decode import ImageError, read_image

__all__ = [
    "ELSEWHERE",
    "HELD_OUT",
    "SAMPLE",
    "ImageError",
    "Source",
    "SourceError",
    "open_source",
    "read_image",
]

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]

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
            return pictures.decode(io.BytesIO(loaded), self.labels[index])
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


def _folder(spec: str, folder: Path, minimum_size: int) -> Source:
    try:
        paths = pictures.find(folder)
    except ValueError as error:
        raise SourceError(str(error)) from error

    def load(index: int) -> bytes:
        try:
            return paths[index].read_bytes()
        except OSError as error:
            raise pictures.describe_error(str(paths[index]), error) from error

    def inspect(index: int) -> pictures.Header:
        with open(paths[index], "rb") as file:
            return pictures.read_header(file)

    labels = [path.relative_to(folder).as_posix() for path in paths]
    return _select(spec, labels, load, inspect, minimum_size)


def _tfds(spec: str, name: str, split: str, minimum_size: int) -> Source:
    from srgan_jax.data import tfds

    labels, load = tfds.open_records(name, split)

    def inspect(index: int) -> pictures.Header:
        return pictures.read_header(io.BytesIO(load(index)))

    return _select(spec, labels, load, inspect, minimum_size)


def _photographs(spec: str, names: Sequence[str], minimum_size: int) -> Source:
    import skimage.data

    images = [getattr(skimage.data, name)() for name in names]
    # The stereo pair comes as left, right and disparity.
    images = [image[0] if isinstance(image, tuple) else image for image in images]

    def inspect(index: int) -> pictures.Header:
        height, width, _ = images[index].shape
        return pictures.Header(height, width, jpeg=False)

    return _select(spec, names, images.__getitem__, inspect, minimum_size)


def _select(
    spec: str,
    labels: Sequence[str],
    load: Callable[[int], bytes | Image],
    inspect: Callable[[int], pictures.Header],
    minimum_size: int,
) -> Source:
    """The photographs that can be trained on; the others are named in one warning."""

    def attempt(index: int) -> pictures.Header | ImageError:
        try:
            return inspect(index)
        except Exception as error:  # Pillow's plugins raise what they like
            return pictures.describe_error(labels[index], error)

    kept: dict[int, pictures.Header] = {}
    left_out = []
    with futures.ThreadPoolExecutor() as pool:
        for index, found in enumerate(pool.map(attempt, range(len(labels)))):
            if isinstance(found, ImageError):
                left_out.append(str(found))
            elif min(found.height, found.width) < minimum_size:
                left_out.append(f"{labels[index]}: {found.width}x{found.height} pixels")
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
        sizes=np.array(
            [(found.height, found.width) for found in kept.values()], np.int64
        ),
        jpeg=np.array([found.jpeg for found in kept.values()]),
        load=lambda i: load(indices[i]),
    )
