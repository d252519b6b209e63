"""Each loss equals its equation, written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.training import losses

RNG = np.random.default_rng(0)


def test_content_loss_is_the_mean_of_eq_4():
    a, b = RNG.normal(size=(2, 3, 6, 5, 4)).astype(np.float32)
    ours = losses.squared_distance(a, b)
    np.testing.assert_allclose(ours, np.mean((a - b) ** 2), rtol=1e-6)


def test_sum_channels_follows_eq_5_literally():
    a, b = RNG.normal(size=(2, 3, 6, 5, 4)).astype(np.float32)
    batch, height, width, _ = a.shape
    letter = sum(np.sum((a[i] - b[i]) ** 2) / (width * height) for i in range(batch))
    ours = losses.squared_distance(a, b, "sum_channels")
    np.testing.assert_allclose(ours, letter / batch, rtol=1e-6)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1), ("sum_channels", 4)])
def test_absolute_distance_is_the_mean_absolute_error(reduction, factor):
    a, b = RNG.normal(size=(2, 3, 6, 5, 4)).astype(np.float32)
    ours = losses.absolute_distance(a, b, reduction)
    np.testing.assert_allclose(ours, factor * np.mean(np.abs(a - b)), rtol=1e-6)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1), ("sum_channels", 3)])
def test_colour_distance_compares_means_of_whole_blocks(reduction, factor):
    a, b = RNG.normal(size=(2, 2, 20, 17, 3)).astype(np.float32)
    means = [
        [x[:, i : i + 8, j : j + 8].mean(axis=(1, 2)) for i in (0, 8) for j in (0, 8)]
        for x in (a, b)
    ]
    ours = losses.colour_distance(a, b, reduction)
    expected = factor * np.mean(np.abs(np.subtract(*means)))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_colour_distance_ignores_texture_that_keeps_the_mean():
    a = RNG.normal(size=(1, 16, 16, 3)).astype(np.float32)
    mirrored = a.reshape(1, 2, 8, 16, 3)[:, :, ::-1].reshape(a.shape)
    np.testing.assert_allclose(losses.colour_distance(a, mirrored), 0, atol=1e-6)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1), ("sum_channels", 3)])
def test_smooth_distance_counts_only_blocks_where_hr_is_smooth(reduction, factor):
    hr = np.zeros((1, 17, 24, 3), np.float32)  # two rows of three blocks, and a rest
    checkered = (-1.0) ** np.indices((8, 8)).sum(0) / 127.5  # deviates by one level
    hr[:, :8, :8] = 2.9 * checkered[..., None]
    hr[:, :8, 8:16, 1] = 3.1 * checkered  # in a single channel
    hr[:, 8:16, 16:] = 3.1 * checkered[..., None]
    sr = hr + RNG.normal(size=hr.shape).astype(np.float32)
    counts = np.ones((16, 24, 1))
    counts[:8, 8:16] = counts[8:, 16:] = 0
    expected = factor * np.mean(np.abs(sr - hr)[0, :16] * counts)
    ours = losses.smooth_distance(sr, hr, reduction)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_smooth_distance_has_no_gradient_in_textured_blocks():
    hr = RNG.normal(size=(1, 8, 16, 3)).astype(np.float32)
    hr[:, :, :8] = 0.5
    gradient = jax.grad(losses.smooth_distance)(hr + 0.1, hr)
    assert np.all(gradient[:, :, :8] > 0)
    assert np.all(gradient[:, :, 8:] == 0)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1), ("sum_channels", 3)])
def test_grid_distance_compares_means_of_pixels_at_equal_positions(reduction, factor):
    a, b = RNG.normal(size=(2, 2, 8, 12, 3)).astype(np.float32)
    error = a - b
    means = [error[:, i::4, j::4].mean((1, 2)) for i in range(4) for j in range(4)]
    ours = losses.grid_distance(a, b, 4, reduction)
    np.testing.assert_allclose(ours, factor * np.mean(np.abs(means)), rtol=1e-5)


def test_grid_distance_sees_a_repeated_pattern_but_nothing_that_cancels():
    flat = np.zeros((1, 8, 8, 3), np.float32)
    pattern, detail = flat.copy(), flat.copy()
    pattern[:, ::4, ::4], pattern[:, 2::4, 2::4] = 1, -1
    detail[:, :4, :4], detail[:, :4, 4:] = 1, -1
    assert losses.grid_distance(pattern, flat, 4) > 0.1
    assert losses.grid_distance(detail, flat, 4) == 0


def test_an_unknown_reduction_is_named():
    with pytest.raises(ValueError, match=r"content\.reduction is 'max'"):
        losses.squared_distance(jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)), "max")


def test_adversarial_loss_is_minus_log_d():
    logits = RNG.normal(size=(7,)).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    ours = losses.adversarial_loss(logits)
    np.testing.assert_allclose(ours, np.mean(-np.log(probability)), rtol=1e-6)
    ours = losses.adversarial_loss(logits, "saturating")
    np.testing.assert_allclose(ours, np.mean(np.log(1 - probability)), rtol=1e-5)


def test_minus_log_d_is_finite_and_steep_where_d_is_certain():
    certain = jnp.array([-500.0])
    assert losses.adversarial_loss(certain) == 500.0
    assert jax.grad(losses.adversarial_loss)(certain)[0] == -1.0
    # The gradient of log(1 - D) vanishes, so the paper does not minimise it.
    saturated = jax.grad(lambda x: losses.adversarial_loss(x, "saturating"))(certain)
    assert saturated[0] == 0.0


def test_discriminator_loss_is_the_cross_entropy_of_eq_2():
    hr, sr = RNG.normal(size=(2, 7))
    d_hr, d_sr = 1 / (1 + np.exp(-hr)), 1 / (1 + np.exp(-sr))
    expected = -np.mean(np.log(d_hr)) - np.mean(np.log(1 - d_sr))
    np.testing.assert_allclose(losses.discriminator_loss(hr, sr), expected, rtol=1e-6)


def test_total_variation_sums_the_differences_of_neighbours():
    x = RNG.normal(size=(2, 5, 4, 3)).astype(np.float32)
    expected = 0.0
    for image in x:
        for i in range(5):
            for j in range(4):
                if i + 1 < 5:
                    expected += np.abs(image[i + 1, j] - image[i, j]).sum()
                if j + 1 < 4:
                    expected += np.abs(image[i, j + 1] - image[i, j]).sum()
    np.testing.assert_allclose(losses.total_variation(x), expected / 2, rtol=1e-6)
