"""Convolutions of stride 1 over `[b, h, w, c]` with kernels `[n, m, c, features]`."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def convolve(
    x: jax.Array, kernel: jax.Array, padding: Any = None, dtype: Any = None
) -> jax.Array:
    """Stride 1; unless given, half the kernel's size of padding and sums like x."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=padding or [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=dtype,
    )


@jax.custom_vjp
def convolve_widely(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve` with sums in float32 or wider; has the gradient of `convolve`."""
    return convolve(x, kernel, dtype=jnp.promote_types(x.dtype, jnp.float32))


def _convolve_widely_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return convolve_widely(x, kernel), (x, kernel)


def _convolve_widely_backward(arguments: Any, cotangent: jax.Array) -> Any:
    return jax.vjp(convolve, *arguments)[1](cotangent.astype(arguments[0].dtype))


convolve_widely.defvjp(_convolve_widely_forward, _convolve_widely_backward)
