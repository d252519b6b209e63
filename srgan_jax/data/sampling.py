"""Which photograph, where in it, which way round: the training order as arithmetic.

Example `i` of a run is a pure function of (seed, i), so that a run resumes from its
step number alone and does not depend on the number of hosts. Every epoch shows each
photograph once. A batch holds distinct photographs where the source has a batch of
them, across the border of two epochs as well, and otherwise each of them as often as
any other, give or take one.

Random bits are those of Philox, a counter-based generator whose raw stream NumPy keeps
from version to version.
"""

import functools

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

DRAWS = 4  # random words an example may use: one block of Philox

_EXAMPLES, _EPOCHS = 0, 1  # second half of the key: two unrelated streams


def draws(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Random words `[count, DRAWS]` of the examples from `first` on."""
    stream = np.random.Philox(key=[seed, _EXAMPLES], counter=[first, 0, 0, 0])
    return stream.random_raw(count * DRAWS).reshape(count, DRAWS)


class Plan:
    """What each example of a batch is, for one process's share of the batches.

    Args:
        sizes: int64 `[photographs, 2]`, none smaller than a crop.
        batch_size: of all processes together.
        crop: side of an HR crop, a multiple of `scale`.
        scale: HR size over LR size.
        seed: not negative.
        process_index: which share this is.
        process_count: the number of shares, a divisor of `batch_size`.
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
        # Crops begin at multiples of the scale, for LR crops to begin at a pixel.
        self._places = (sizes // scale - crop // scale + 1).astype(np.uint64)

    def examples(self, step: int) -> Indices:
        """Rows `[share, 7]`, one an example.

        Photograph, top, left, whether flipped, quarter turns, and two random words
        below 2^32 for exposure and for graded patches.
        """
        order = self._order
        index = order.batch(step)[self._offset :][: self.share]
        first = step * order.batch_size + self._offset
        words = draws(order.seed, first, self.share)
        corner = words[:, :2] % self._places[index] * np.uint64(self._scale)
        turns = np.column_stack(
            [words[:, 2] % np.uint64(2), words[:, 3] % np.uint64(4)]
        )
        rest = np.column_stack([corner, turns, words[:, 2:] >> np.uint64(32)])
        return np.column_stack([index, rest.astype(np.int64)])


class Order:
    """The photographs of each batch.

    The batches cut the sequence of epochs. An epoch is a random order of its own, but
    where its beginning shares a batch with the end of another one, photographs of that
    end are exchanged for later ones.
    """

    def __init__(self, photographs: int, batch_size: int, seed: int) -> None:
        self.photographs = photographs
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = functools.lru_cache(maxsize=2)(self._compose)

    def batch(self, step: int) -> Indices:
        """Indices `[batch_size]` of the photographs of batch `step`."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(positions, self.photographs)
        batch = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            batch[epochs == epoch] = self._epoch(int(epoch))[places[epochs == epoch]]
        return batch

    def _compose(self, epoch: int) -> Indices:
        # Exchanges stay within the first batch_size places of an epoch. An epoch of two
        # batches or more thus ends as it was drawn; a shorter one depends on the one
        # before, back to one that begins with a batch.
        chain = [epoch]
        while (earlier := self._sharing(chain[-1])) is not None:
            chain.append(earlier)
            if self.photographs >= 2 * self.batch_size:
                break
        order = self._draw(chain.pop())
        for later in reversed(chain):
            order = self._exchange(later, before=order)
        return order

    def _sharing(self, epoch: int) -> int | None:
        """The epoch whose end shares a batch with the beginning of this one, if any."""
        start = epoch * self.photographs
        batch_start = start - start % self.batch_size
        # Whole epochs in a batch, before or after, bring each photograph once.
        if batch_start % self.photographs == 0:
            return None
        if start + self.photographs <= batch_start + self.batch_size:
            return None
        return batch_start // self.photographs

    def _draw(self, epoch: int) -> Indices:
        stream = np.random.Philox(key=[self.seed, _EPOCHS], counter=[0, epoch, 0, 0])
        return np.argsort(stream.random_raw(self.photographs), kind="stable")

    def _exchange(self, epoch: int, before: Indices) -> Indices:
        order = self._draw(epoch)
        start = epoch * self.photographs
        batch_start = start - start % self.batch_size
        seen = np.zeros(self.photographs, bool)
        seen[before[batch_start % self.photographs :]] = True
        head = batch_start + self.batch_size - start
        repeated = np.flatnonzero(seen[order[:head]])
        fresh = head + np.flatnonzero(~seen[order[head:]])
        pairs = min(len(repeated), len(fresh))
        repeated, fresh = repeated[:pairs], fresh[:pairs]
        order[repeated], order[fresh] = order[fresh], order[repeated]
        return order
