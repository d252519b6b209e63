"""Applies a generator to images of any size.

Images are processed in windows, with one compiled program for each shape of windows.
The device's memory therefore does not limit the size of an image.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.choices import one_of
from srgan_jax.inference import tiles
from srgan_jax.inference.alpha import fill_hidden, resize_alpha
from srgan_jax.inference.fold import fold
from srgan_jax.inference.kinds import open_image
from srgan_jax.inference.receptive_field import receptive_field
from srgan_jax.kernels.dispatch import choose
from srgan_jax.kernels.inference import Window
from srgan_jax.models import registry

DTYPES = ("float32", "bfloat16")
PADDINGS = ("symmetric", "zero")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Width of the mirror image at each border, in LR pixels. The output was compared with
# that for the whole halo of 40 on scikit-image's photographs and on flat images. With
# the included generators the largest change in levels of 255 was 4 at 16, 2 at 18 and 1
# at 20. With krasserm-srgan it was 50 at 4, 24 at 8, 14 at 12, 6 at 16, 2 at 20 and 1
# at 24. 20 instead of 24 saves 2 % of the CPU seconds of many images of 160x120, by
# benchmarks/inference.py --many.
MIRROR = 20


def border_width(padding: str, halo: int) -> int:
    """Returns the width of an image's mirrored borders, in LR pixels.

    Args:
      padding: one of `PADDINGS`.
      halo: radius of the receptive field.

    Raises:
      ValueError: there is no such padding.
    """
    mirrors = one_of("padding", padding, PADDINGS) == "symmetric"
    return min(MIRROR, halo) if mirrors else 0


class Upscaler:
    """Upscales images by `scale` with one generator.

    Example:
      upscaler = srgan_jax.load()
      upscaler(PIL.Image.open("small.jpg")).save("large.png")
      upscaler(array)  # uint8 [h, w, 3] to uint8 [4 h, 4 w, 3]

    Attributes:
      settings: settings of the generator.
      scale: factor in height and in width.
      halo: radius of the receptive field, in LR pixels.
      tile: largest side of a window's core in LR pixels. With a number, all images that
        are larger than such a window share one compiled program. With None, windows
        grow with the image, in steps and up to a limit. A smaller tile takes less
        memory and more time; results differ only by rounding.
      dtype: compute dtype, 'float32' or 'bfloat16'.
      padding: how images are padded at their borders. 'symmetric' pads with the mirror
        image, by `MIRROR` pixels, and avoids dark borders. 'zero' is the network's own
        zero padding, as in training.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        variables: Mapping[str, Any],
        *,
        tile: int | None = None,
        dtype: jax.typing.DTypeLike = "float32",
        padding: str = "zero",
    ):
        """Prepares a generator; nothing is compiled yet.

        Args:
          settings: the generator's settings, as `store.load_generator` returns them.
          variables: the generator's variables, likewise.
          tile: see the attributes; None or at least 1.
          dtype: see the attributes.
          padding: see the attributes.

        Raises:
          ValueError: an argument has none of the values that the attributes list.
        """
        if tile is not None and tile < 1:
            raise ValueError(f"tile is {tile}; expected a positive number of pixels")
        self.settings = dict(settings)
        self.tile = tile
        self.dtype = one_of("dtype", _dtype_name(dtype), DTYPES)
        network = registry.create("generator", settings, dtype=jnp.dtype(self.dtype))
        self._network, variables = fold(network, variables)
        self.scale = network.scale
        self._reaches = receptive_field(self._network, variables)
        self.halo = sum(self._reaches)
        self.padding = padding
        self._border = border_width(padding, self.halo)
        self._variables = jax.device_put(variables)

    def __repr__(self) -> str:
        return (
            f"Upscaler(scale={self.scale}, tile={self.tile}, dtype={self.dtype!r}, "
            f"padding={self.padding!r}, settings={self.settings})"
        )

    def __call__(
        self, image: Any, progress: Callable[[int, int], None] | None = None
    ) -> Any:
        """Upscales one image or a batch of equally large ones.

        Colours are upscaled by the generator, alpha by bicubic.

        Args:
          image: a NumPy or JAX array of uint8, uint16, or float in [0, 1]: `[h, w]`
            grey, `[h, w, 3]` RGB, `[h, w, 4]` RGBA, or a batch `[n, h, w, 3]` or
            `[n, h, w, 4]`. Or a PIL image of 8 bits, or of grey with 16 bits: a palette
            becomes RGB or RGBA, CMYK becomes RGB, and 1 bit becomes grey.
          progress: called with the number of windows done and the number of all
            windows.

        Returns:
          The same kind and type, `scale` times as high and wide.

        Raises:
          ValueError: the image is of another kind, or has no pixel.
        """
        pixels, alpha, close = open_image(image)
        if alpha is not None:
            pixels = np.stack(list(map(fill_hidden, pixels, alpha)))
        sr = self._upscale(pixels, progress)
        if alpha is not None:
            alpha = np.stack([resize_alpha(plane, *sr.shape[1:3]) for plane in alpha])
        return close(sr, alpha)

    def _upscale(
        self, images: np.ndarray, progress: Callable[[int, int], None] | None
    ) -> np.ndarray:
        """Images `[n, h, w, 3]` or `[n, h, w]` to their SR."""
        count, height, width, *colours = images.shape
        scale = self.scale
        cell = choose(default=tiles.CELL, cuda=tiles.GPU_CELL)
        plan = tiles.plan(
            height, width, self.halo, self.tile, self._border, count, cell
        )
        windows = [(i, window) for i in range(count) for window in plan.windows]
        shape = count, scale * height, scale * width, *colours
        sr = np.empty(shape, images.dtype)
        results = self._results(images, plan, windows)
        for start, result in zip(
            range(0, len(windows), plan.batch), results, strict=True
        ):
            batch = windows[start : start + plan.batch]
            for (i, (rows, columns)), piece in zip(batch, result, strict=False):
                sr[i, rows.core(scale), columns.core(scale)] = piece[
                    rows.core_within(scale), columns.core_within(scale)
                ]
            if progress:
                progress(start + len(batch), len(windows))
        return sr

    def _results(
        self,
        images: np.ndarray,
        plan: tiles.Plan,
        windows: list[tuple[int, tiles.Window]],
    ) -> Iterator[np.ndarray]:
        """Computes SR of each batch of windows, two batches at once.

        XLA's convolutions on a CPU are divided into strips of 64 columns, so that one
        batch of narrow windows leaves cores idle. JAX computes programs that are called
        in one thread one after another, hence the threads.
        """
        inputs = self._inputs(images, plan, windows)
        first = next(inputs)
        fixed = self._network, self._reaches, self._border
        # JAX's contexts, such as the default device, are those of the calling thread.
        program = _upscale.lower(*fixed, *first, cell=plan.cell).compile()

        def compute(arguments: Any) -> np.ndarray:
            return np.asarray(program(*arguments))

        with ThreadPoolExecutor(max_workers=2) as threads:
            before = threads.submit(compute, first)
            for arguments in inputs:
                after = threads.submit(compute, arguments)
                yield before.result()
                before = after
            yield before.result()

    def _inputs(
        self,
        images: np.ndarray,
        plan: tiles.Plan,
        windows: list[tuple[int, tiles.Window]],
    ) -> Iterator[tuple[Any, ...]]:
        """The dynamic arguments of `_upscale` for each batch of windows."""
        (height, width), border = plan.sides, self._border
        margins = [(0, 0), *[(border, border)] * 2, *[(0, 0)] * (images.ndim - 3)]
        images = np.pad(images, margins, mode="symmetric")
        size = np.minimum(images.shape[1:3], plan.sides).astype(np.int32)
        for start in range(0, len(windows), plan.batch):
            batch = windows[start : start + plan.batch]
            lr = np.zeros((plan.batch, *plan.sides, *images.shape[3:]), images.dtype)
            for window, (i, (rows, columns)) in zip(lr, batch, strict=False):
                y, x = rows.start + border, columns.start + border
                window[: size[0], : size[1]] = images[i, y : y + height, x : x + width]
            listed = plan.cells([window for _, window in batch])
            cells = np.zeros((plan.most_cells, 3), np.int32)
            cells[: len(listed)] = listed
            yield self._variables, lr, size, cells, len(listed)


@functools.partial(jax.jit, static_argnames=("network", "reaches", "border", "cell"))
def _upscale(
    network: Any,
    reaches: tuple[int, int],
    border: int,
    variables: Any,
    windows: jax.Array,
    size: jax.Array,
    cells: jax.Array,
    count: jax.Array,
    *,
    cell: tuple[int, int],
) -> jax.Array:
    """Upscales a batch of windows, cell by cell.

    Args:
      network: the folded generator.
      reaches: radii of the receptive fields of `features` and `reconstruct`, in LR
        pixels.
      border: number of pixels at each edge of a window that belong to no cell.
      variables: the generator's variables.
      windows: unsigned integers, or floats in [0, 1], `[batch, h, w, 3]` or
        `[batch, h, w]`.
      size: `[2]`, number of rows and columns of each window that lie in the image.
      cells: the cells, see Plan.cells; rows from `count` on are ignored.
      count: number of cells to compute.
      cell: height and width of a cell.

    Returns:
      SR `[batch, scale h, scale w, ...]` in the dtype of `windows`; zero outside the
      cells.
    """
    batch, height, width, *colours = windows.shape
    scale, (reach, m) = network.scale, reaches
    spare = max(0, border - m)
    lr = _to_unit(windows)
    if not colours:
        lr = jnp.repeat(lr[..., None], 3, axis=-1)
    whole = Window(lr, jnp.zeros_like(size), size, spare, reach)
    x = network.apply(variables, whole, method="features").to_array()
    x = jnp.pad(x, ((0, 0), (m, m), (m, m), (0, 0)))
    shape = (1, cell[0] + 2 * m, cell[1] + 2 * m, x.shape[-1])

    def reconstruct(i: jax.Array, canvas: jax.Array) -> jax.Array:
        window = cells[i, 0]
        # A cell that would extend beyond the feature maps is moved back into them.
        furthest = np.subtract((height - spare, width - spare), cell)
        start = jnp.minimum(cells[i, 1:], furthest)
        near = lax.dynamic_slice(x, (window, *(start - spare), 0), shape)
        part = Window(near, start - m, size, spare=m, reach=m)
        sr = network.apply(variables, part, method="reconstruct")
        samples = _from_symmetric(sr if colours else sr @ LUMA, canvas.dtype)
        corner = (window, *(scale * start), *(0 for _ in colours))
        return lax.dynamic_update_slice(canvas, samples, corner)

    canvas = jnp.zeros((batch, scale * height, scale * width, *colours), windows.dtype)
    return lax.fori_loop(0, count, reconstruct, canvas)


def _to_unit(samples: jax.Array) -> jax.Array:
    """Samples of any type to float32 in [0, 1]."""
    if jnp.issubdtype(samples.dtype, jnp.floating):
        return samples
    return samples.astype(jnp.float32) / np.iinfo(samples.dtype).max


def _from_symmetric(sr: jax.Array, dtype: np.dtype) -> jax.Array:
    """SR in [-1, 1] to samples of a type, rounded and clipped to its range."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.clip((sr + 1) / 2, 0, 1)
    top = np.iinfo(dtype).max
    return jnp.clip(jnp.floor((sr + 1) * (top / 2) + 0.5), 0, top).astype(dtype)


def _dtype_name(dtype: jax.typing.DTypeLike) -> str:
    try:
        return jnp.dtype(dtype).name
    except TypeError:
        return str(dtype)
