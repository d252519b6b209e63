"""Reads one crop of a photograph, decoding as little as gives the same bits.

A JPEG crop is decoded by itself; other formats cannot be, so that those photographs
are decoded whole and kept in memory while there is room.
"""

import os
import threading

import numpy as np
import numpy.typing as npt

from srgan_jax.data import sources
from srgan_jax.data.resize import fold

Image = npt.NDArray[np.uint8]

# Chroma of a JPEG is interpolated from its neighbours: a part that is decoded by itself
# equals the whole from two pixels inside its edge on.
_JPEG_MARGIN = 4


def default_cache_bytes() -> int:
    """8 GB, which holds DIV2K, or half of the machine's memory where that is less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(8 << 30, memory // 2)


class CropReader:
    """Crops of a source's photographs, with a margin around each.

    Where the margin leaves the photograph it folds back as `resize` folds, so that
    resizing a crop with its margin gives the crop of the photograph's resizing.

    Args:
        source: of photographs at least as large as a crop.
        crop: side of a crop in pixels.
        margin: pixels on each side of it.
        multiple: photographs are cut to multiples of this, as in evaluation.
        border: `mirrored` or `clamped`.
        cache_bytes: memory for photographs that are decoded whole.
    """

    def __init__(
        self,
        source: sources.Source,
        *,
        crop: int,
        margin: int,
        multiple: int,
        border: str,
        cache_bytes: int,
    ) -> None:
        self._source = source
        self._reach = np.arange(-margin, crop + margin)
        self._sizes = source.sizes // multiple * multiple
        self._border = border
        self._kept: dict[int, Image] = {}
        self._room = cache_bytes
        self._lock = threading.Lock()

    def read(self, index: int, top: int, left: int) -> Image:
        """The crop at a corner, uint8 `[crop + 2 margin, crop + 2 margin, 3]`.

        Raises:
            sources.ImageError: the photograph has vanished or proves damaged.
        """
        height, width = (int(pixels) for pixels in self._sizes[index])
        rows = fold(top + self._reach, height, self._border)
        columns = fold(left + self._reach, width, self._border)
        top, left = int(rows.min()), int(columns.min())
        part = self._part(index, top, left, int(rows.max()) + 1, int(columns.max()) + 1)
        if part.shape[:2] == (len(rows), len(columns)):
            return part  # all of it inside
        return part[rows - top][:, columns - left]

    def _part(self, index: int, top: int, left: int, bottom: int, right: int) -> Image:
        if self._source.jpeg[index]:
            return self._jpeg_part(index, top, left, bottom, right)
        return self._whole(index)[top:bottom, left:right]

    def _jpeg_part(
        self, index: int, top: int, left: int, bottom: int, right: int
    ) -> Image:
        from srgan_jax.data.tensorflow import tf

        height, width = self._source.sizes[index]
        y, x = max(0, top - _JPEG_MARGIN), max(0, left - _JPEG_MARGIN)
        end_y = min(height, bottom + _JPEG_MARGIN)
        end_x = min(width, right + _JPEG_MARGIN)
        try:
            decoded = tf.io.decode_and_crop_jpeg(
                self._source.load(index),
                [y, x, end_y - y, end_x - x],
                channels=3,
                dct_method="INTEGER_ACCURATE",  # Pillow's
            )
        except tf.errors.InvalidArgumentError as error:
            raise sources.ImageError(
                f"{self._source.labels[index]}: damaged, or changed since the start "
                f"({error.message})"
            ) from error
        return decoded.numpy()[top - y : bottom - y, left - x : right - x]

    def _whole(self, index: int) -> Image:
        image = self._kept.get(index)
        if image is None:
            image = self._source.image(index)
            with self._lock:
                # Nothing is ever put out again: an epoch visits every photograph once,
                # so that any that stays serves as well as any other.
                if index not in self._kept and image.nbytes <= self._room:
                    self._kept[index] = image
                    self._room -= image.nbytes
        return image
