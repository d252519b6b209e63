"""XLA's convolution of arrays `[b, h, w, c]` with kernels `[n, m, c, features]`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Padding = tuple[int, int]  # before and after


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int] = (1, 1),
    padding: Sequence[Padding] | None = None,
    dtype: Any = None,
) -> jax.Array:
    """XLA's own convolution.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[n, m, c, features]`.
      strides: strides of rows and columns.
      padding: padding of rows and of columns; half the kernel's size by default.
      dtype: dtype of the sums and of the result; by default that of x.
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=padding or [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=dtype,
    )


@jax.custom_vjp
def convolve_widely(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` with sums and result in float32 or wider; same gradient."""
    return convolve(x, kernel, dtype=jnp.promote_types(x.dtype, jnp.float32))


def _convolve_widely_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return convolve_widely(x, kernel), (x, kernel)


def _convolve_widely_backward(residuals: Any, cotangent: jax.Array) -> Any:
    x, kernel = residuals
    return jax.vjp(convolve, x, kernel)[1](cotangent.astype(x.dtype))


convolve_widely.defvjp(_convolve_widely_forward, _convolve_widely_backward)
