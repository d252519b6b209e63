"""The training order: every image once an epoch, none twice in a batch."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from srgan_jax.data import sampling

counts = st.integers(1, 40)
seeds = st.integers(0, 2**63)


def sequence(order: sampling.Order, batches: int) -> np.ndarray:
    return np.concatenate([order.batch(step) for step in range(batches)])


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(counts, counts, seeds)
def test_every_image_once_an_epoch(images, batch_size, seed):
    order = sampling.Order(images, batch_size, seed)
    shown = sequence(order, 4 * images // batch_size + 2)
    epochs = shown[: len(shown) // images * images]
    for epoch in epochs.reshape(-1, images):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(images))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(counts, counts, seeds, st.integers(0, 10**6))
def test_images_appear_equally_often_in_a_batch_give_or_take_one(
    images, batch_size, seed, first
):
    order = sampling.Order(images, batch_size, seed)
    for step in range(first, first + images + 3):  # epochs begin at any place
        times = np.bincount(order.batch(step), minlength=images)
        assert times.max() - times.min() <= 1
        assert times.sum() == batch_size


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(counts, counts, seeds, st.lists(st.integers(0, 200), max_size=8))
def test_a_batch_depends_on_its_step_alone(images, batch_size, seed, steps):
    order = sampling.Order(images, batch_size, seed)
    for step in steps:
        fresh = sampling.Order(images, batch_size, seed)
        np.testing.assert_array_equal(order.batch(step), fresh.batch(step))


def test_the_stream_stays_as_it_is():
    """A run resumed under a later NumPy must continue with the same crops."""
    order = sampling.Order(7, 3, 0)
    batches = [order.batch(step).tolist() for step in range(4)]
    assert batches == [[5, 3, 2], [4, 1, 0], [6, 3, 5], [2, 4, 6]]
    assert sampling.draws(1, 2, 1)[0, 0] == 7531101419052079111


def test_epochs_and_seeds_differ():
    def epoch(seed, number):
        return tuple(sampling.Order(50, 50, seed).batch(number))

    assert len({epoch(seed, number) for seed in range(4) for number in range(4)}) == 16


def test_the_order_is_uniform():
    """Place by image over many epochs, with and without exchanges."""
    for images, batch_size in [(5, 5), (8, 3), (5, 3)]:
        epochs = 3000
        order = sampling.Order(images, batch_size, 0)
        shown = sequence(order, epochs * images // batch_size)
        shown = shown[: len(shown) // images * images]
        table = np.zeros((images, images))
        for epoch in shown.reshape(-1, images):
            table[np.arange(images), epoch] += 1
        expected = len(shown) / images**2
        chi_squared = ((table - expected) ** 2 / expected).sum()
        freedom = (images - 1) ** 2
        assert chi_squared < freedom + 5 * np.sqrt(2 * freedom)


def sampler(**changes) -> sampling.Sampler:
    settings = {"batch_size": 12, "crop": 24, "scale": 4, "seed": 5, **changes}
    sizes = np.random.default_rng(0).integers(24, 90, (37, 2))
    return sampling.Sampler(sizes, **settings)


@pytest.mark.parametrize("process_count", [2, 3, 4])
def test_the_shares_of_processes_make_up_the_whole_batch(process_count):
    whole = sampler()
    for step in (0, 1, 7, 1000):
        shares = [
            sampler(process_index=index, process_count=process_count).examples(step)
            for index in range(process_count)
        ]
        np.testing.assert_array_equal(np.concatenate(shares), whole.examples(step))


def test_an_example_does_not_depend_on_the_batch_it_is_in():
    words = sampling.draws(3, 0, 24)
    for first in (1, 6, 23):
        np.testing.assert_array_equal(sampling.draws(3, first, 1)[0], words[first])
    assert len(np.unique(words)) == words.size
    assert not np.isin(sampling.draws(4, 0, 24), words).any()


def test_crops_reach_every_place_and_no_further():
    sizes = np.array([[35, 26], [24, 40]])
    examples = sampling.Sampler(sizes, batch_size=2, crop=24, scale=4, seed=0)
    rows = np.concatenate([examples.examples(step) for step in range(400)])
    seen = {(int(image), int(top), int(left)) for image, top, left, *_ in rows}
    assert seen == {(0, top, 0) for top in (0, 4, 8)} | {
        (1, 0, left) for left in (0, 4, 8, 12, 16)
    }
    assert set(rows[:, 3]) == {0, 1}
    assert set(rows[:, 4]) == {0, 1, 2, 3}
    assert abs(rows[:, 3].mean() - 0.5) < 0.06
