"""The training order: every photograph once an epoch, none twice in a batch."""

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
def test_every_photograph_once_an_epoch(photographs, batch_size, seed):
    order = sampling.Order(photographs, batch_size, seed)
    shown = sequence(order, 4 * photographs // batch_size + 2)
    epochs = shown[: len(shown) // photographs * photographs]
    for epoch in epochs.reshape(-1, photographs):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(photographs))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(counts, counts, seeds, st.integers(0, 10**6))
def test_a_batch_holds_distinct_photographs_or_all_alike(
    photographs, batch_size, seed, first
):
    order = sampling.Order(photographs, batch_size, seed)
    for step in range(first, first + photographs + 3):  # over borders of every kind
        times = np.bincount(order.batch(step), minlength=photographs)
        assert times.max() - times.min() <= 1
        assert times.sum() == batch_size


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(counts, counts, seeds, st.lists(st.integers(0, 200), max_size=8))
def test_a_batch_depends_on_nothing_but_its_step(photographs, batch_size, seed, steps):
    order = sampling.Order(photographs, batch_size, seed)
    for step in steps:
        fresh = sampling.Order(photographs, batch_size, seed)
        np.testing.assert_array_equal(order.batch(step), fresh.batch(step))


def test_the_stream_stays_as_it_is():
    """A run that is resumed under a later NumPy must go on with the same crops."""
    order = sampling.Order(7, 3, 0)
    batches = [order.batch(step).tolist() for step in range(4)]
    assert batches == [[5, 3, 2], [4, 1, 0], [6, 3, 5], [2, 4, 6]]
    assert sampling.draws(1, 2, 1)[0, 0] == 7531101419052079111


def test_epochs_and_seeds_differ():
    def epoch(seed, number):
        return tuple(sampling.Order(50, 50, seed).batch(number))

    assert len({epoch(seed, number) for seed in range(4) for number in range(4)}) == 16


def test_the_order_is_uniform():
    """Place by photograph over many epochs, with and without exchanges."""
    for photographs, batch_size in [(5, 5), (8, 3), (5, 3)]:
        epochs = 3000
        order = sampling.Order(photographs, batch_size, 0)
        shown = sequence(order, epochs * photographs // batch_size)
        shown = shown[: len(shown) // photographs * photographs]
        table = np.zeros((photographs, photographs))
        for epoch in shown.reshape(-1, photographs):
            table[np.arange(photographs), epoch] += 1
        expected = len(shown) / photographs**2
        chi_squared = ((table - expected) ** 2 / expected).sum()
        freedom = (photographs - 1) ** 2
        assert chi_squared < freedom + 5 * np.sqrt(2 * freedom)


def plan(**changes) -> sampling.Plan:
    settings = {"batch_size": 12, "crop": 24, "scale": 4, "seed": 5, **changes}
    sizes = np.random.default_rng(0).integers(24, 90, (37, 2))
    return sampling.Plan(sizes, **settings)


@pytest.mark.parametrize("process_count", [2, 3, 4])
def test_processes_share_the_batch_of_one(process_count):
    whole = plan()
    for step in (0, 1, 7, 1000):
        shares = [
            plan(process_index=index, process_count=process_count).examples(step)
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
    examples = sampling.Plan(sizes, batch_size=2, crop=24, scale=4, seed=0)
    rows = np.concatenate([examples.examples(step) for step in range(400)])
    seen = {
        (int(photograph), int(top), int(left)) for photograph, top, left, *_ in rows
    }
    assert seen == {(0, top, 0) for top in (0, 4, 8)} | {
        (1, 0, left) for left in (0, 4, 8, 12, 16)
    }
    assert set(rows[:, 3]) == {0, 1}
    assert set(rows[:, 4]) == {0, 1, 2, 3}
    assert abs(rows[:, 3].mean() - 0.5) < 0.06
