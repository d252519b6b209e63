"""Degraded LR: reproducible, aligned with HR, and of the documented strength."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from srgan_jax.data import degrade
from srgan_jax.data.resize import imresize

keys = st.integers(0, 2**32 - 1)


def generator(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def crop(scale: int, side: int = 24, key: int = 0) -> np.ndarray:
    """A smooth HR crop with its margin."""
    size = side + 2 * degrade.MARGIN
    coarse = generator(key).integers(0, 256, (size // 4, size // 4, 3), np.uint8)
    return imresize(coarse, 4 * scale)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(keys, st.sampled_from([2, 3, 4, 8]))
def test_equal_generators_give_equal_lr_of_the_size_of_the_crop(key, scale):
    hr = crop(scale)
    one, other = (degrade.photo(hr, scale, generator(key)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (24, 24, 3)
    assert one.dtype == np.uint8


def test_many_draws_average_to_bicubic_without_a_shift():
    """Half a pixel of misalignment would show as a difference along the gradient."""
    hr = crop(4)
    clean = imresize(hr, 0.25)[degrade.MARGIN : -degrade.MARGIN]
    clean = clean[:, degrade.MARGIN : -degrade.MARGIN].astype(float)
    draws = [degrade.photo(hr, 4, generator(key)).astype(float) for key in range(200)]
    error = np.mean(draws, axis=0) - clean
    for axis in (0, 1):
        slope = np.gradient(clean, axis=axis)
        shift = (error * slope).sum() / (slope**2).sum()
        assert abs(shift) < 0.02  # LR pixels


@pytest.mark.parametrize("scale", [2, 4])
def test_blur_keeps_flat_colours_and_the_mean(scale):
    flat = np.full((40, 40, 3), (0, 100, 255), np.uint8)
    for key in range(8):
        np.testing.assert_array_equal(degrade.blur(flat, scale, generator(key)), flat)


def test_half_of_the_crops_is_not_blurred():
    hr = crop(4)
    same = [
        np.array_equal(degrade.blur(hr, 4, generator(key)), hr) for key in range(400)
    ]
    assert 0.42 < np.mean(same) < 0.58


def test_noise_has_the_stated_strength_and_is_grey_in_two_of_five_examples():
    flat = np.full((64, 64, 3), 128, np.uint8)
    noisy = np.array(
        [degrade.add_noise(flat, generator(key)) for key in range(400)], float
    )
    strengths = noisy.std(axis=(1, 2, 3))
    assert strengths.max() < 8.5
    assert abs(noisy.mean() - 128) < 0.05
    assert abs(strengths.mean() - 8 / 3) < 0.4
    grey = (noisy == noisy[..., :1]).all(axis=(1, 2, 3))
    assert 0.33 < grey[strengths > 0.5].mean() < 0.47


def test_jpeg_qualities_are_mostly_high(monkeypatch):
    monkeypatch.setattr(degrade, "jpeg", lambda image, quality: quality)
    qualities = [degrade.compress(crop(4), generator(key)) for key in range(400)]
    assert 40 <= min(qualities) < 45
    assert max(qualities) == 95
    assert abs(np.mean(qualities) - (95 - 55 / 3)) < 2


def test_jpeg_compression_has_many_qualities_and_changes_a_smooth_crop_little():
    hr = crop(4)
    errors = [
        np.abs(degrade.compress(hr, generator(key)).astype(int) - hr).mean()
        for key in range(60)
    ]
    assert min(errors) > 0
    assert max(errors) < 6
    assert len({round(error, 6) for error in errors}) > 20  # many qualities
