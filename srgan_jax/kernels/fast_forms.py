"""Exact rewritings of what the networks compute, for speed: the same function of the
same parameters in another order of operations.

A TPU multiplies 128 channels by 128 channels at a time and moves rows of 128 channels,
so what has 64 or 3 channels is rearranged until it has more. A CPU gains by the last
convolution, as a TPU does, and in training by what is in strided.py, winograd.py and
narrow.py. Which form is taken is decided when a program is lowered for a platform, not
when it is traced: a program compiled for a TPU on a machine without one takes the TPU's
form.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.kernels.convolution import convolve, convolve_widely
from srgan_jax.kernels.cpu import narrow, winograd

Function = Callable[..., jax.Array]
EXACT = lax.Precision.HIGHEST  # products with zeros and ones change nothing


def by_platform(*, default: Function, **forms: Function) -> Function:
    """One function of arrays in several forms, each with its own gradient.

    Args:
      default: the form of platforms that are not named.
      forms: by platform: 'tpu', 'cpu'.
    """
    forms["default"] = default

    def gradient_of(form: Function) -> Callable:
        def pull_back(arguments: Any, cotangent: jax.Array) -> Any:
            return jax.vjp(form, *arguments)[1](cotangent)

        return pull_back

    @jax.custom_vjp
    def function(*arguments: jax.Array) -> jax.Array:
        return lax.platform_dependent(*arguments, **forms)

    def forward(*arguments: jax.Array) -> tuple[jax.Array, Any]:
        return function(*arguments), arguments

    def backward(arguments: Any, cotangent: jax.Array) -> Any:
        gradients = {name: gradient_of(form) for name, form in forms.items()}
        return lax.platform_dependent(arguments, cotangent, **gradients)

    function.defvjp(forward, backward)
    return function


def _on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    if winograd.pays(x, kernel):
        return winograd.convolve(x, kernel)
    if kernel.shape[2] <= narrow.FEW:
        return narrow.convolve_few(x, kernel)
    return convolve(x, kernel)


_differentiated = by_platform(cpu=_on_cpu, default=convolve)


def differentiated_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve(x, kernel)` where gradients are wanted, and speed rather than memory.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[size, size, c, features]`, of odd size.

    Returns:
      `[b, h, w, features]`.
    """
    return _differentiated(x, kernel)


def pair(x: jax.Array) -> jax.Array:
    """`[b, h, w, c]` to `[b, h, w / 2, 2 c]`: neighbours in a row share a position."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w // 2, 2 * c)


def unpair(x: jax.Array) -> jax.Array:
    """`[b, h, w / 2, 2 c]` to `[b, h, w, c]`."""
    b, h, w, c = x.shape
    return x.reshape(b, h, 2 * w, c // 2)


def over_pairs(channels: jax.Array) -> jax.Array:
    """A vector with a value for each channel, `[c]` to `[2 c]`, for paired images."""
    return jnp.concatenate([channels, channels])


def _paired_on_tpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Twice the multiplications, a quarter of them with zeros, in a third of the time.

    Pixel p of a pair is tap u's where pixel r of the pair Q further on lies at
    2 Q + r = p + u - size // 2.
    """
    size, _, c, features = kernel.shape
    furthest = (size // 2 + 1) // 2
    taps = 2 * (2 * furthest + 1)
    first = 2 * furthest - size // 2
    shifted = [
        jnp.pad(kernel, ((0, 0), (at, taps - at - size), (0, 0), (0, 0)))
        for at in (first, first + 1)
    ]
    wide = jnp.concatenate(shifted, axis=-1)
    return convolve(x, wide.reshape(size, taps // 2, 2 * c, 2 * features))


def _paired_plainly(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return pair(convolve(unpair(x), kernel))


def _paired_on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return pair(_on_cpu(unpair(x), kernel))


_paired = by_platform(tpu=_paired_on_tpu, cpu=_paired_on_cpu, default=_paired_plainly)


def paired_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """pair(convolution(unpair(x))) with odd kernel size and half of it as padding.

    Args:
      x: `[b, h, w / 2, 2 c]`.
      kernel: `[size, size, c, features]`.

    Returns:
      `[b, h, w / 2, 2 features]`.
    """
    return _paired(x, kernel)


def pixel_shuffle(x: jax.Array, factor: int = 2) -> jax.Array:
    """`[b, h, w, c r^2]` to `[b, r h, r w, c]`; channels as in PyTorch: (c, i, j)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // factor**2, factor, factor)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, h * factor, w * factor, c // factor**2)


def _shuffled_plainly(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve_widely(pixel_shuffle(x), kernel)


def _rearranged(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution in front of the shuffle, with half the kernel's size.

    The taps of a row go to channels of their own, since 12 channels leave most of a
    TPU's lanes idle, as 3 do of a CPU's, and are summed after they are shifted into
    place.
    """
    coarse = _coarse(kernel)
    taps, _, c, features = coarse.shape
    rows = coarse.transpose(0, 2, 1, 3).reshape(taps, 1, c, taps * features)
    wide = narrow.convolve_rows(x, rows.astype(x.dtype))
    return pixel_shuffle(_sum_shifted(wide, taps))


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
_shuffled = by_platform(tpu=_rearranged, cpu=_rearranged, default=_shuffled_plainly)


def shuffled_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """convolution(pixel_shuffle(x)) with odd kernel size and half of it as padding.

    Args:
      x: `[b, h, w, 4 c]`.
      kernel: `[size, size, c, features]`.

    Returns:
      `[b, 2 h, 2 w, features]`, float32 or wider: an image is not to be rounded to
      bfloat16.
    """
    return _shuffled(x, kernel)
