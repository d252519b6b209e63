"""Augments training crops by changes of exposure and by patches of smooth colour.

Dark, overexposed and smooth crops are rare in photographs. A generator that never sees
them in training shifts flat colours, above all at the image's border, where its
convolutions read zeros. All functions are pure: their randomness comes from an
argument, the example's random word.
"""

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

WORDS = 2**32  # random words are integers below this


def expose(image: Image, stops: float, word: int) -> Image:
    """Multiplies sRGB values by 2^s, rounds and clips them.

    s = stops * u^3, where u is uniform in [-1, 1]. Half of all crops therefore change
    by less than an eighth of `stops`.

    Args:
      image: uint8, any shape.
      stops: largest change of exposure, in factors of two.
      word: random word, from 0 to 2^32 - 1.

    Returns:
      uint8, the shape of `image`.
    """
    u = 2 * word / (WORDS - 1) - 1
    exposed = image * np.float32(2 ** (stops * u**3)) + np.float32(0.5)
    return np.clip(exposed, 0, 255).astype(np.uint8)


def is_replaced(fraction: float, word: int) -> bool:
    """True if a graded patch replaces the crop: for a `fraction` of all words."""
    return word < fraction * WORDS


def graded_patch(side: int, word: int) -> Image:
    """A linear gradient between two similar colours, or one colour for even words.

    A third of the channels are 0 or 255, since generators shift saturated colours most.

    Args:
      side: side of the patch in pixels.
      word: random word, from 0 to 2^32 - 1.

    Returns:
      uint8 `[side, side, 3]`.
    """
    random = np.random.Generator(np.random.Philox(key=word))
    start, angle = random.uniform(-64, 319, 3), random.uniform(0, 2 * np.pi)
    change = random.uniform(-64, 64, 3) * (word % 2)
    y, x = np.mgrid[:side, :side] / side - 0.5
    along = np.cos(angle) * x + np.sin(angle) * y
    return np.clip(start + along[..., None] * change + 0.5, 0, 255).astype(np.uint8)
