"""Max pooling that remembers which pixel was the largest, not all the pixels.

The same function as PyTorch's, gradient included; XLA's own scatters the gradient, far
more slowly.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, paired: bool = False) -> jax.Array:
    """2x2 of stride 2; of equal pixels the first takes the gradient, as in PyTorch.

    Args:
      x: `[b, h, w, c]`, or if `paired` `[b, h, w / 2, 2 c]`; an odd last row or column
        is dropped.

    Returns:
      `[b, h / 2, w / 2, c]`.
    """
    return _max_pool_forward(x, paired)[0]


def _max_pool_forward(x: jax.Array, paired: bool) -> tuple[jax.Array, Any]:
    b, h, w, c = x.shape
    if paired:
        rows = x[:, : h // 2 * 2].reshape(b, h // 2, 2, w, c)
        columns = rows[..., : c // 2], rows[..., c // 2 :]
    else:
        cells = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
        columns = cells[..., 0, :], cells[..., 1, :]
    largest, *others = (column[:, :, row] for row in (0, 1) for column in columns)
    at = jnp.zeros(largest.shape, jnp.int8)
    for i, other in enumerate(others, start=1):
        at = jnp.where(other > largest, jnp.int8(i), at)
        largest = jnp.maximum(largest, other)
    return largest, (at, h, w)


def _max_pool_backward(paired: bool, residuals: Any, cotangent: jax.Array) -> Any:
    at, h, w = residuals
    b, rows, columns, c = at.shape
    pixel = np.arange(4, dtype=np.int8).reshape(2, 1, 2, 1)

    def spread(pooled: jax.Array) -> jax.Array:
        if paired:
            return jnp.concatenate([pooled, pooled], -1)[:, :, None]
        return pooled[:, :, None, :, None]

    if paired:
        pixel = np.repeat(pixel, c, axis=-1).reshape(2, 1, 2 * c)
    at_x = jnp.where(spread(at) == pixel, spread(cotangent), 0)
    if paired:
        at_x = at_x.reshape(b, 2 * rows, columns, 2 * c)
    else:
        at_x = at_x.reshape(b, 2 * rows, 2 * columns, c)
    dropped = (0, h - at_x.shape[1]), (0, w - at_x.shape[2])
    return (jnp.pad(at_x, ((0, 0), *dropped, (0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
