"""Exposure and graded patches depend on one random word."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from srgan_jax.data import augment

words = st.integers(0, augment.WORDS - 1)
RAMP = np.arange(256, dtype=np.uint8)


def test_the_middle_word_leaves_the_exposure_unchanged():
    np.testing.assert_array_equal(augment.expose(RAMP, 3.0, 2**31), RAMP)


@pytest.mark.parametrize(
    ("word", "values"), [(0, [0, 1, 13, 32]), (augment.WORDS - 1, [0, 40, 255, 255])]
)
def test_the_extreme_words_change_the_exposure_by_all_stops(word, values):
    pixels = np.array([0, 5, 100, 255], np.uint8)
    np.testing.assert_array_equal(augment.expose(pixels, 3.0, word), values)


@hypothesis.given(words)
def test_exposure_keeps_the_order_of_levels(word):
    assert (np.diff(augment.expose(RAMP, 3.0, word).astype(int)) >= 0).all()


@hypothesis.given(words)
def test_even_words_give_flat_patches_and_all_patches_are_smooth(word):
    patch = augment.graded_patch(64, word).astype(int)
    assert patch.shape == (64, 64, 3)
    steepest = max(np.abs(np.diff(patch, axis=axis)).max() for axis in (0, 1))
    assert steepest <= (2 if word % 2 else 0)


def test_a_third_of_the_channels_of_flat_patches_are_saturated():
    channels = np.array(
        [augment.graded_patch(1, word)[0, 0] for word in range(0, 600, 2)]
    )
    assert 0.25 < np.isin(channels, [0, 255]).mean() < 0.42


def test_a_fraction_of_zero_replaces_nothing_and_one_everything():
    for word in (0, 5, augment.WORDS - 1):
        assert not augment.is_replaced(0.0, word)
        assert augment.is_replaced(1.0, word)
