"""Samples the image, crop and orientation of each training example.

Example `i` of a run is a pure function of (seed, i). A run therefore resumes from its
step number alone, and its examples do not depend on the number of hosts. Every epoch
shows each image once. If the source has at least as many images as a batch, all images
of a batch differ, even if the batch spans two epochs. In a smaller source, the numbers
of times that two images appear in a batch differ by at most one.

Random words come from Philox, a counter-based generator whose raw stream is the same in
all versions of NumPy.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

DRAWS = 4  # random words of an example: one block of Philox

# The second half of Philox's key gives independent streams for the same seed.
_EXAMPLES, _EPOCHS, _DEGRADATION = 0, 1, 2


class Example(NamedTuple):
    """The sampled parameters of one training example.

    Attributes:
      image: index of the image in the source.
      top: first row of the HR crop, a multiple of the scale.
      left: first column of the HR crop, a multiple of the scale.
      flip: 1 if the crop is mirrored left to right, else 0.
      turns: number of quarter turns, 0 to 3.
      exposure: random word below 2^32 for `augment.expose`.
      graded: random word below 2^32 for `augment.graded_patch`.
      number: position of the example in the sequence of all examples of the run.
    """

    image: int
    top: int
    left: int
    flip: int
    turns: int
    exposure: int
    graded: int
    number: int


def draws(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Random words `[count, DRAWS]` of `count` examples, beginning with `first`."""
    stream = np.random.Philox(key=[seed, _EXAMPLES], counter=[first, 0, 0, 0])
    return stream.random_raw(count * DRAWS).reshape(count, DRAWS)


def degradation_generator(seed: int, number: int) -> np.random.Generator:
    """The generator for an example's degradation, independent of its other draws."""
    return np.random.Generator(
        np.random.Philox(key=[seed, _DEGRADATION], counter=[0, number, 0, 0])
    )


class Sampler:
    """Samples the examples of one process's share of each batch.

    Args:
      sizes: int64 `[images, 2]`, heights and widths, none smaller than a crop.
      batch_size: number of examples in a batch, over all processes.
      crop: side of an HR crop in pixels, a multiple of `scale`.
      scale: HR size over LR size.
      seed: from 0 to 2^64 - 1.
      process_index: index of the process.
      process_count: number of processes, a divisor of `batch_size`.
    """

    def __init__(
        self,
        sizes: Indices,
        *,
        batch_size: int,
        crop: int,
        scale: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        self.share = batch_size // process_count
        self._offset = process_index * self.share
        self._order = Order(len(sizes), batch_size, seed)
        self._scale = scale
        # HR crops begin at multiples of the scale so that LR crops begin at a pixel.
        self._places = (sizes // scale - crop // scale + 1).astype(np.uint64)

    def examples(self, step: int) -> Indices:
        """The examples of batch `step`, `[share, 8]`; columns are Example's fields."""
        order = self._order
        images = order.batch(step)[self._offset :][: self.share]
        first = step * order.batch_size + self._offset
        words = draws(order.seed, first, self.share)
        turns = np.column_stack(
            [words[:, 2] % np.uint64(2), words[:, 3] % np.uint64(4)]
        )
        columns = [
            *(images, self._corners(words, images), turns, words[:, 2:] >> 32),
            first + np.arange(self.share),
        ]
        return np.column_stack([column.astype(np.int64) for column in columns])

    def replacements(self, example: Example) -> Iterator[Example]:
        """Yields the examples to try in turn if the image of `example` is damaged.

        They take the images that follow in the order of the example's epoch, wrapping
        around at its end. The crop's position is drawn from the example's own random
        words.
        """
        words = draws(self._order.seed, example.number, 1)
        for image in self._order.following(example.number):
            top, left = self._corners(words, np.array([image]))[0]
            yield example._replace(image=int(image), top=int(top), left=int(left))

    def _corners(
        self, words: npt.NDArray[np.uint64], images: Indices
    ) -> npt.NDArray[np.uint64]:
        return words[:, :2] % self._places[images] * np.uint64(self._scale)


class Order:
    """The order of images, and its division into batches.

    Each epoch is an independent random order. Batches cut the sequence of epochs into
    pieces of equal length. If a batch spans two epochs, images of the second epoch that
    would repeat in the batch are exchanged with later ones.

    Args:
      images: number of images in the source.
      batch_size: number of examples in a batch, over all processes.
      seed: from 0 to 2^64 - 1.
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self._recent: dict[int, Indices] = {}
        self._lock = threading.Lock()

    def batch(self, step: int) -> Indices:
        """Indices `[batch_size]` of the images of batch `step`."""
        start, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        for epoch in range(start // self.images, (end - 1) // self.images + 1):
            first = epoch * self.images
            parts.append(self._epoch(epoch)[max(start - first, 0) : end - first])
        return np.concatenate(parts)

    def following(self, number: int) -> Indices:
        """The images that follow example `number` in its epoch's order, cyclically.

        Returns:
          Indices `[images - 1]`.
        """
        epoch, place = divmod(number, self.images)
        return np.roll(self._epoch(epoch), -place)[1:]

    def _epoch(self, epoch: int) -> Indices:
        """The order of an epoch, indices `[images]`."""
        with self._lock:
            order = self._recent.get(epoch)
            if order is None:
                order = self._compose(epoch)
                if self._spans_batches(epoch):  # the next batch will need it too
                    self._recent[epoch] = order
                    if len(self._recent) > 2:
                        del self._recent[next(iter(self._recent))]
            return order

    def _compose(self, epoch: int) -> Indices:
        # Walk back to an epoch whose order from `place` on is known, then make the
        # exchanges of the later epochs one after the other.
        chain: list[int] = []
        place = 0
        while epoch not in self._recent:
            shared = self._shared_batch(epoch)
            # Exchanges stay within the first batch_size places of an epoch.
            if shared is None or place >= self.batch_size:
                break
            chain.append(epoch)
            epoch, place = shared
        order = self._recent.get(epoch)
        if order is None:
            order = self._draw(epoch)
        for later in reversed(chain):
            order = self._exchange(later, before=order)
        return order

    def _shared_batch(self, epoch: int) -> tuple[int, int] | None:
        """Where the batch that contains an epoch's first image begins.

        Returns:
          The earlier epoch in which the batch begins, and the place in it; or None if
          the epoch needs no exchange.
        """
        start = epoch * self.images
        batch_start = start - start % self.batch_size
        # No exchange is needed if this epoch, or every earlier one in the batch, lies
        # whole in the batch: it then adds each image once.
        if batch_start % self.images == 0:
            return None
        if start + self.images <= batch_start + self.batch_size:
            return None
        return divmod(batch_start, self.images)

    def _spans_batches(self, epoch: int) -> bool:
        first, last = epoch * self.images, (epoch + 1) * self.images - 1
        return first // self.batch_size < last // self.batch_size

    def _draw(self, epoch: int) -> Indices:
        stream = np.random.Philox(key=[self.seed, _EPOCHS], counter=[0, epoch, 0, 0])
        return np.argsort(stream.random_raw(self.images), kind="stable")

    def _exchange(self, epoch: int, before: Indices) -> Indices:
        order = self._draw(epoch)
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
