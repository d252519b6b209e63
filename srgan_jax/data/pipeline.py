"""Training batches: LR and HR crops without end, from any step on.

Everything is uint8: the ranges of the paper are made on the device. The LR of a crop is
the crop of the photograph's LR, bit for bit and at its borders too: the photograph is
cut to a multiple of the scale as in evaluation, crops begin at multiples of the scale,
and are read with a margin as wide as the kernel. Photographs smaller than a crop are
refused.
"""

import weakref
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from srgan_jax.data import augment, crops, sampling, sources
from srgan_jax.data.pairs import Pair, evaluation_pairs
from srgan_jax.data.resize import resize_matrix

__all__ = ["Pair", "evaluation_pairs", "training_batches"]

Image = npt.NDArray[np.uint8]

_MARGIN = 2  # LR pixels that the widened cubic reaches beyond a crop


def training_batches(
    source: sources.Source,
    *,
    batch_size: int,
    crop: int,
    scale: int,
    seed: int,
    first_step: int = 0,
    flips: bool = False,
    rotations: bool = False,
    exposure: float = 0.0,
    graded: float = 0.0,
    border: str = "mirrored",
    process_index: int = 0,
    process_count: int = 1,
    cache_bytes: int | None = None,
) -> Iterator[dict[str, Image]]:
    """Batches without end, batch `first_step` first; each a function of (seed, step).

    Args:
        source: photographs of at least `crop` pixels on a side.
        batch_size: of all processes together.
        crop: side of the HR crop, a multiple of `scale`.
        scale: HR size over LR size.
        seed: not negative.
        first_step: the number of batches already consumed.
        flips: turns half of the examples left to right.
        rotations: turns the examples by 0, 90, 180 or 270 degrees.
        exposure: the largest change of exposure in stops, see `augment.expose`.
        graded: fraction of crops replaced by `augment.graded_patch`.
        border: of the LR photographs, see `resize.imresize`.
        process_index: which share of each batch to make.
        process_count: the number of shares.
        cache_bytes: memory for decoded photographs, by default 8 GB or half of the
            machine's. JPEG files are not kept: a crop of them is decoded by itself.

    Yields:
        `lr`, uint8 `[share, crop / scale, crop / scale, 3]`, and `hr`, uint8
        `[share, crop, crop, 3]`.

    Raises:
        ValueError: sizes that do not divide, or a photograph smaller than a crop.
        sources.ImageError: a photograph has vanished or proves damaged; names it.
    """
    if crop % scale or crop <= 0:
        raise ValueError(f"The crop ({crop}) is no multiple of the scale ({scale}).")
    if not 0 <= seed < 2**64:
        raise ValueError(f"The seed is a number from 0 to 2**64 - 1, not {seed}.")
    if batch_size <= 0 or batch_size % process_count:
        raise ValueError(
            f"{process_count} process(es) cannot share a batch of {batch_size} evenly."
        )
    if source.sizes.min() < crop:
        smallest = int(source.sizes.min(axis=1).argmin())
        raise ValueError(
            f"{source.labels[smallest]} of {source.name} is smaller than a crop of "
            f"{crop}x{crop}: open the source with minimum_size={crop}."
        )
    plan = sampling.Plan(
        source.sizes,
        batch_size=batch_size,
        crop=crop,
        scale=scale,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )
    reader = crops.CropReader(
        source,
        crop=crop,
        margin=_MARGIN * scale,
        multiple=scale,
        border=border,
        cache_bytes=crops.default_cache_bytes() if cache_bytes is None else cache_bytes,
    )
    feed = _Feed(plan, reader, exposure, graded)
    pairs = _pairs(feed, first_step, _MARGIN * scale, crop, scale, flips, rotations)
    return _Batches(pairs, plan.share, feed)


class _Feed:
    """What the graph calls back, until it is closed."""

    def __init__(
        self,
        plan: sampling.Plan,
        reader: crops.CropReader,
        exposure: float,
        graded: float,
    ) -> None:
        self.closed = False
        self.failure: Exception | None = None
        self._plan = plan
        self._reader = reader
        self._exposure = exposure
        self._graded = graded

    def wanted(self) -> np.bool_:
        return np.bool_(not self.closed)

    def plan(self, step: np.int64) -> npt.NDArray[np.int64]:
        return self._plan.examples(int(step))

    def read(self, row: npt.NDArray[np.int64]) -> Image:
        if self.closed:
            raise InterruptedError  # nobody waits for it
        try:
            index, top, left, _, _, exposure, graded = map(int, row)
            crop = self._reader.read(index, top, left)
            if augment.is_replaced(self._graded, graded):
                crop = augment.graded_patch(len(crop), graded)
            if self._exposure:
                crop = augment.expose(crop, self._exposure, exposure)
            return crop
        except Exception as error:
            self.failure = self.failure or error
            raise


def _pairs(
    feed: _Feed,
    first_step: int,
    margin: int,
    crop: int,
    scale: int,
    flips: bool,
    rotations: bool,
) -> Any:
    """The graph: plan a batch, read its crops in parallel, make LR, turn both."""
    from srgan_jax.data.tensorflow import tf

    side = crop + 2 * margin
    # At scales 2 and 4 the weights are dyadic and their sums fit into 24 bits, so
    # that single precision is exact; at 8 they may not, and at 3 nothing is dyadic.
    dtype = tf.float32 if scale in (2, 4) else tf.float64
    matrix = tf.constant(
        resize_matrix(side, Fraction(1, scale))[_MARGIN:-_MARGIN], dtype
    )

    def shrink_rows(image: Any) -> Any:
        shrunk = tf.tensordot(matrix, tf.cast(image, dtype), 1)
        return tf.floor(tf.clip_by_value(shrunk, 0, 255) + (0.5 + 1e-9))

    def transpose(image: Any) -> Any:
        return tf.transpose(image, [1, 0, 2])

    def turn(image: Any, flip: Any, turns: Any) -> Any:
        if flips:
            image = tf.cond(flip == 1, lambda: image[:, ::-1], lambda: image)
        if rotations:
            image = tf.image.rot90(image, tf.cast(turns, tf.int32))
        return image

    def rows(step: Any) -> Any:
        return tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(tf.numpy_function(feed.plan, [step], tf.int64), [None, 7])
        )

    def pair(row: Any) -> dict[str, Any]:
        image = tf.numpy_function(feed.read, [row], tf.uint8)
        image = tf.ensure_shape(image, [side, side, 3])
        lr = transpose(shrink_rows(transpose(shrink_rows(image))))
        hr = image[margin:-margin, margin:-margin]
        return {
            "lr": turn(tf.cast(lr, tf.uint8), row[3], row[4]),
            "hr": turn(hr, row[3], row[4]),
        }

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    steps = steps.take_while(lambda _: tf.numpy_function(feed.wanted, [], tf.bool))
    return steps.flat_map(rows).map(pair, tf.data.AUTOTUNE, deterministic=True)


class _Batches(Iterator[dict[str, Image]]):
    def __init__(self, pairs: Any, share: int, feed: _Feed) -> None:
        batches = pairs.batch(share, drop_remainder=True).prefetch(2)
        self._batches = batches.as_numpy_iterator()
        self._feed = feed
        # TensorFlow's threads must have left Python before the dataset is deleted and
        # before the interpreter ends: either would wait for the other for ever.
        weakref.finalize(self, _drain, self._batches, feed)

    def __next__(self) -> dict[str, Image]:
        from srgan_jax.data.tensorflow import tf

        try:
            return next(self._batches)
        except tf.errors.OpError:
            if self._feed.failure is None:
                raise
            # Rather than TensorFlow's account of it.
            raise self._feed.failure from None


def _drain(batches: Iterator[Any], feed: _Feed) -> None:
    from srgan_jax.data.tensorflow import tf

    feed.closed = True
    # The garbage collector may call this amid the building of another graph.
    with tf.init_scope():
        while True:
            try:
                next(batches)
            except StopIteration:
                return
            except tf.errors.OpError:
                continue
