"""Layers, compared with their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.kernels.layouts import to_array
from srgan_jax.models import layers, ranges
from srgan_jax.models.layers import BatchNorm, Conv, PReLU, SubPixelConv

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def sub_pixel_conv(x, features):
    """The result of SubPixelConv(features, 1), and of its convolution."""
    layer = SubPixelConv(features, 1)
    variables = layer.init(KEY, x)
    conv = Conv(features, 1).apply(variables, x)
    return layer.apply(variables, x), np.asarray(to_array(conv))


def test_a_sub_pixel_convolution_has_pytorch_s_channel_order():
    y, x = sub_pixel_conv(jax.random.normal(KEY, (2, 3, 4, 6)), 5 * 4)
    y = np.asarray(to_array(y))
    for c in range(5):
        for i in range(2):
            for j in range(2):
                np.testing.assert_array_equal(
                    y[:, i::2, j::2, c], x[..., c * 4 + i * 2 + j]
                )


@pytest.mark.parametrize("slopes", ["shared", "per_channel"])
def test_prelu_commutes_with_the_pixel_shuffle(slopes):
    shuffled, _ = sub_pixel_conv(jax.random.normal(KEY, (1, 3, 3, 6)), 8)
    count = 1 if slopes == "shared" else 2
    variables = {"params": {"slope": RNG.uniform(size=count).astype(np.float32)}}
    before = PReLU(slopes).apply(variables, shuffled)
    after = PReLU(slopes).apply(variables, to_array(shuffled))
    np.testing.assert_array_equal(to_array(before), after)


def test_prelu_starts_with_a_slope_of_a_quarter():
    y, _ = PReLU().init_with_output(KEY, jnp.array([[[[-2.0, 2.0]]]]))
    np.testing.assert_array_equal(y[0, 0, 0], [-0.5, 2.0])


def test_leaky_relu_and_its_gradients_equal_jax_s():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0])
    cotangent = jnp.array([1.0, 10.0, 100.0, 1000.0])
    slope = jnp.array([0.2])
    ours, our_vjp = jax.vjp(layers.leaky_relu, x, slope)
    theirs, their_vjp = jax.vjp(jax.nn.leaky_relu, x, slope)
    np.testing.assert_array_equal(ours, theirs)
    for a, b in zip(our_vjp(cotangent), their_vjp(cotangent), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("running_variance", ["biased", "unbiased"])
def test_batch_norm_normalises_by_the_batch_and_updates_the_running_statistics(
    running_variance,
):
    x = RNG.normal(2, 3, size=(4, 5, 6, 7)).astype(np.float32)
    norm = BatchNorm(momentum=0.9, running_variance=running_variance)
    variables = norm.init(KEY, x, False)
    y, changed = norm.apply(variables, x, False, mutable=["batch_stats"])
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-5)
    n = 4 * 5 * 6
    kept = var * n / (n - 1) if running_variance == "unbiased" else var
    stats = changed["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * kept, rtol=1e-5)
    running = norm.apply({**variables, **changed}, x, True)
    mean, var = np.asarray(stats["mean"]), np.asarray(stats["var"])
    expected = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(running, expected, atol=1e-5)


def test_synchronised_batch_norm_equals_batch_norm_of_the_global_batch():
    x = RNG.normal(2, 3, size=(4, 2, 3, 3, 5)).astype(np.float32)
    plain = BatchNorm(use_running_average=False)
    synchronised = plain.clone(axis_name="batch")
    variables = plain.init(KEY, x[0])

    def apply(x):
        return synchronised.apply(variables, x, mutable=["batch_stats"])

    y, stats = jax.vmap(apply, axis_name="batch")(x)
    whole = x.reshape(-1, *x.shape[2:])
    expected, expected_stats = plain.apply(variables, whole, mutable=["batch_stats"])
    np.testing.assert_allclose(y.reshape(expected.shape), expected, atol=1e-5)
    for leaf, other in zip(
        jax.tree.leaves(stats), jax.tree.leaves(expected_stats), strict=True
    ):
        np.testing.assert_allclose(leaf, jnp.broadcast_to(other, leaf.shape), rtol=1e-5)


def test_input_ranges_are_mapped_as_specified():
    unit = jnp.array([[[[0.0, 0.5, 1.0]]]])
    np.testing.assert_allclose(
        ranges.from_unit(unit, "symmetric").ravel(), [-1, 0, 1], atol=1e-6
    )
    np.testing.assert_allclose(
        ranges.from_unit(unit, "caffe").ravel(),
        [255 - 103.939, 127.5 - 116.779, -123.68],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        ranges.from_symmetric(2 * unit - 1, "imagenet").ravel(),
        [-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="input_range is 'hsv'"):
        ranges.from_unit(unit, "hsv")


def test_adaptive_average_pool_equals_pytorch_s():
    x = RNG.normal(size=(1, 7, 13, 2)).astype(np.float32)
    pooled = layers.adaptive_average_pool(x, 6)
    for i in range(6):
        for j in range(6):
            rows = slice(i * 7 // 6, -(-(i + 1) * 7 // 6))
            columns = slice(j * 13 // 6, -(-(j + 1) * 13 // 6))
            np.testing.assert_allclose(
                pooled[0, i, j], x[0, rows, columns].mean((0, 1)), atol=1e-6
            )


def test_torch_initialisation_is_uniform_within_one_over_root_fan_in():
    variables = Conv(64, 3).init(KEY, jnp.zeros((1, 4, 4, 16)))
    bound = (9 * 16) ** -0.5
    for leaf in jax.tree.leaves(variables):
        assert np.abs(leaf).max() <= bound
        assert np.abs(leaf).max() > 0.9 * bound
        np.testing.assert_allclose(np.std(leaf), bound / np.sqrt(3), rtol=0.15)


def test_unsupported_strides_of_conv_are_refused():
    with pytest.raises(ValueError, match="stride is 3; expected 1 or 2"):
        Conv(4, 3, stride=3).init(KEY, jnp.zeros((1, 4, 4, 4)))


def test_a_folded_batch_norm_is_the_identity_without_variables():
    x = RNG.normal(size=(1, 2, 2, 3)).astype(np.float32)
    y, variables = BatchNorm(folded=True).init_with_output(KEY, x, True)
    np.testing.assert_array_equal(y, x)
    assert not variables
