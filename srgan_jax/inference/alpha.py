"""The alpha channel, which is upscaled without the network."""

import numpy as np
import PIL.Image
from scipy import ndimage


def fill_hidden(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replaces colours where alpha is zero by the nearest visible colour.

    Otherwise the network would mix hidden colours into the visible edges.

    Args:
      pixels: `[h, w, 3]` or `[h, w]`.
      alpha: `[h, w]`.
    """
    if not alpha.any():
        return pixels
    rows, columns = ndimage.distance_transform_edt(
        alpha == 0, return_distances=False, return_indices=True
    )
    return pixels[rows, columns]


def resize_alpha(alpha: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes alpha `[h, w]` by bicubic, in its own type and range.

    Args:
      alpha: integers, or floats in [0, 1].
      height: height of the result.
      width: width of the result.
    """
    plane = PIL.Image.fromarray(alpha.astype(np.float32))
    plane = plane.resize((width, height), PIL.Image.Resampling.BICUBIC)
    values = np.asarray(plane)
    if np.issubdtype(alpha.dtype, np.integer):
        levels = np.clip(values + 0.5, 0, np.iinfo(alpha.dtype).max)
        return levels.astype(alpha.dtype)
    return np.clip(values, 0, 1).astype(alpha.dtype)
