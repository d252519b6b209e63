"""Batch normalisation in training: one pass over the batch, gradient in closed form.

The same function as mean, then variance, then automatic differentiation, which read the
batch once more each way: on a TPU those two readings cost more than the convolutions
between them (elsewhere the variance does take its second reading). Gives no gradient of
the statistics themselves.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    centre: jax.Array,
    epsilon: float,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the batch's mean and biased variance.

    Args:
      x: `[b, h, w, c]`, or paired: `[b, h, w / 2, 2 c]`.
      scale, bias: `[c]`, float32 or wider.
      centre: `[c]`, what is near the mean. The variance is taken around it, which
        makes one pass as accurate as two: E(x - m)^2 = E(x - centre)^2 - (m - centre)^2
        loses digits only where the mean lies many deviations from it.
      epsilon: added to the variance.
      axis_name: mapped axis to take the statistics over, or None.

    Returns:
      The result in x's dtype, and mean and variance, `[c]`.
    """
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
    scale, bias, centre = (_for_each(v, x) for v in (scale, bias, centre))
    wide = x.astype(dtype) - centre
    first = _mean(wide, channels, axis_name)
    var = lax.platform_dependent(
        wide,
        first,
        tpu=lambda x, m: jnp.maximum(
            _mean(jnp.square(x), channels, axis_name) - jnp.square(m), 0
        ),
        # elsewhere a second reading costs little, and keeps the last digits
        default=lambda x, m: _mean(jnp.square(x - m), channels, axis_name),
    )
    deviation = lax.rsqrt(var + epsilon)
    y = (wide - first) * (scale * deviation) + bias
    mean = centre + first
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
    at_y = cotangents[0].astype(dtype)
    centred = x.astype(dtype) - mean
    at_bias = _sum(at_y, channels)
    at_scale = _sum(at_y * centred, channels) * deviation
    through_mean, through_deviation = at_bias, at_scale * deviation
    if axis_name:
        both = through_mean, through_deviation
        through_mean, through_deviation = lax.pmean(both, axis_name)
    count = x.size // channels
    at_x = at_y - through_mean / count - centred * (through_deviation / count)
    at_x = at_x * (_for_each(scale, x) * deviation)
    at_scale, at_bias = at_scale[:channels], at_bias[:channels]
    return at_x.astype(x.dtype), at_scale, at_bias, jnp.zeros_like(scale)


batch_normalise.defvjp(_forward, _backward)


def _for_each(vector: jax.Array, x: jax.Array) -> jax.Array:
    """`[c]` as it is, or `[2 c]` where x is paired."""
    return jnp.concatenate([vector] * (x.shape[-1] // vector.size))


def _sum(x: jax.Array, channels: int) -> jax.Array:
    """Sums over all positions; where x is paired, over both of a pair, for each."""
    total = jnp.sum(x, axis=(0, 1, 2))
    if x.shape[-1] == channels:
        return total
    return total + jnp.concatenate([total[channels:], total[:channels]])


def _mean(x: jax.Array, channels: int, axis_name: str | None) -> jax.Array:
    mean = _sum(x, channels) / (x.size // channels)
    return lax.pmean(mean, axis_name) if axis_name else mean
