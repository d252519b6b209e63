"""Reads crops of images without decoding more than necessary.

Of a JPEG only the crop's region is decoded. Images in other formats are decoded whole
and cached in memory, up to a limit.
"""

import os
import threading

import numpy as np
import numpy.typing as npt

from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.data.resize import fold
from srgan_jax.data.source import Source
from srgan_jax.images.image import ImageError

Image = npt.NDArray[np.uint8]

# JPEG's chroma is interpolated from its neighbours: a region that is decoded alone
# equals the whole image except in the two pixels next to the region's edges.
_JPEG_MARGIN = 4


def default_cache_bytes() -> int:
    """The default size of the image cache: 8 GB, but at most half of the memory.

    8 GB hold all of DIV2K.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(8 << 30, memory // 2)


class CropReader:
    """Reads crops of a source's images, each with a margin around it.

    Where the margin extends beyond the image, it is filled as `resize` fills it there.
    Resizing a crop with its margin therefore gives the same pixels as resizing the
    whole image.

    Args:
      source: images that are at least as large as a crop.
      crop: side of a crop in pixels.
      margin: width of the margin in pixels.
      multiple: image sizes are cut to multiples of this, as in evaluation.
      border: `mirrored` or `clamped`.
      cache_bytes: memory for images that are decoded whole.
    """

    def __init__(
        self,
        source: Source,
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
        """Reads the crop whose top-left corner is given, with its margin.

        Args:
          index: index of the image in the source.
          top: first row of the crop.
          left: first column of the crop.

        Returns:
          uint8 `[crop + 2 margin, crop + 2 margin, 3]`.

        Raises:
          UnreadableError: the image's file cannot be read.
          ImageError: the image is damaged.
        """
        height, width = (int(pixels) for pixels in self._sizes[index])
        rows = fold(top + self._reach, height, self._border)
        columns = fold(left + self._reach, width, self._border)
        top, left = int(rows.min()), int(columns.min())
        part = self._part(index, top, left, int(rows.max()) + 1, int(columns.max()) + 1)
        if part.shape[:2] == (len(rows), len(columns)):
            return part  # the margin stays inside the image
        return part[rows - top][:, columns - left]

    def _part(self, index: int, top: int, left: int, bottom: int, right: int) -> Image:
        if self._source.jpeg[index]:
            return self._jpeg_part(index, top, left, bottom, right)
        return self._whole(index)[top:bottom, left:right]

    def _jpeg_part(
        self, index: int, top: int, left: int, bottom: int, right: int
    ) -> Image:
        tf = import_tensorflow()
        height, width = self._source.sizes[index]
        y, x = max(0, top - _JPEG_MARGIN), max(0, left - _JPEG_MARGIN)
        end_y = min(height, bottom + _JPEG_MARGIN)
        end_x = min(width, right + _JPEG_MARGIN)
        try:
            decoded = tf.io.decode_and_crop_jpeg(
                self._source.load(index),
                [y, x, end_y - y, end_x - x],
                channels=3,
                dct_method="INTEGER_ACCURATE",  # as Pillow decodes
            )
        except tf.errors.InvalidArgumentError as error:
            raise ImageError(
                f"{self._source.labels[index]}: is damaged or has changed since the "
                f"start of the run ({error.message})"
            ) from error
        return decoded.numpy()[top - y : bottom - y, left - x : right - x]

    def _whole(self, index: int) -> Image:
        image = self._kept.get(index)
        if image is None:
            image = self._source.image(index)
            with self._lock:
                # Nothing is ever evicted: an epoch visits every image once, so any
                # image is as useful in memory as any other.
                if index not in self._kept and image.nbytes <= self._room:
                    self._kept[index] = image
                    self._room -= image.nbytes
        return image
