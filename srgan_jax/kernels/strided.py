"""3x3 convolutions of stride 2.

XLA computes the gradient at the input of such a convolution as a convolution of an
image three quarters of which are zeros. On a CPU each of the four phases, even and odd
rows and columns, is computed by itself.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.kernels.convolution import Padding, convolve
from srgan_jax.kernels.dispatch import by_platform

Phase = tuple[tuple[int, ...], Padding]  # taps of the kernel, and padding


def strided_convolution(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """A 3x3 convolution of stride 2.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[3, 3, c, features]`.
      padding: before and after, (1, 1) or (0, 1).

    Returns:
      `[b, ceil(h / 2), ceil(w / 2), features]` for (1, 1), rounded down for (0, 1).

    Raises:
      ValueError: the kernel has another size, or the padding is another.
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


def _plainly(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return convolve(x, kernel, (2, 2), [padding, padding])


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
    (kernel_gradient,) = jax.vjp(plainly, kernel)[1](cotangent)
    # Pixel 2 i + p is seen by output o through tap u = 2 (i - o) + p + before.
    middle: Phase = (1,), (0, 0)
    outer: Phase = (2, 0), ((0, 1) if padding[0] else (1, 0))
    phases = (middle, outer) if padding[0] else (outer, middle)

    def phase(rows: Phase, columns: Phase) -> jax.Array:
        taps = kernel[np.ix_(rows[0], columns[0])].swapaxes(2, 3)
        return convolve(cotangent, taps, padding=[rows[1], columns[1]])

    x_gradient = jnp.stack(
        [jnp.stack([phase(p, q) for q in phases], axis=3) for p in phases], axis=2
    )
    return x_gradient.reshape(x.shape), kernel_gradient


_by_phases.defvjp(_forward, _backward)
