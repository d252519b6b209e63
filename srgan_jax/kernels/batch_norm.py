"""Batch normalisation in training, with its gradient in closed form.

Automatic differentiation of a mean and a variance gives the same result, but reads the
batch once more in the forward and in the backward pass. On a TPU this costs more time
than the convolutions in between, so that mean and variance are computed in one pass on
TPUs and GPUs; on a CPU the variance takes a second pass. No gradient flows through the
returned mean and variance.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from srgan_jax.kernels.dispatch import platform_dependent
from srgan_jax.kernels.layouts import Image, Paired, to_array

# A GPU sums up to so many positions by one block of threads for 32 channels. XLA itself
# divides longer sums among more blocks.
ONE_BLOCK = 4096

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def batch_normalise(
    x: Image,
    scale: jax.Array,
    bias: jax.Array,
    centre: jax.Array,
    epsilon: float,
    axis_name: str | None,
) -> tuple[Image, jax.Array, jax.Array]:
    """Normalises by the batch's mean and biased variance.

    Args:
      x: `[b, h, w, c]`.
      scale: `[c]`, float32 or wider.
      bias: `[c]`, in the dtype of `scale`.
      centre: `[c]`, an estimate of the mean. One pass computes the variance as
        E(x - m)^2 = E(x - centre)^2 - (m - centre)^2, which loses digits only where the
        mean lies many deviations away from `centre`.
      epsilon: added to the variance.
      axis_name: mapped axis over which statistics are synchronised, or None.

    Returns:
      The result in the dtype and layout of x, the mean `[c]` and the variance `[c]`.
    """
    arguments = scale, bias, centre, epsilon, axis_name
    if isinstance(x, Paired):
        y, mean, var = _batch_normalise(x.array, *arguments)
        return Paired(y), mean, var
    return _batch_normalise(to_array(x), *arguments)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _batch_normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    centre: jax.Array,
    epsilon: float,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`batch_normalise` of an array `[b, h, w, c]` or pairs `[b, h, w / 2, 2 c]`."""
    return _forward(x, scale, bias, centre, epsilon, axis_name)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    centre: jax.Array,
    epsilon: float,
    axis_name: str | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Residuals]:
    channels, dtype = scale.size, jnp.promote_types(x.dtype, scale.dtype)
    scale, bias, centre = (_repeat_for_pairs(v, x) for v in (scale, bias, centre))
    wide = x.astype(dtype) - _over(centre)
    offset = _mean(wide, channels, axis_name)

    def one_pass(x: jax.Array, m: jax.Array) -> jax.Array:
        square = _mean(jnp.square(x), channels, axis_name)
        return jnp.maximum(square - jnp.square(m), 0)

    var = platform_dependent(
        wide,
        offset,
        tpu=one_pass,
        cuda=one_pass,
        # elsewhere a second pass costs little and is more accurate
        default=lambda x, m: _mean(jnp.square(x - _over(m)), channels, axis_name),
    )
    deviation = lax.rsqrt(var + epsilon)
    y = (wide - _over(offset)) * _over(scale * deviation) + _over(bias)
    mean = centre + offset
    outputs = y.astype(x.dtype), mean[:channels], var[:channels]
    return outputs, (x, scale[:channels], mean, deviation)


def _backward(
    epsilon: float,
    axis_name: str | None,
    residuals: Residuals,
    cotangents: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    x, scale, mean, deviation = residuals
    channels, dtype = scale.size, jnp.promote_types(x.dtype, scale.dtype)
    y_gradient = cotangents[0].astype(dtype)
    centred = x.astype(dtype) - _over(mean)
    bias_gradient = _sum(y_gradient, channels)
    scale_gradient = _sum(y_gradient * centred, channels) * deviation
    through_mean, through_deviation = bias_gradient, scale_gradient * deviation
    if axis_name:
        both = through_mean, through_deviation
        through_mean, through_deviation = lax.pmean(both, axis_name)
    count = x.size // channels
    x_gradient = (
        y_gradient
        - _over(through_mean / count)
        - centred * _over(through_deviation / count)
    )
    x_gradient = x_gradient * _over(_repeat_for_pairs(scale, x) * deviation)
    scale_gradient, bias_gradient = scale_gradient[:channels], bias_gradient[:channels]
    return (
        x_gradient.astype(x.dtype),
        scale_gradient,
        bias_gradient,
        jnp.zeros_like(scale),
    )


_batch_normalise.defvjp(_forward, _backward)


def _repeat_for_pairs(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Returns a vector `[c]` unchanged, or as `[2 c]` if x holds pairs of pixels."""
    return jnp.concatenate([vector] * (x.shape[-1] // vector.size))


def _sum(x: jax.Array, channels: int) -> jax.Array:
    """Sums over all positions; for pairs, both halves hold the sum over both pixels."""
    if x.size // x.shape[-1] > ONE_BLOCK:
        total = _sum_of_positions(x)
    else:
        total = platform_dependent(x, cuda=_sum_in_parts, default=_sum_of_positions)
    if x.shape[-1] == channels:
        return total
    return total + jnp.concatenate([total[channels:], total[:channels]])


def _sum_of_positions(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=(0, 1, 2))


def _sum_in_parts(x: jax.Array) -> jax.Array:
    """`_sum_of_positions` by more blocks of threads: first each row, then all rows."""
    rows = jnp.sum(x, axis=2)
    # Without the barrier XLA would merge both sums again.
    return jnp.sum(lax.optimization_barrier(rows), axis=(0, 1))


def _mean(x: jax.Array, channels: int, axis_name: str | None) -> jax.Array:
    mean = _sum(x, channels) / (x.size // channels)
    return lax.pmean(mean, axis_name) if axis_name else mean


def _over(channels: jax.Array) -> jax.Array:
    """Reshapes a vector of channels `[c]` to `[1, 1, 1, c]`, to broadcast it."""
    return channels[None, None, None]
