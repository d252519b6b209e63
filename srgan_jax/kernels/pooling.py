"""Max pooling that stores only the index of the largest pixel for its gradient.

Values and gradients equal PyTorch's. XLA computes the gradient of its own max pooling
by a scatter, which is far slower.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.kernels.dispatch import platform_dependent
from srgan_jax.kernels.layouts import Image, Paired, to_array


def max_pool(x: Image) -> jax.Array:
    """Max pooling of 2x2 pixels with stride 2.

    If pixels are equal, the first one gets the gradient, as in PyTorch.

    Args:
      x: `[b, h, w, c]`; the last row or column is dropped if their number is odd.

    Returns:
      `[b, h / 2, w / 2, c]`.
    """
    if isinstance(x, Paired):
        return _max_pool(x.array, True)
    return _max_pool(to_array(x), False)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, paired: bool) -> jax.Array:
    """`max_pool` of an array, which is `[b, h, w / 2, 2 c]` if `paired`."""
    return _max_pool_forward(x, paired)[0]


def _max_pool_forward(x: jax.Array, paired: bool) -> tuple[jax.Array, Any]:
    _, h, w, c = x.shape
    if paired:
        parts = [
            x[:, row : h // 2 * 2 : 2, :, half : half + c // 2]
            for row, half in itertools.product((0, 1), (0, c // 2))
        ]
    else:
        parts = [
            x[:, row : h // 2 * 2 : 2, column : w // 2 * 2 : 2]
            for row, column in itertools.product((0, 1), (0, 1))
        ]
    largest, *others = parts
    at = jnp.zeros(largest.shape, jnp.int8)
    for i, other in enumerate(others, start=1):
        at = jnp.where(other > largest, jnp.int8(i), at)
        largest = jnp.maximum(largest, other)
    return largest, (at, h, w)


def _max_pool_backward(paired: bool, residuals: Any, cotangent: jax.Array) -> Any:
    at, h, w = residuals
    tpu, default = (
        functools.partial(form, paired=paired, h=h, w=w)
        for form in (_spread_on_tpu, _spread)
    )
    return (platform_dependent(at, cotangent, tpu=tpu, default=default),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _spread(
    at: jax.Array, cotangent: jax.Array, paired: bool, h: int, w: int
) -> jax.Array:
    """Puts the cotangent at the largest of the four pixels, and zeros at the others."""
    b, rows, columns, c = at.shape
    pixel: np.ndarray = np.arange(4, dtype=np.int8).reshape(1, 1, 2, 1, 2, 1)
    if paired:
        pixel = np.repeat(pixel, c, axis=-1).reshape(1, 1, 2, 1, 2 * c)
        views = (jnp.concatenate([v, v], -1)[:, :, None] for v in (at, cotangent))
        shape = b, 2 * rows, columns, 2 * c
    else:
        views = (v[:, :, None, :, None] for v in (at, cotangent))
        shape = b, 2 * rows, 2 * columns, c
    chosen, value = views
    gradient = jnp.where(chosen == pixel, value, 0).reshape(shape)
    dropped = (0, h - gradient.shape[1]), (0, w - gradient.shape[2])
    return jnp.pad(gradient, ((0, 0), *dropped, (0, 0)))


def _spread_on_tpu(
    at: jax.Array, cotangent: jax.Array, paired: bool, h: int, w: int
) -> jax.Array:
    """`_spread` without a reshape to more axes, which would cost a TPU a copy."""
    _, rows, columns, c = at.shape
    zero, whole = jnp.zeros((), cotangent.dtype), (0, 0, 0)

    def apart(length: int, pooled: int, first: int) -> tuple[int, int, int]:
        return first, length - 2 * pooled + 1 - first, 1  # before, after, between

    def back(pixel: int) -> jax.Array:
        row, column = divmod(pixel, 2)
        across = whole if paired else apart(w, columns, column)
        channels = (column * c, (1 - column) * c, 0) if paired else whole
        part = jnp.where(at == pixel, cotangent, zero)
        return lax.pad(part, zero, [whole, apart(h, rows, row), across, channels])

    return back(0) + back(1) + back(2) + back(3)
