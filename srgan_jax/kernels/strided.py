"""3x3 convolutions of stride 2.

XLA computes the input gradient of such a convolution by convolving an image of which
three quarters are zeros. On a CPU the gradient of each phase (even or odd rows, even or
odd columns) is instead computed by a convolution of its own.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.kernels.convolution import Padding, convolve
from srgan_jax.kernels.dispatch import by_platform

Phase = tuple[tuple[int, ...], Padding]  # taps of the kernel, padding


def strided_convolution(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """A 3x3 convolution of stride 2.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[3, 3, c, features]`.
      padding: (before, after), either (1, 1) or (0, 1).

    Returns:
      `[b, ceil(h / 2), ceil(w / 2), features]` for (1, 1), rounded down for (0, 1).

    Raises:
      ValueError: the kernel is not 3x3, or the padding is neither of these.
    """
    if kernel.shape[:2] != (3, 3) or padding not in ((1, 1), (0, 1)):
        raise ValueError(
            f"the kernel is {kernel.shape[:2]} with padding {padding} at stride 2; "
            "expected (3, 3) with padding (1, 1) or (0, 1)"
        )
    forms: dict[str, Callable] = {
        "default": functools.partial(_default, padding=padding)
    }
    if x.shape[1] % 2 == x.shape[2] % 2 == 0:
        forms["cpu"] = functools.partial(_by_phases, padding=padding)
    return by_platform(**forms)(x, kernel)


def _default(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return convolve(x, kernel, (2, 2), [padding, padding])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_phases(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return _default(x, kernel, padding)


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _default(x, kernel, padding), (x, kernel)


def _backward(
    padding: Padding, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    convolve_x = functools.partial(_default, x, padding=padding)
    (kernel_gradient,) = jax.vjp(convolve_x, kernel)[1](cotangent)
    # Output o reads input pixel 2 i + p through tap u = 2 (i - o) + p + before.
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
