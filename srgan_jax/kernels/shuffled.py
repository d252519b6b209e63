"""PixelShuffle, and its fusion with the generator's last convolution.

On a GPU the channels that a PixelShuffle spreads over 2x2 pixels are ordered by pixel,
so that it moves whole rows of channels. The preceding convolution computes its channels
in this order.

The last convolution has 3 output channels, which leave most of a TPU's lanes and of a
CPU's vectors idle. It is computed before the PixelShuffle instead, by a kernel of about
half the size with four times as many output channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.kernels.convolution import convolve, convolve_widely
from srgan_jax.kernels.cpu import narrow
from srgan_jax.kernels.dispatch import by_platform

EXACT = lax.Precision.HIGHEST  # makes products with zeros and ones exact


def _by_channel(x: jax.Array) -> jax.Array:
    """PixelShuffle of channels in PyTorch's order (c, i, j)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, h * 2, w * 2, c // 4)


def _by_pixel(x: jax.Array) -> jax.Array:
    """PixelShuffle of channels in the order (i, j, c)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * 2, w * 2, c // 4)


def _channels_last(x: jax.Array) -> jax.Array:
    """Reorders the last axis from (c, i, j) to (i, j, c)."""
    *others, channels = x.shape
    return x.reshape(*others, channels // 4, 4).swapaxes(-1, -2).reshape(x.shape)


_order = by_platform(cuda=_channels_last, default=lambda x: x)
_shuffle = by_platform(cuda=_by_pixel, default=_by_channel)


def shuffle_order(x: jax.Array) -> jax.Array:
    """Reorders the last axis from PyTorch's order (c, i, j) to that of the platform."""
    return _order(x)


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """Maps `[b, h, w, 4 c]`, in the platform's order, to `[b, 2 h, 2 w, c]`."""
    return _shuffle(x)


def shuffled_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes `convolve(pixel_shuffle(x), kernel)`, fast for few output channels.

    Args:
      x: `[b, h, w, 4 c]`, in the platform's order.
      kernel: `[size, size, c, features]`, of odd size.

    Returns:
      `[b, 2 h, 2 w, features]`, float32 or wider, since bfloat16 has too few levels for
      an image.
    """
    return _by_platform(x, kernel)


def _default(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve_widely(pixel_shuffle(x), kernel)


def _before_shuffle(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves before the shuffle, with a kernel of half the size.

    12 output channels would still fill too few lanes, so the taps of a row become
    channels as well. Their results are then shifted into place and summed.
    """
    coarse = _coarse(kernel)
    taps, _, c, features = coarse.shape
    rows = coarse.transpose(0, 2, 1, 3).reshape(taps, 1, c, taps * features)
    wide = narrow.convolve_rows(x, rows.astype(x.dtype))
    return _by_channel(_sum_shifted(wide, taps))


_by_platform = by_platform(tpu=_before_shuffle, cpu=_before_shuffle, default=_default)


def _coarse(kernel: jax.Array) -> jax.Array:
    """Converts a kernel `[n, n, c, o]` to one before the shuffle, `[m, m, 4 c, 4 o]`.

    Pixels before the shuffle are coarse, those after it fine. Along each axis, fine
    output pixel p of a coarse pixel reads fine input pixel i of the coarse pixel at
    distance Q through tap u = 2 Q + i - p + n // 2.
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
    """Sums the taps of `[b, h, w, taps c]`, tap t shifted left by t - taps // 2."""
    b, h, w, c = x.shape
    half = taps // 2
    x = x.reshape(b, h, w, taps, c // taps)
    x = jnp.pad(x, ((0, 0), (0, 0), (half, half), (0, 0), (0, 0)))
    shifted = [x[:, :, t : t + w, t] for t in range(taps)]
    return functools.reduce(jnp.add, shifted)


def _sum_shifted_forward(x: jax.Array, taps: int) -> tuple[jax.Array, None]:
    return _sum_shifted(x, taps), None


def _sum_shifted_backward(taps: int, _: None, cotangent: jax.Array) -> tuple[jax.Array]:
    """Shifts copies of the cotangent back by a convolution, far faster on a TPU.

    The MXU may round the cotangent here: the next convolution would round it anyway.
    """
    c = cotangent.shape[-1]
    copies = np.eye(taps)[:, None, ::-1, None] * np.eye(c)[None, :, None, :]
    kernel = jnp.asarray(copies.reshape(1, taps, c, taps * c), cotangent.dtype)
    return (convolve(cotangent, kernel),)


_sum_shifted.defvjp(_sum_shifted_forward, _sum_shifted_backward)
