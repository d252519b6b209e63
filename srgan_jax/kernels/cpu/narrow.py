"""Convolutions with few input or output channels, whose gradients are fast on a CPU.

XLA copies each position once for every tap of the kernel, then multiplies. Here each
tap is a separate product, whose few channels are then shifted into place.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from srgan_jax.kernels.convolution import convolve, convolve_widely
from srgan_jax.kernels.dispatch import platform_dependent

FEW = 4  # channels; an image has 3


@jax.custom_vjp
def convolve_few(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` for an image of few channels; only its gradient differs from XLA's.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[size, size, c, features]`, of odd size.

    Returns:
      `[b, h, w, features]`.
    """
    return convolve(x, kernel)


def _few_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return convolve(x, kernel), (x, kernel)


def _few_backward(residuals: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    (kernel_gradient,) = jax.vjp(lambda k: convolve(x, k), kernel)[1](cotangent)
    size, _, c, features = kernel.shape
    b, h, w, _ = x.shape
    flipped = kernel[::-1, ::-1].reshape(-1, features)
    products = jnp.matmul(
        flipped,
        cotangent.reshape(-1, features).T,
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    ).reshape(size, size, c, b, h, w)
    half = size // 2
    products = jnp.pad(products, 4 * [(0, 0)] + 2 * [(half, half)])
    x_gradient = sum(
        products[u, v, :, :, u : u + h, v : v + w]
        for u in range(size)
        for v in range(size)
    )
    return jnp.moveaxis(x_gradient, 0, -1).astype(x.dtype), kernel_gradient


convolve_few.defvjp(_few_forward, _few_backward)


@jax.custom_vjp
def convolve_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` with a kernel of one column, and sums in float32 or wider.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[size, 1, c, features]`, of odd size, with fewer features than c.

    Returns:
      `[b, h, w, features]`.
    """
    return convolve_widely(x, kernel)


def _rows_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return convolve_rows(x, kernel), (x, kernel)


def _rows_backward(residuals: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    cotangent = cotangent.astype(x.dtype)
    (x_gradient,) = jax.vjp(lambda x: convolve(x, kernel), x)[1](cotangent)

    def default(x: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(lambda k: convolve(x, k), kernel)[1](cotangent)[0]

    kernel_gradient = platform_dependent(
        x,
        cotangent,
        cpu=functools.partial(_gradient_of_rows, size=kernel.shape[0]),
        default=default,
    )
    return x_gradient, kernel_gradient


convolve_rows.defvjp(_rows_forward, _rows_backward)


def _gradient_of_rows(x: jax.Array, cotangent: jax.Array, size: int) -> jax.Array:
    """The gradient of the kernel, with output channels first in memory.

    Each tap's cotangent is then a contiguous slice of the padded cotangent.
    """
    b, h, w, c = x.shape
    features, half = cotangent.shape[-1], size // 2
    rows = cotangent.reshape(-1, features).T.reshape(features, b, h * w)
    rows = jnp.pad(rows, ((0, 0), (0, 0), (half * w, half * w)))
    taps = [
        lax.slice_in_dim(rows, t * w, (t + h) * w, axis=2)
        for t in reversed(range(size))
    ]
    stacked = jnp.concatenate(taps).reshape(size * features, -1)
    return (stacked @ x.reshape(-1, c)).reshape(size, 1, features, c).swapaxes(2, 3)
