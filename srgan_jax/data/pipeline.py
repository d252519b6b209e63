"""From a source to batches of LR and HR crops; from folders to evaluation pairs.

Everything is uint8: the ranges of the paper are made on the device. The LR of a crop is
the crop of the photograph's LR, bit for bit and at its borders too: the photograph is
cut to a multiple of the scale as in evaluation, crops begin at multiples of the scale,
and are read with a margin as wide as the kernel. Crops larger than a photograph, and
pairs whose sizes do not belong together, are refused.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

from srgan_jax.data import sampling, sources
from srgan_jax.data.resize import fold, imresize, mod_crop, resize_matrix

Image = npt.NDArray[np.uint8]

# Chroma of a JPEG is interpolated from its neighbours: a part that is decoded by itself
# equals the whole from two pixels inside its edge on.
_JPEG_MARGIN = 4


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
    if batch_size % process_count:
        raise ValueError(
            f"A batch of {batch_size} does not divide over {process_count} processes."
        )
    if source.sizes.min() < crop:
        smallest = int(source.sizes.min(axis=1).argmin())
        raise ValueError(
            f"{source.labels[smallest]} of {source.name} is smaller than a crop of "
            f"{crop}x{crop}: open the source with minimum_size={crop}."
        )
    share = batch_size // process_count
    order = sampling.Order(len(source), batch_size, seed)

    def plan(step: int) -> npt.NDArray[np.int64]:
        """Photograph, top, left, flip, quarter turns of this process's examples."""
        mine = slice(process_index * share, (process_index + 1) * share)
        index = order.batch(int(step))[mine]
        first = int(step) * batch_size + mine.start
        words = sampling.draws(seed, first, share)
        places = (source.sizes[index] // scale - crop // scale + 1).astype(np.uint64)
        corner = (words[:, :2] % places).astype(np.int64) * scale
        turns = (words[:, 2:] % np.uint64(4)).astype(np.int64)
        return np.column_stack([index, corner, turns[:, :1] % 2, turns[:, 1:]])

    windows = _Windows(source, crop, scale, border, cache_bytes)
    return _Batches(
        _dataset(plan, windows, first_step, share, flips, rotations), windows
    )


def _dataset(
    plan: Callable[[int], npt.NDArray[np.int64]],
    windows: "_Windows",
    first_step: int,
    share: int,
    flips: bool,
    rotations: bool,
) -> Any:
    """The graph: plan a batch, read its windows in parallel, make LR, turn, batch."""
    from srgan_jax.data.tensorflow import tf

    margin, crop, scale = windows.margin, windows.crop, windows.scale
    # In double precision, since the weights of a scale such as 3 are not dyadic.
    matrix = tf.constant(resize_matrix(crop + 2 * margin, Fraction(1, scale))[2:-2])

    def shrink_rows(image: Any) -> Any:
        shrunk = tf.tensordot(matrix, tf.cast(image, tf.float64), 1)
        return tf.floor(tf.clip_by_value(shrunk, 0, 255) + (0.5 + 1e-9))

    def transpose(image: Any) -> Any:
        return tf.transpose(image, [1, 0, 2])

    def example(row: Any) -> dict[str, Any]:
        window = tf.numpy_function(windows, [row], tf.uint8, stateful=False)
        window.set_shape([crop + 2 * margin, crop + 2 * margin, 3])
        lr = transpose(shrink_rows(transpose(shrink_rows(window))))
        hr = window[margin:-margin, margin:-margin]
        pair = {"lr": tf.cast(lr, tf.uint8), "hr": hr}
        return {name: turned(image, row[3], row[4]) for name, image in pair.items()}

    def turned(image: Any, flip: Any, turns: Any) -> Any:
        if flips:
            image = tf.cond(flip == 1, lambda: image[:, ::-1], lambda: image)
        if rotations:
            image = tf.image.rot90(image, tf.cast(turns, tf.int32))
        return image

    def rows(step: Any) -> Any:
        planned = tf.numpy_function(plan, [step], tf.int64, stateful=False)
        return tf.ensure_shape(planned, [share, 5])

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    steps = steps.take_while(lambda _: tf.numpy_function(windows.wanted, [], tf.bool))
    examples = (
        steps.map(rows).unbatch().map(example, tf.data.AUTOTUNE, deterministic=True)
    )
    return examples.batch(share, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


class _Batches(Iterator[dict[str, Image]]):
    def __init__(self, dataset: Any, windows: "_Windows") -> None:
        self._batches = dataset.as_numpy_iterator()
        self._windows = windows
        # TensorFlow's threads must have left Python before the dataset is deleted and
        # before the interpreter ends: either would wait for the other for ever.
        weakref.finalize(self, _drain, self._batches, windows)

    def __next__(self) -> dict[str, Image]:
        from srgan_jax.data.tensorflow import tf

        try:
            return next(self._batches)
        except tf.errors.OpError:
            if self._windows.failure is None:
                raise
            # Rather than TensorFlow's account of it.
            raise self._windows.failure from None


def _drain(batches: Iterator[Any], windows: "_Windows") -> None:
    from srgan_jax.data.tensorflow import tf

    windows.closed = True
    while True:
        try:
            next(batches)
        except StopIteration:
            return
        except tf.errors.OpError:
            continue


class _Windows:
    """Reads crops with the margin that the LR of their border pixels needs."""

    def __init__(
        self,
        source: sources.Source,
        crop: int,
        scale: int,
        border: str,
        cache_bytes: int | None,
    ) -> None:
        self.source = source
        self.crop = crop
        self.scale = scale
        self.border = border
        self.margin = 2 * scale  # the widened cubic reaches two LR pixels
        self.failure: Exception | None = None
        self.closed = False
        self._kept: dict[int, Image] = {}
        self._room = _default_cache_bytes() if cache_bytes is None else cache_bytes
        self._lock = threading.Lock()

    def __call__(self, row: npt.NDArray[np.int64]) -> Image:
        """uint8 `[crop + 2 margin, crop + 2 margin, 3]` for a row of the plan."""
        try:
            return self._read(int(row[0]), row[1:3])
        except Exception as error:
            self.failure = self.failure or error
            raise

    def wanted(self) -> np.bool_:
        """Whether further batches are."""
        return np.bool_(not self.closed)

    def _read(self, index: int, corner: npt.NDArray[np.int64]) -> Image:
        reach = np.arange(-self.margin, self.crop + self.margin)
        size = self.source.sizes[index] // self.scale * self.scale
        rows, columns = (
            fold(start + reach, int(pixels), self.border)
            for start, pixels in zip(corner, size, strict=True)
        )
        top, left = rows.min(), columns.min()
        part = self._part(index, top, left, rows.max() + 1, columns.max() + 1)
        if part.shape[:2] == (len(rows), len(columns)):
            return part  # well inside
        return part[rows - top][:, columns - left]

    def _part(self, index: int, top: int, left: int, bottom: int, right: int) -> Image:
        if self.source.jpeg[index]:
            return self._jpeg_part(index, top, left, bottom, right)
        return self._whole(index)[top:bottom, left:right]

    def _jpeg_part(
        self, index: int, top: int, left: int, bottom: int, right: int
    ) -> Image:
        from srgan_jax.data.tensorflow import tf

        height, width = self.source.sizes[index]
        y, x = max(0, top - _JPEG_MARGIN), max(0, left - _JPEG_MARGIN)
        end_y = min(height, bottom + _JPEG_MARGIN)
        end_x = min(width, right + _JPEG_MARGIN)
        try:
            decoded = tf.io.decode_and_crop_jpeg(
                self.source.load(index),
                [y, x, end_y - y, end_x - x],
                channels=3,
                dct_method="INTEGER_ACCURATE",  # Pillow's
            )
        except tf.errors.InvalidArgumentError as error:
            raise sources.ImageError(
                f"{self.source.labels[index]}: damaged or changed since training began "
                f"({error.message})"
            ) from error
        return decoded.numpy()[top - y : bottom - y, left - x : right - x]

    def _whole(self, index: int) -> Image:
        image = self._kept.get(index)
        if image is None:
            image = self.source.image(index)
            with self._lock:
                # Nothing is ever put out again: an epoch visits every photograph once,
                # so that any that stays serves as well as any other.
                if index not in self._kept and image.nbytes <= self._room:
                    self._kept[index] = image
                    self._room -= image.nbytes
        return image


def _default_cache_bytes() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(8 << 30, memory // 2)


class Pair(NamedTuple):
    """An image of an evaluation set.

    Attributes:
        name: the HR file's name without its extension.
        lr: uint8 `[height, width, 3]`.
        hr: uint8 `[scale * height, scale * width, 3]`.
        grey: whether the HR file has a single channel, which protocols score apart.
    """

    name: str
    lr: Image
    hr: Image
    grey: bool


def evaluation_pairs(
    spec: str,
    *,
    scale: int,
    border: str = "mirrored",
    lr_dir: str | os.PathLike[str] | None = None,
) -> list[Pair]:
    """An evaluation set: HR cut to a multiple of `scale`, LR by MATLAB's bicubic.

    Args:
        spec: as for `sources.open_source`; of `tfds:NAME` the split `validation`
            unless named. In a folder of pairs (`X_HR.png` beside `X_LR.png`, as the
            SelfExSR supplementary has them) the supplied LR is taken as it is.
        scale: HR size over LR size.
        border: of the LR that is made here.
        lr_dir: a folder with the LR of each file of a `folder:` spec, of the same name
            or with `x4` (the scale) behind it, as DIV2K has it.

    Raises:
        sources.SourceError: no such set, or a pair that is not complete.
        sources.ImageError: a file that cannot be read.
        ValueError: LR and HR whose sizes do not belong together.
    """
    kind, _, argument = spec.partition(":")
    if kind == "folder" and argument:
        return _folder_pairs(Path(argument), scale, border, lr_dir)
    if lr_dir is not None:
        raise sources.SourceError(
            f"An LR folder goes with 'folder:PATH', not {spec!r}."
        )
    if kind == "tfds" and ":" not in argument:
        spec += ":validation"
    source = sources.open_source(spec, minimum_size=scale)
    return [
        _pair(label, source.image(index), None, False, scale, border)
        for index, label in enumerate(source.labels)
    ]


def _folder_pairs(
    folder: Path,
    scale: int,
    border: str,
    lr_dir: str | os.PathLike[str] | None,
) -> list[Pair]:
    files = sources.image_files(folder)
    if lr_dir is not None:
        candidates = sources.image_files(Path(lr_dir))
    elif any(file.stem.endswith("_HR") for file in files):
        candidates = [file for file in files if file.stem.endswith("_LR")]
        files = [file for file in files if file.stem.endswith("_HR")]
    else:
        candidates = []
    lr_files = {file.stem: file for file in candidates}
    pairs = []
    for file in files:
        stems = (
            file.stem,
            f"{file.stem}x{scale}",
            file.stem.removesuffix("_HR") + "_LR",
        )
        lr_file = next((lr_files[s] for s in stems if s in lr_files), None)
        if lr_files and lr_file is None:
            raise sources.SourceError(
                f"There is no LR picture for {file}: expected {' or '.join(stems)}."
            )
        lr = None if lr_file is None else sources.read_image(lr_file)
        grey = _is_grey(file)
        pairs.append(
            _pair(file.stem, sources.read_image(file), lr, grey, scale, border)
        )
    return pairs


def _pair(
    name: str, hr: Image, lr: Image | None, grey: bool, scale: int, border: str
) -> Pair:
    hr = mod_crop(hr, scale)
    if not hr.size:
        raise ValueError(f"{name} is smaller than {scale}x{scale} pixels.")
    if lr is None:
        lr = imresize(hr, Fraction(1, scale), border=border)
    elif (scale * lr.shape[0], scale * lr.shape[1]) != hr.shape[:2]:
        raise ValueError(
            f"{name}: an LR picture of {lr.shape[1]}x{lr.shape[0]} does not belong to "
            f"an HR one of {hr.shape[1]}x{hr.shape[0]} at scale {scale}."
        )
    return Pair(name, lr, hr, grey)


def _is_grey(file: Path) -> bool:
    with PIL.Image.open(file) as image:
        return len(image.getbands()) == 1 and image.mode != "P"
