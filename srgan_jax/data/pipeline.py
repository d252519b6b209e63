"""Training batches: an endless stream of LR and HR crops that can start at any step.

All images are uint8; the device converts them to the paper's ranges. An LR crop equals
the same crop of the whole image's LR bit for bit, even at the image's borders: images
are cut to a multiple of the scale, as in evaluation, crops begin at multiples of the
scale, and they are read with a margin as wide as the kernel needs. Images smaller than
a crop are refused.
"""

import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from srgan_jax.data import crops
from srgan_jax.data.examples import (
    DEGRADATIONS,
    DamagedImages,
    ExampleReader,
    Settings,
)
from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.data.resize import resize_matrix
from srgan_jax.data.sampling import Example, Sampler
from srgan_jax.data.source import Source

Image = npt.NDArray[np.uint8]
OnSkip = Callable[[str, str], None]


def training_batches(
    source: Source,
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
    degradation: str = "bicubic",
    on_skip: OnSkip | None = None,
    process_index: int = 0,
    process_count: int = 1,
    cache_bytes: int | None = None,
) -> Iterator[dict[str, Image]]:
    """Yields batches without end; each is a function of (seed, step).

    Args:
      source: images with at least `crop` pixels on each side.
      batch_size: number of examples in a batch, over all processes.
      crop: side of the HR crop in pixels, a multiple of `scale`.
      scale: HR size over LR size.
      seed: from 0 to 2^64 - 1.
      first_step: number of batches already consumed.
      flips: True to mirror half of the examples left to right.
      rotations: True to rotate the examples by 0, 90, 180 or 270 degrees.
      exposure: largest change of exposure in stops; see `augment.expose`.
      graded: fraction of crops that `augment.graded_patch` replaces.
      border: border of MATLAB's bicubic; see `resize.imresize`.
      degradation: how LR is made: `bicubic` (MATLAB's) or `photo` (see `degrade`). For
        a source with LR images of its own, give `bicubic`; its LR is used.
      on_skip: called with the name of a damaged image and the reason, once for each
        image, in the thread that asks for batches. The epoch's next image that can be
        decoded replaces it. Without `on_skip` a damaged image raises an error.
      process_index: index of this process, whose share of each batch is made.
      process_count: number of processes that share a batch.
      cache_bytes: memory for decoded images, by default 8 GB but at most half of the
        machine's. JPEGs are not cached, since their crops are decoded alone.

    Yields:
      `lr`, uint8 `[share, crop / scale, crop / scale, 3]`, and `hr`, uint8
      `[share, crop, crop, 3]`.

    Raises:
      ValueError: `crop` or `batch_size` cannot be divided as needed, the seed or the
        degradation is invalid, or an image is smaller than a crop.
      SourceError: more than 1 % of the images are damaged (one is always tolerated).
      UnreadableError: a file cannot be read, even after some time.
      ImageError: an image is damaged, and `on_skip` is None.
    """
    _check(source, batch_size, crop, scale, seed, degradation, process_count)
    sampler = Sampler(
        source.sizes,
        batch_size=batch_size,
        crop=crop,
        scale=scale,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )
    if cache_bytes is None:
        cache_bytes = crops.default_cache_bytes()
    settings = Settings(
        crop, scale, seed, exposure, graded, border, degradation, cache_bytes
    )
    damaged = DamagedImages(source, skip=on_skip is not None)
    reader = ExampleReader(source, sampler, settings, damaged)
    callbacks = _Callbacks(sampler, reader)
    examples = _graph(callbacks, reader, settings, first_step, flips, rotations)
    return _Batches(examples, sampler.share, callbacks, damaged, on_skip)


def _check(
    source: Source,
    batch_size: int,
    crop: int,
    scale: int,
    seed: int,
    degradation: str,
    process_count: int,
) -> None:
    if crop % scale or crop <= 0:
        raise ValueError(
            f"crop is {crop}; expected a positive multiple of the scale, {scale}"
        )
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
    if batch_size <= 0 or batch_size % process_count:
        raise ValueError(
            f"{process_count} process(es) cannot share a batch of {batch_size} evenly; "
            "expected a positive multiple of their number"
        )
    if degradation not in DEGRADATIONS:
        raise ValueError(
            f"degradation is {degradation!r}; expected one of {', '.join(DEGRADATIONS)}"
        )
    if source.lr is not None and degradation != "bicubic":
        raise ValueError(
            f"degradation {degradation!r} makes LR from HR, but {source.name} has LR "
            "images of its own; omit the degradation or give a folder of HR images"
        )
    if source.sizes.min() < crop:
        smallest = int(source.sizes.min(axis=1).argmin())
        raise ValueError(
            f"{source.labels[smallest]} of {source.name} is smaller than a crop of "
            f"{crop}x{crop}; open the source with minimum_size={crop}"
        )


class _Callbacks:
    """The Python functions that the `tf.data` graph calls, until `closed` is set."""

    def __init__(self, sampler: Sampler, reader: ExampleReader) -> None:
        self.closed = False
        self.failure: Exception | None = None
        self._sampler = sampler
        self._reader = reader

    def is_open(self) -> np.bool_:
        return np.bool_(not self.closed)

    def examples(self, step: np.int64) -> npt.NDArray[np.int64]:
        return self._sampler.examples(int(step))

    def read(self, row: npt.NDArray[np.int64]) -> Image:
        return self._attempt(self._reader.read, row)

    def read_pair(self, row: npt.NDArray[np.int64]) -> tuple[Image, Image]:
        return self._attempt(self._reader.read_pair, row)

    def _attempt(
        self, read: Callable[[Example], Any], row: npt.NDArray[np.int64]
    ) -> Any:
        if self.closed:
            raise InterruptedError  # no one waits for the result any more
        try:
            return read(Example(*map(int, row)))
        except Exception as error:
            self.failure = self.failure or error
            raise


def _graph(
    callbacks: _Callbacks,
    reader: ExampleReader,
    settings: Settings,
    first_step: int,
    flips: bool,
    rotations: bool,
) -> Any:
    """Builds the `tf.data` graph: samples examples, reads crops, makes LR, orients."""
    tf = import_tensorflow()
    crop, scale = settings.crop, settings.scale
    margin = reader.margin * scale
    side = crop + 2 * margin
    # At scales 2 and 4 the weights are dyadic fractions and their sums fit into 24
    # bits, so float32 is exact. At scale 8 the sums may need more bits, and at scale 3
    # the weights are not dyadic.
    dtype = tf.float32 if scale in (2, 4) else tf.float64

    def orient(image: Any, flip: Any, turns: Any) -> Any:
        if flips:
            image = tf.cond(flip == 1, lambda: image[:, ::-1], lambda: image)
        if rotations:
            image = tf.image.rot90(image, tf.cast(turns, tf.int32))
        return image

    def rows(step: Any) -> Any:
        examples = tf.numpy_function(callbacks.examples, [step], tf.int64)
        return tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(examples, [None, len(Example._fields)])
        )

    def bicubic(row: Any) -> tuple[Any, Any]:
        matrix = resize_matrix(side, Fraction(1, scale))
        matrix = tf.constant(matrix[reader.margin : -reader.margin], dtype)
        image = tf.numpy_function(callbacks.read, [row], tf.uint8)
        image = tf.ensure_shape(image, [side, side, 3])
        lr = tf.cast(image, dtype)
        for _ in range(2):  # rows, then columns
            lr = tf.tensordot(matrix, lr, 1)
            lr = tf.floor(tf.clip_by_value(lr, 0, 255) + (0.5 + 1e-9))
            lr = tf.transpose(lr, [1, 0, 2])
        return image[margin:-margin, margin:-margin], tf.cast(lr, tf.uint8)

    def pair(row: Any) -> dict[str, Any]:
        if reader.makes_lr:
            types = (tf.uint8, tf.uint8)
            hr, lr = tf.numpy_function(callbacks.read_pair, [row], types)
        else:
            hr, lr = bicubic(row)
        lr = tf.ensure_shape(lr, [crop // scale, crop // scale, 3])
        hr = tf.ensure_shape(hr, [crop, crop, 3])
        example = Example(*tf.unstack(row))
        return {
            "lr": orient(lr, example.flip, example.turns),
            "hr": orient(hr, example.flip, example.turns),
        }

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    steps = steps.take_while(
        lambda _: tf.numpy_function(callbacks.is_open, [], tf.bool)
    )
    return steps.flat_map(rows).map(pair, tf.data.AUTOTUNE, deterministic=True)


class _Batches(Iterator[dict[str, Image]]):
    def __init__(
        self,
        examples: Any,
        share: int,
        callbacks: _Callbacks,
        damaged: DamagedImages,
        on_skip: OnSkip | None,
    ) -> None:
        batches = examples.batch(share, drop_remainder=True).prefetch(2)
        self._batches = batches.as_numpy_iterator()
        self._callbacks = callbacks
        self._damaged = damaged
        self._on_skip = on_skip
        # TensorFlow's threads must have left Python before the dataset is deleted and
        # before the interpreter exits; otherwise they deadlock.
        weakref.finalize(self, _drain, self._batches, callbacks)

    def __next__(self) -> dict[str, Image]:
        tf = import_tensorflow()
        try:
            return next(self._batches)
        except tf.errors.OpError:
            if self._callbacks.failure is None:
                raise
            # Our own exception is clearer than TensorFlow's wrapper around it.
            raise self._callbacks.failure from None
        finally:
            for name, reason in self._damaged.take_unreported():
                if self._on_skip is not None:
                    self._on_skip(name, reason)


def _drain(batches: Iterator[Any], callbacks: _Callbacks) -> None:
    tf = import_tensorflow()
    callbacks.closed = True
    # The garbage collector may call this while a TensorFlow graph is being built.
    with tf.init_scope():
        while True:
            try:
                next(batches)
            except StopIteration:
                return
            except tf.errors.OpError:
                continue
