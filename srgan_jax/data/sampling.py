"""Which image, which crop and which orientation each training example takes.

Example `i` of a run is a pure function of (seed, i). A run therefore resumes from its
step number alone, and its examples do not depend on the number of hosts. Every epoch
shows each image once. Where the source holds at least a batch of images, all images of
a batch differ, even in a batch that spans two epochs. In a smaller source, the numbers
of times that two images appear in a batch differ by at most one.

Random words come from Philox, a counter-based generator whose raw stream NumPy keeps
stable between versions.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

DRAWS = 4  # random words of an example: one block of Philox

# The second half of Philox's key: unrelated streams of the same seed.
_EXAMPLES, _EPOCHS, _DEGRADATION = 0, 1, 2


class Example(NamedTuple):
    """What one training example is made of.

    Attributes:
      image: its index in the source.
      top: first row of the HR crop, a multiple of the scale.
      left: first column of the HR crop, a multiple of the scale.
      flip: 1 if the crop is mirrored left to right, else 0.
      turns: number of quarter turns, 0 to 3.
      exposure: random word below 2^32 for `augment.expose`.
      graded: random word below 2^32 for `augment.graded_patch`.
      number: position in the sequence of all examples of the run.
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
    """Random words `[count, DRAWS]` of the examples from number `first` on."""
    stream = np.random.Philox(key=[seed, _EXAMPLES], counter=[first, 0, 0, 0])
    return stream.random_raw(count * DRAWS).reshape(count, DRAWS)


def degradation_generator(seed: int, number: int) -> np.random.Generator:
    """The random generator of an example's degradation, apart from all other draws."""
    return np.random.Generator(
        np.random.Philox(key=[seed, _DEGRADATION], counter=[0, number, 0, 0])
    )


class Sampler:
    """Chooses the examples of one process's share of each batch.

    Args:
      sizes: int64 `[images, 2]`, heights and widths, none smaller than a crop.
      batch_size: examples of all processes together.
      crop: side of an HR crop in pixels, a multiple of `scale`.
      scale: HR size over LR size.
      seed: from 0 to 2^64 - 1.
      process_index: index of the share.
      process_count: number of shares, a divisor of `batch_size`.
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
        """The examples of batch `step`, `[share, 8]`: the fields of `Example`."""
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
        """The examples to try in turn if the image of `example` is damaged.

        They take the images that follow in the order of the example's epoch, and start
        again at its beginning after its end. The crop's position comes from the
        example's own random words, modulo the number of positions in the new image.
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
    """The images of each batch.

    Batches cut the sequence of epochs into pieces of equal length. Each epoch is a
    random order of its own. Where the start of an epoch shares a batch with the end of
    an earlier one, images that would repeat in the batch change places with later ones.

    Args:
      images: their number in the source.
      batch_size: examples of all processes together.
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
        """The images after that of example `number` in its epoch's order, cyclically.

        Returns:
          Indices `[images - 1]`.
        """
        epoch, place = divmod(number, self.images)
        return np.roll(self._epoch(epoch), -place)[1:]

    def _epoch(self, epoch: int) -> Indices:
        """The order of an epoch, `[images]`."""
        with self._lock:
            order = self._recent.get(epoch)
            if order is None:
                order = self._compose(epoch)
                if self._spans_batches(epoch):  # another batch will ask for it
                    self._recent[epoch] = order
                    if len(self._recent) > 2:
                        del self._recent[next(iter(self._recent))]
            return order

    def _compose(self, epoch: int) -> Indices:
        # Walk back to an epoch that is known from `place` on, then exchange forward.
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
        """Where the batch in which an epoch begins starts in an earlier epoch.

        Returns:
          The earlier epoch and the place in it, or None if the epoch needs no exchange.
        """
        start = epoch * self.images
        batch_start = start - start % self.batch_size
        # Whole epochs in a batch, before or after, bring each image once.
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
