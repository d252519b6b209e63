"""One-pass batch normalisation and its gradients, compared with the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import assert_same, lowered_for, normal, on

from srgan_jax.kernels.batch_norm import ONE_BLOCK, batch_normalise
from srgan_jax.kernels.dispatch import force_platform
from srgan_jax.kernels.layouts import Paired, to_array
from srgan_jax.kernels.pairs import pair


def two_passes(x, scale, bias):
    """Batch normalisation by its definition; also returns its statistics."""
    scale, bias = (v[None, None, None] for v in (scale, bias))
    mean = jnp.mean(x, axis=(0, 1, 2), keepdims=True)
    var = jnp.mean(jnp.square(x - mean), axis=(0, 1, 2), keepdims=True)
    y = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
    return y, mean.ravel(), var.ravel()


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_batch_normalisation_in_one_pass_equals_its_definition(platform):
    x = normal(4, 5, 6, 3, mean=2, deviation=3)
    arguments = x, normal(3), normal(3)
    centre = normal(3, mean=2)

    def fast(x, scale, bias):
        return batch_normalise(x, scale, bias, centre, 1e-5, None)[0]

    assert_same(on(platform, fast), lambda *a: two_passes(*a)[0], *arguments)
    with force_platform(platform):
        _, mean, var = batch_normalise(*arguments, centre, 1e-5, None)
    np.testing.assert_allclose(mean, two_passes(*arguments)[1], rtol=1e-5)
    np.testing.assert_allclose(var, two_passes(*arguments)[2], rtol=1e-5)


@pytest.mark.parametrize(("side", "parts"), [(8, True), (64, False)])
def test_a_gpu_divides_short_sums(side, parts):
    def statistics(x):
        parameters = jnp.ones(5), jnp.zeros(5), jnp.zeros(5)
        return batch_normalise(x, *parameters, 1e-5, None)[1:]

    x = normal(2, side, side, 5)
    assert side**2 * len(x) != ONE_BLOCK
    for platform in ("cpu", "cuda", "tpu"):
        text = lowered_for(platform, statistics, x).as_text()
        divides = "optimization_barrier" in text
        assert divides == (parts and platform == "cuda")


def test_batch_normalisation_of_pairs_equals_its_definition():
    arguments = normal(2, 3, 4, 5), normal(5), normal(5)

    def fast(x, *parameters):
        pairs = Paired(pair(x))
        y = batch_normalise(pairs, *parameters, jnp.zeros(5), 1e-5, None)[0]
        return to_array(y)

    assert_same(fast, lambda *a: two_passes(*a)[0], *arguments)


def test_synchronised_batch_normalisation_has_the_gradient_of_the_global_batch():
    x, scale, bias = normal(4, 2, 3, 3, 5), normal(5), normal(5)
    cotangent = normal(*x.shape)

    def local(x, cotangent):  # computes gradients inside shard_map, like a step
        def fast(*arguments):
            return batch_normalise(*arguments, jnp.zeros(5), 1e-5, "batch")[0]

        y, vjp = jax.vjp(fast, x, scale, bias)
        return y, *vjp(cotangent)

    y, x_gradient, scale_gradient, bias_gradient = jax.vmap(local, axis_name="batch")(
        x, cotangent
    )
    whole = x.reshape(8, 3, 3, 5)
    expected, vjp = jax.vjp(lambda *a: two_passes(*a)[0], whole, scale, bias)
    wanted = expected, *vjp(cotangent.reshape(whole.shape))
    got = (
        y.reshape(whole.shape),
        x_gradient.reshape(whole.shape),
        scale_gradient.sum(0),
        bias_gradient.sum(0),
    )
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_constant_channel_far_from_zero_is_normalised_to_the_bias():
    x = jnp.full((2, 4, 4, 1), 1234.5)
    one = jnp.ones(1)
    y, _, var = batch_normalise(x, one, one, jnp.zeros(1), 1e-5, None)
    assert var[0] >= 0
    assert np.isfinite(y).all()
