"""Convolutions of stride 2, exactly rewritten for speed: see fast_forms.

The gradient at the image of such a convolution is, plainly, a convolution of an image
three quarters of which are zeros. A CPU takes each of its four phases, even and odd
rows and columns, by itself.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.kernels.fast_forms import by_platform, unpair

Padding = tuple[int, int]
Phase = tuple[tuple[int, ...], Padding]  # taps of the kernel, and padding


def _convolve(
    x: jax.Array, kernel: jax.Array, strides: Padding, padding: list[Padding]
) -> jax.Array:
    layouts = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=layouts
    )


def _plainly(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return _convolve(x, kernel, (2, 2), [padding, padding])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_phases(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return _plainly(x, kernel, padding)


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _plainly(x, kernel, padding), (x, kernel)


def _backward(
    padding: Padding, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    plainly = functools.partial(_plainly, x, padding=padding)
    (at_kernel,) = jax.vjp(plainly, kernel)[1](cotangent)
    # Pixel 2 i + p is seen by output o through tap u = 2 (i - o) + p + before.
    middle: Phase = (1,), (0, 0)
    outer: Phase = (2, 0), ((0, 1) if padding[0] else (1, 0))
    phases = (middle, outer) if padding[0] else (outer, middle)

    def phase(rows: Phase, columns: Phase) -> jax.Array:
        taps = kernel[np.ix_(rows[0], columns[0])].swapaxes(2, 3)
        return _convolve(cotangent, taps, (1, 1), [rows[1], columns[1]])

    at_x = jnp.stack(
        [jnp.stack([phase(p, q) for q in phases], axis=3) for p in phases], axis=2
    )
    return at_x.reshape(x.shape), at_kernel


_by_phases.defvjp(_forward, _backward)


def strided_convolution(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Stride 2.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[3, 3, c, features]`.
      padding: before and after, (1, 1) or (0, 1).

    Returns:
      `[b, ceil(h / 2), ceil(w / 2), features]` for (1, 1), rounded down for (0, 1).

    Raises:
      ValueError: another size or padding.
    """
    if kernel.shape[:2] != (3, 3) or padding not in ((1, 1), (0, 1)):
        raise ValueError(
            f"a kernel of {kernel.shape[:2]} with padding {padding} at stride 2; "
            "expected (3, 3) and (1, 1) or (0, 1)"
        )
    forms: dict[str, Callable] = {
        "default": functools.partial(_plainly, padding=padding)
    }
    if x.shape[1] % 2 == x.shape[2] % 2 == 0:
        forms["cpu"] = functools.partial(_by_phases, padding=padding)
    return by_platform(**forms)(x, kernel)


def halving_convolution(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """`strided_convolution(unpair(x))`: one position of the result for each pair.

    Args:
      x: `[b, h, w / 2, 2 c]`.
      kernel: `[3, 3, c, features]`.
      padding: before and after, (1, 1) or (0, 1).

    Returns:
      `[b, ceil(h / 2), w / 2, features]`.
    """

    def on_tpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        before, _ = padding  # tap 0 is the right pixel of the pair before, or the left
        size, _, c, features = kernel.shape
        kernel = jnp.pad(kernel, ((0, 0), (before, 1 - before), (0, 0), (0, 0)))
        kernel = kernel.reshape(size, 2, 2 * c, features)
        return _convolve(x, kernel, (2, 1), [padding, (before, 1 - before)])

    def plainly(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return strided_convolution(unpair(x), kernel, padding)

    return by_platform(tpu=on_tpu, default=plainly)(x, kernel)
