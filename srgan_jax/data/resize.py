"""MATLAB's `imresize(image, scale, 'bicubic')` for 8-bit images, bit for bit.

Published super-resolution scores use LR images that MATLAB's function made. The bicubic
resizing of other libraries differs by several levels, so that scores measured with it
cannot be compared with published ones. Images that are not uint8 are refused.
"""

import math
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

Border = Literal["mirrored", "clamped"]
Scale = float | Fraction
Image = npt.NDArray[np.uint8]

_STRIPE = 512  # columns that `resize_to` holds as float64 at a time
_SUPPORT = 4  # width of Keys' cubic, in pixels of the coarser grid


def imresize(image: Image, scale: Scale, *, border: str = "mirrored") -> Image:
    """Resizes with Keys' cubic kernel, a = -0.5, antialiased, as MATLAB does.

    The first pass resizes the height, the second the width. Each pass rounds half away
    from zero and clips to 8 bits, as MATLAB does for 8-bit input.

    Args:
      image: uint8 `[height, width]` or `[height, width, channels]`.
      scale: output size over input size: `Fraction(1, 4)`, `0.25` or `4`.
      border: `mirrored` (MATLAB today, DIV2K) or `clamped` (older MATLAB: Set5, Set14,
        BSD100 and Urban100 of the SelfExSR supplementary).

    Returns:
      uint8 `[ceil(height * scale), ceil(width * scale), ...]`.

    Raises:
      ValueError: the image is empty or has another dtype or rank, the scale is not
        positive, or the border is unknown.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(
            f"imresize was given {image.dtype} {list(image.shape)}; expected a uint8 "
            "image [height, width] or [height, width, channels]"
        )
    rows = _resize_rows(image, scale, border)
    columns = _resize_rows(np.swapaxes(rows, 0, 1), scale, border)
    return np.ascontiguousarray(np.swapaxes(columns, 0, 1))


def resize_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes to a given size as `imresize` does; each side has its own scale.

    Args:
      image: uint8 or uint16 `[h, w]` or `[h, w, channels]`, not empty.
      height: height of the result.
      width: width of the result.

    Returns:
      The image's dtype, `[height, width, ...]`.
    """
    for size in (height, width):  # rows, then columns
        scale = Fraction(size, image.shape[0])
        stripes = range(0, image.shape[1], _STRIPE)
        image = np.concatenate(
            [
                _resize_rows(image[:, i : i + _STRIPE], scale, "mirrored")
                for i in stripes
            ],
            axis=1,
        )
        image = np.swapaxes(image, 0, 1)
    return np.ascontiguousarray(image)


def mod_crop(image: Image, scale: int) -> Image:
    """Keeps the top-left part whose height and width are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def resize_matrix(
    size: int, scale: Scale, *, border: str = "mirrored"
) -> npt.NDArray[np.float64]:
    """The weights of one pass of `imresize`, `[ceil(size * scale), size]`.

    The weights are dyadic fractions if the scale or its inverse is a power of two.
    """
    indices, weights = _taps(size, scale, border)
    matrix = np.zeros((len(indices), size))
    # add.at, because several taps may fall on the same pixel at the border.
    np.add.at(matrix, (np.arange(len(indices))[:, None], indices), weights)
    return matrix


def fold(
    positions: npt.NDArray[np.int64], size: int, border: str
) -> npt.NDArray[np.int64]:
    """Maps 0-based positions outside an image of `size` pixels onto pixels inside it.

    `mirrored` reflects the image with its edge pixel (3 2 1 0 | 0 1 2 3); `clamped`
    repeats the edge pixel (0 0 0 0 | 0 1 2 3).
    """
    if border == "mirrored":
        inside = positions % (2 * size)
        return np.minimum(inside, 2 * size - 1 - inside)
    if border == "clamped":
        return np.clip(positions, 0, size - 1)
    raise ValueError(f"border is {border!r}; expected 'mirrored' or 'clamped'")


def _resize_rows(image: Image, scale: Scale, border: str) -> Image:
    indices, weights = _taps(image.shape[0], scale, border)
    weights = weights.reshape(*weights.shape, *[1] * (image.ndim - 1))
    total = np.zeros((len(indices), *image.shape[1:]))
    for tap in range(indices.shape[1]):
        total += weights[:, tap] * image[indices[:, tap]]
    top = np.iinfo(image.dtype).max
    # Negative values are clipped, so rounding half up equals rounding half away from
    # zero. The small term rounds ties up where weights are inexact, as at scale 6.
    return np.floor(np.clip(total, 0, top) + (0.5 + 1e-9)).astype(image.dtype)


def _taps(
    size: int, scale: Scale, border: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The indices and weights of MATLAB's `contributions`, each `[output, taps]`."""
    if not scale > 0:
        raise ValueError(f"scale is {scale}; expected a positive number")
    stretch = max(1.0, 1 / float(scale))  # antialiasing widens the kernel
    width = _SUPPORT * stretch
    outputs = np.arange(1, math.ceil(size * scale) + 1)
    centres = outputs / float(scale) + 0.5 * (1 - 1 / float(scale))
    left = np.floor(centres - width / 2).astype(np.int64)
    positions = left[:, None] + np.arange(math.ceil(width) + 2)
    weights = _keys_cubic((centres[:, None] - positions) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    return fold(positions[:, used] - 1, size, border), weights[:, used]


def _keys_cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic kernel (Keys 1981, eq. 15, a = -0.5)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
