"""Max pooling and its gradients on every platform, compared with Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.kernels.dispatch import force_platform
from srgan_jax.kernels.layouts import Paired
from srgan_jax.kernels.pairs import pair
from srgan_jax.kernels.pooling import max_pool

RNG = np.random.default_rng(0)


def plain(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def assert_same(ours, theirs, x):
    values, vjp = jax.vjp(ours, x)
    expected, expected_vjp = jax.vjp(theirs, x)
    np.testing.assert_array_equal(values, expected)
    cotangent = RNG.normal(size=expected.shape).astype(np.float32)
    (gradient,), (expected_gradient,) = vjp(cotangent), expected_vjp(cotangent)
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (1, 5, 4, 2)])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_max_pooling_and_its_gradient_equal_flaxs(shape, platform):
    def of_pairs(x):
        return max_pool(Paired(pair(x)))

    # small integers give equal pixels, of which the first must get the gradient
    x = RNG.integers(0, 3, shape).astype(np.float32)
    with force_platform(platform):
        assert_same(max_pool, plain, x)
        if shape[2] % 2 == 0:
            assert_same(of_pairs, plain, x)


def test_max_pooling_commutes_with_relu():
    x = RNG.integers(-2, 3, (2, 6, 8, 3)).astype(np.float32)
    assert_same(lambda x: nn.relu(max_pool(x)), lambda x: plain(nn.relu(x)), x)


def test_max_pooling_propagates_nan():
    for i in range(4):
        x = jnp.zeros(4).at[i].set(jnp.nan).reshape(1, 2, 2, 1)
        assert np.isnan(max_pool(x)).all()
