"""Converts the kinds of images that an upscaler accepts to arrays, and back.

Arrays are recognised by dtype and shape, PIL images by their mode alone.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from srgan_jax.images import colour

OVERSHOOT = 1e-3  # Floats this far outside of [0, 1] count as rounding: clipped.
_16_BITS = ("I;16", "I;16L", "I;16B")
# PIL's modes, and the mode without alpha that keeps the colours of each.
_PLAIN = {
    **{"1": "L", "L": "L", "LA": "L", "La": "L"},
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV"), "RGB"),
}


class Opened(NamedTuple):
    """An image as arrays, with a function that converts results back.

    Attributes:
      pixels: uint8, uint16 or float32 in [0, 1], `[n, h, w, 3]` RGB or `[n, h, w]`
        grey.
      alpha: same dtype as the pixels, `[n, h, w]`, or None.
      close: converts pixels and alpha to the caller's kind of image.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    close: Callable[[np.ndarray, np.ndarray | None], Any]


def open_image(image: Any) -> Opened:
    """Converts an image of any accepted kind to arrays.

    Args:
      image: see Upscaler.__call__.

    Raises:
      ValueError: the kind is not accepted, or the image has no pixels.
    """
    if isinstance(image, PIL.Image.Image):
        return _open_pil(image)
    if isinstance(image, jax.Array):
        pixels, alpha, close = _open_array(np.asarray(image))
        return Opened(pixels, alpha, lambda *planes: jnp.asarray(close(*planes)))
    return _open_array(np.asarray(image))


def _open_array(image: np.ndarray) -> Opened:
    is_float = jnp.issubdtype(image.dtype, jnp.floating)  # NumPy's ignores bfloat16
    is_grey = image.ndim == 2
    is_colour = image.ndim in (3, 4) and image.shape[-1] in (3, 4)
    known = is_float or image.dtype in (np.uint8, np.uint16)
    if not known or not (is_grey or is_colour) or not image.size:
        raise ValueError(
            f"the image is {image.dtype} {list(image.shape)}; expected uint8 or uint16 "
            "or float in [0, 1], as [height, width] (grey), [height, width, 3 or 4] "
            "(RGB or RGBA) or [n, height, width, 3 or 4] (a batch), with at least one "
            "pixel"
        )
    samples = image if image.ndim == 4 else image[None]
    if is_float:
        samples = _unit(samples.astype(np.float32))
    has_alpha = is_colour and image.shape[-1] == 4
    alpha = samples[..., 3] if has_alpha else None
    pixels = samples[..., :3] if is_colour else samples

    def close(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha[..., None]], axis=-1)
        pixels = pixels if image.ndim == 4 else pixels[0]
        return pixels.astype(image.dtype, copy=False)

    return Opened(pixels, alpha, close)


def _unit(samples: np.ndarray) -> np.ndarray:
    low, high = samples.min(), samples.max()
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # NaN is refused too
        raise ValueError(
            f"the image is float with values from {low:g} to {high:g}; expected "
            "[0, 1]: divide by the value of white, or clip"
        )
    return np.clip(samples, 0, 1)


def _open_pil(image: PIL.Image.Image) -> Opened:
    if not image.width or not image.height:
        raise ValueError(
            f"the image has {image.width}x{image.height} pixels; expected at least one"
        )
    info = {key: v for key, v in image.info.items() if key != "transparency"}
    alpha = None
    if image.mode == "CMYK":
        pixels, note = colour.from_cmyk(np.asarray(image), info.pop("icc_profile", b""))
        if note:
            warnings.warn(note, stacklevel=4)  # at the call of the upscaler
    elif image.mode in _16_BITS:
        pixels = np.asarray(image).astype(np.uint16)
    elif image.mode in _PLAIN:
        plain = _PLAIN[image.mode]
        if image.has_transparency_data:
            samples = np.asarray(image.convert(plain + "A"))
            pixels, alpha = samples[..., :-1], samples[..., -1]
            pixels = pixels[..., 0] if plain == "L" else pixels
        else:
            pixels = np.asarray(image.convert(plain))
    else:
        known = ", ".join((*_PLAIN, "CMYK", *_16_BITS))
        raise ValueError(
            f"the image is of PIL's mode {image.mode!r}; expected one of {known}: "
            "convert it first, or give an array"
        )

    def close(pixels: np.ndarray, alpha: np.ndarray | None) -> PIL.Image.Image:
        samples = pixels[0] if alpha is None else np.dstack((pixels[0], alpha[0]))
        result = PIL.Image.fromarray(np.ascontiguousarray(samples))
        result.info = info
        return result

    return Opened(pixels[None], None if alpha is None else alpha[None], close)
