"""PixelShuffle, and its fusion with a convolution to an image.

The last convolution of a generator has 3 features, which leave most of a TPU's lanes
and of a CPU's vectors idle. It is computed in front of the PixelShuffle instead, by a
kernel of about half the size that has four times as many features.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.kernels.convolution import convolve, convolve_widely
from srgan_jax.kernels.cpu import narrow
from srgan_jax.kernels.dispatch import by_platform

EXACT = lax.Precision.HIGHEST  # products with zeros and ones change nothing


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """`[b, h, w, 4 c]` to `[b, 2 h, 2 w, c]`; channels as in PyTorch: (c, i, j)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, h * 2, w * 2, c // 4)


def shuffled_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """convolve(pixel_shuffle(x), kernel), for few features.

    Args:
      x: `[b, h, w, 4 c]`.
      kernel: `[size, size, c, features]`, of odd size.

    Returns:
      `[b, 2 h, 2 w, features]`, float32 or wider: an image must not be rounded to
      bfloat16.
    """
    return _by_platform(x, kernel)


def _plainly(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve_widely(pixel_shuffle(x), kernel)


def _rearranged(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution in front of the shuffle, with half the kernel's size.

    The taps of a row become channels, since 12 channels still fill too few lanes, and
    are summed after they are shifted into place.
    """
    coarse = _coarse(kernel)
    taps, _, c, features = coarse.shape
    rows = coarse.transpose(0, 2, 1, 3).reshape(taps, 1, c, taps * features)
    wide = narrow.convolve_rows(x, rows.astype(x.dtype))
    return pixel_shuffle(_sum_shifted(wide, taps))


_by_platform = by_platform(tpu=_rearranged, cpu=_rearranged, default=_plainly)


def _coarse(kernel: jax.Array) -> jax.Array:
    """`[n, n, c, o]` on the fine grid to `[m, m, 4 c, 4 o]` on the coarse grid.

    Fine pixel i of coarse pixel Q is seen by fine output p through tap
    u = 2 Q + i - p + n // 2.
    """
    n, _, c, o = kernel.shape
    furthest = (n // 2 + 1) // 2
    q, i, p, u = np.ogrid[-furthest : furthest + 1, :2, :2, :n]
    place = (u == 2 * q + i - p + n // 2).astype(kernel.dtype)
    rows = jnp.einsum("Qipu,uvco->Qipvco", place, kernel, precision=EXACT)
    both = jnp.einsum("Rjrv,Qipvco->QRcijopr", place, rows, precision=EXACT)
    m = 2 * furthest + 1
    return both.reshape(m, m, 4 * c, 4 * o)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _sum_shifted(x: jax.Array, taps: int) -> jax.Array:
    """Sums tap t of `[b, h, w, taps c]`, moved t - taps // 2 to the left."""
    b, h, w, c = x.shape
    half = taps // 2
    x = x.reshape(b, h, w, taps, c // taps)
    x = jnp.pad(x, ((0, 0), (0, 0), (half, half), (0, 0), (0, 0)))
    shifted = [x[:, :, t : t + w, t] for t in range(taps)]
    return functools.reduce(jnp.add, shifted)


def _sum_shifted_forward(x: jax.Array, taps: int) -> tuple[jax.Array, None]:
    return _sum_shifted(x, taps), None


def _sum_shifted_backward(taps: int, _: None, cotangent: jax.Array) -> tuple[jax.Array]:
    """Copies shifted back, as a convolution: on a TPU far faster than slices.

    The MXU would round the cotangent for the convolutions it goes to in any case.
    """
    c = cotangent.shape[-1]
    copies = np.eye(taps)[:, None, ::-1, None] * np.eye(c)[None, :, None, :]
    kernel = jnp.asarray(copies.reshape(1, taps, c, taps * c), cotangent.dtype)
    return (convolve(cotangent, kernel),)


_sum_shifted.defvjp(_sum_shifted_forward, _sum_shifted_backward)
