"""Conversions to the ranges of pixel values that networks expect.

Outside the networks, LR is RGB in [0, 1], and HR and SR are RGB in [-1, 1] (sec. 3.2).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from srgan_jax.choices import one_of
from srgan_jax.kernels import layouts
from srgan_jax.kernels.layouts import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def unit(x: jax.Array) -> jax.Array:
    """Keeps [0, 1]."""
    return x


def symmetric(x: jax.Array) -> jax.Array:
    """Maps [0, 1] to [-1, 1]."""
    return 2.0 * x - 1.0


def byte(x: jax.Array) -> jax.Array:
    """Maps [0, 1] to [0, 255]."""
    return 255.0 * x


def imagenet(x: jax.Array) -> jax.Array:
    """Standardises [0, 1] by ImageNet's mean and deviation, as torchvision does."""
    return (x - jnp.array([[[IMAGENET_MEAN]]])) / jnp.array([[[IMAGENET_STD]]])


def caffe(x: jax.Array) -> jax.Array:
    """Maps RGB in [0, 1] to BGR in [0, 255] and subtracts ImageNet's mean."""
    return 255.0 * x[..., ::-1] - jnp.array([[[CAFFE_MEAN_BGR]]])


RANGES: dict[str, Callable[[jax.Array], jax.Array]] = {
    function.__name__: function for function in (unit, symmetric, byte, imagenet, caffe)
}


def from_unit(images: Image, input_range: str) -> Image:
    """Maps RGB in [0, 1] to a network's input range, one of `RANGES`."""
    one_of("input_range", input_range, tuple(RANGES))
    return layouts.elementwise(RANGES[input_range], images)


def from_symmetric(images: jax.Array, input_range: str) -> Image:
    """Maps RGB in [-1, 1] to a network's input range, one of `RANGES`."""
    if input_range == "symmetric":  # avoids the rounding of two conversions
        return images
    return from_unit(0.5 * images + 0.5, input_range)
