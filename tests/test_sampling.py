"""The order of examples: each image once per epoch, and none twice in a batch."""

import hashlib
import time

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
def test_every_epoch_shows_each_image_once(images, batch_size, seed):
    order = sampling.Order(images, batch_size, seed)
    shown = sequence(order, 4 * images // batch_size + 2)
    epochs = shown[: len(shown) // images * images]
    for epoch in epochs.reshape(-1, images):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(images))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(counts, counts, seeds, st.integers(0, 10**6))
def test_counts_of_images_in_a_batch_differ_by_at_most_one(
    images, batch_size, seed, first
):
    order = sampling.Order(images, batch_size, seed)
    for step in range(first, first + images + 3):  # every alignment
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


def test_the_random_stream_equals_recorded_values():
    """A run that resumes under a later NumPy must continue with the same crops."""
    order = sampling.Order(7, 3, 0)
    batches = [order.batch(step).tolist() for step in range(4)]
    assert batches == [[5, 3, 2], [4, 1, 0], [6, 3, 5], [2, 4, 6]]
    assert sampling.draws(1, 2, 1)[0, 0] == 7531101419052079111


def test_crops_flips_turns_and_exposures_equal_recorded_values():
    sizes = 24 + 7 * np.arange(74).reshape(37, 2) % 66
    sampler = sampling.Sampler(sizes, batch_size=12, crop=24, scale=4, seed=5)
    rows = np.concatenate([sampler.examples(step) for step in (0, 3, 1000)])
    numbers = np.concatenate([12 * step + np.arange(12) for step in (0, 3, 1000)])
    np.testing.assert_array_equal(rows[:, 7], numbers)
    digest = hashlib.sha256(rows[:, :7].astype("<i8").tobytes()).hexdigest()
    assert digest == (
        "e49d650a86b339caa28cb90af48a7a38f6bcc3e7cff6f64e0cfcee92d8794792"
    )


class Definition:
    """The order of version 0.1, which composes every epoch a batch depends on."""

    def __init__(self, images, batch_size, seed):
        self.images, self.batch_size, self.seed = images, batch_size, seed

    def batch(self, step):
        positions = step * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(positions, self.images)
        batch = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            batch[epochs == epoch] = self.compose(int(epoch))[places[epochs == epoch]]
        return batch

    def compose(self, epoch):
        chain = [epoch]
        while (earlier := self.sharing(chain[-1])) is not None:
            chain.append(earlier)
        order = self.draw(chain.pop())
        for later in reversed(chain):
            order = self.exchange(later, before=order)
        return order

    def sharing(self, epoch):
        start = epoch * self.images
        batch_start = start - start % self.batch_size
        if batch_start % self.images == 0:
            return None
        if start + self.images <= batch_start + self.batch_size:
            return None
        return batch_start // self.images

    def draw(self, epoch):
        stream = np.random.Philox(key=[self.seed, 1], counter=[0, epoch, 0, 0])
        return np.argsort(stream.random_raw(self.images), kind="stable")

    def exchange(self, epoch, before):
        order = self.draw(epoch)
        start = epoch * self.images
        batch_start = start - start % self.batch_size
        seen = np.zeros(self.images, bool)
        seen[before[batch_start % self.images :]] = True
        head = batch_start + self.batch_size - start
        repeated = np.flatnonzero(seen[order[:head]])
        fresh = head + np.flatnonzero(~seen[order[head:]])
        pairs = min(len(repeated), len(fresh))
        repeated, fresh = repeated[:pairs], fresh[:pairs]
        order[repeated], order[fresh] = order[fresh], order[repeated]
        return order


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(counts, counts, seeds, st.integers(0, 300))
def test_the_order_equals_a_direct_implementation(images, batch_size, seed, first):
    order = sampling.Order(images, batch_size, seed)
    definition = Definition(images, batch_size, seed)
    for step in (first, first + 1, first + 2):  # a resume, and the batches after it
        np.testing.assert_array_equal(order.batch(step), definition.batch(step))


@pytest.mark.parametrize("first", [0, 2000, 10**6])
def test_a_batch_of_4096_from_8191_images_takes_less_than_10_ms(first):
    def seconds():
        order = sampling.Order(8191, 4096, 0)
        started = time.thread_time()
        order.batch(first)
        return time.thread_time() - started

    assert min(seconds() for _ in range(5)) < 0.01


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(counts, counts, seeds, st.integers(0, 10**4))
def test_replacements_follow_the_order_of_the_epoch(images, batch_size, seed, number):
    order = sampling.Order(images, batch_size, seed)
    epoch, place = divmod(number, images)
    positions = epoch * images + np.roll(np.arange(images), -place)[1:]
    expected = [order.batch(p // batch_size)[p % batch_size] for p in positions]
    np.testing.assert_array_equal(order.following(number), expected)


def test_a_replacement_changes_only_image_and_corner():
    sizes = np.array([[24, 24], [60, 24], [24, 88], [48, 48], [80, 25]])
    examples = sampling.Sampler(sizes, batch_size=2, crop=24, scale=4, seed=3)
    for step in range(5):
        for row in examples.examples(step).tolist():
            example = sampling.Example(*row)
            words = sampling.draws(3, example.number, 1)[0].tolist()
            replacements = list(examples.replacements(example))
            images = {example.image, *(r.image for r in replacements)}
            assert images == set(range(5))
            for replacement in replacements:
                height, width = sizes[replacement.image].tolist()
                assert replacement.top == words[0] % ((height - 24) // 4 + 1) * 4
                assert replacement.left == words[1] % ((width - 24) // 4 + 1) * 4
                assert replacement[3:] == example[3:]


def test_epochs_and_seeds_differ():
    def epoch(seed, number):
        return tuple(sampling.Order(50, 50, seed).batch(number))

    assert len({epoch(seed, number) for seed in range(4) for number in range(4)}) == 16


def test_the_order_is_uniform():
    """Counts how often each image takes each place, with and without exchanges."""
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
def test_the_shares_of_all_processes_form_the_whole_batch(process_count):
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


def test_crops_cover_the_whole_image_and_stay_inside():
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
