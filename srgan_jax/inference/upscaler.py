"""Upscaler: a generator applied to a picture.

Refuses arrays that are not uint8 or uint16 `[height, width, 3]` or `[height, width]`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.models import generator


class Upscaler:
    """Upscales pictures by `scale` with one generator.

    Attributes:
      settings: the generator's settings.
      scale: the factor in height and in width.
    """

    def __init__(self, settings: Mapping[str, Any], variables: Mapping[str, Any]):
        self.settings = dict(settings)
        network = generator.from_settings(settings)
        self.scale = network.scale
        self._variables = jax.device_put(dict(variables))

        @jax.jit
        def apply(variables: Any, lr: jax.Array) -> jax.Array:
            top = jnp.iinfo(lr.dtype).max
            sr = network.apply(variables, lr[None].astype(jnp.float32) / top)[0]
            levels = jnp.floor((sr + 1) * (top / 2) + 0.5)
            return jnp.clip(levels, 0, top).astype(lr.dtype)

        self._apply = apply

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 or uint16 `[h, w, 3]` or `[h, w]` to `[scale h, scale w, ...]`.

        Raises:
          ValueError: another type or shape.
        """
        image = np.asarray(image)
        check(image)
        grey = image.ndim == 2
        rgb = np.repeat(image[..., None], 3, axis=-1) if grey else image
        sr = np.asarray(self._apply(self._variables, rgb))
        return sr[..., 1] if grey else sr


def check(image: np.ndarray) -> None:
    """Raises a ValueError unless `image` is a picture that an Upscaler takes."""
    right_shape = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)
    if image.dtype not in (np.uint8, np.uint16) or not right_shape or not image.size:
        raise ValueError(
            f"the image is {image.dtype} {list(image.shape)}; expected uint8 or uint16 "
            "[height, width, 3] or [height, width] with at least one pixel"
        )
