"""Convolutions of stride 1 that keep the image's size, for training."""

import jax

from srgan_jax.kernels.convolution import convolve
from srgan_jax.kernels.cpu import narrow, winograd
from srgan_jax.kernels.dispatch import by_platform


def convolve_on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The implementation for CPUs, which trades memory and compile time for speed."""
    if winograd.is_profitable(x, kernel):
        return winograd.convolve(x, kernel)
    if kernel.shape[2] <= narrow.FEW:
        return narrow.convolve_few(x, kernel)
    return convolve(x, kernel)


_by_platform = by_platform(cpu=convolve_on_cpu, default=convolve)


def same_size_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes `convolve(x, kernel)` by the fastest implementation of the platform.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[size, size, c, features]`, of odd size.

    Returns:
      `[b, h, w, features]`.
    """
    return _by_platform(x, kernel)
