"""A source of images in a fixed order, whose sizes are known before decoding."""

import dataclasses
import hashlib
import io
import logging
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from srgan_jax.bucket_client import BucketError
from srgan_jax.images import decode
from srgan_jax.images.image import ImageError

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]

# Waits between attempts to read a file: a network mount may come back within seconds.
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
PATIENCE = 60.0  # seconds


class SourceError(ValueError):
    """A source does not exist, is unavailable or has too few usable images."""


class UnreadableError(ImageError):
    """A file cannot be read even after several attempts; its content may be intact."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Images in a fixed order.

    Attributes:
      name: specification that the source was opened with.
      labels: a unique printable name for each image.
      sizes: int64 `[images, 2]`, height and width.
      jpeg: bool `[images]`, True if `load` returns a JPEG of one or three components,
        of which a region can be decoded without the rest.
      load: function from an index to the image's encoded bytes, or to its pixels if
        they are in memory.
      lr: source of the LR images in the same order, if they exist as files.
    """

    name: str
    labels: Sequence[str]
    sizes: npt.NDArray[np.int64]
    jpeg: npt.NDArray[np.bool_]
    load: Callable[[int], bytes | Image]
    lr: "Source | None" = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change if an image is added, removed, renamed, resized."""
        listing = self._listing() + (self.lr._listing() if self.lr else b"")
        return hashlib.sha256(listing).hexdigest()[:16]

    def _listing(self) -> bytes:
        return "\n".join(self.labels).encode() + self.sizes.tobytes()

    def image(self, index: int) -> Image:
        """Reads image `index` as uint8 RGB `[height, width, 3]`.

        Raises:
          UnreadableError: the file cannot be read.
          ImageError: the image cannot be decoded, or its size has changed.
        """
        loaded = self.load(index)
        if not isinstance(loaded, bytes):
            return loaded
        image = decode.decode(io.BytesIO(loaded), self.labels[index])
        height, width = self.sizes[index]
        if image.shape[:2] != (height, width):
            raise ImageError(
                f"{self.labels[index]}: has {image.shape[1]}x{image.shape[0]} pixels, "
                f"but had {width}x{height} at the start of the run; restore the file"
            )
        return image


def printable(path: str | os.PathLike[str]) -> str:
    r"""Converts a path to valid text; bytes that are not UTF-8 appear as `\xe9`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read(load: Callable[[], bytes], label: str) -> bytes:
    """Calls `load`; if that fails, tries again after each of `RETRY_SECONDS`.

    An attempt that takes longer than `PATIENCE` is the last one, since the library that
    reads has tried again itself.

    Raises:
      UnreadableError: every attempt failed; the message begins with `label`.
    """
    waits = iter(RETRY_SECONDS)
    while True:
        began = time.monotonic()
        try:
            return load()
        except BucketError as error:  # after having tried for minutes
            raise UnreadableError(str(error)) from error
        except Exception as error:  # TFDS raises exceptions of any type
            failure = f"{label}: {_reason(error)}"
            seconds = next(waits, None)
            if seconds is None or time.monotonic() - began > PATIENCE:
                raise UnreadableError(
                    f"{failure}; restore the file and run the same command again"
                ) from error
        logger.warning("%s; trying again", failure)
        time.sleep(seconds)


def _reason(error: Exception) -> str:
    known: str | None = getattr(error, "strerror", None)
    return known or f"cannot be read ({first_line(error)})"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
