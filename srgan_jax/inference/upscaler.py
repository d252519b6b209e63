"""Applies a generator to images of any size.

An image is processed in windows, with one compiled program for each shape of windows.
The device's memory therefore does not limit the size of the image.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.choices import one_of
from srgan_jax.inference import tiles
from srgan_jax.inference.fold import fold
from srgan_jax.inference.receptive_field import receptive_field
from srgan_jax.kernels.inference import Window
from srgan_jax.models import registry

PADDINGS = ("symmetric", "zero")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Upscaler:
    """Upscales images by `scale` with one generator.

    Attributes:
      settings: settings of the generator.
      scale: factor in height and in width.
      halo: radius of the receptive field, in LR pixels.
      tile: side of a window's core in LR pixels. With a number, all images share one
        compiled program. With None, windows grow with the image, in steps and up to a
        limit. A smaller tile takes less memory and more time; results differ only by
        rounding.
      padding: how images are padded at their borders. 'symmetric' pads with the mirror
        image, as far as the receptive field reaches, and avoids dark borders. 'zero' is
        the network's own zero padding, as in training.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        variables: Mapping[str, Any],
        *,
        tile: int | None = None,
        dtype: jax.typing.DTypeLike = jnp.float32,
        padding: str = "zero",
    ):
        if tile is not None and tile < 1:
            raise ValueError(f"tile is {tile}; expected a positive number of pixels")
        network = registry.create("generator", settings, dtype=jnp.dtype(dtype))
        network, variables = fold(network, variables)
        self.settings = dict(settings)
        self.scale = network.scale
        self.halo, margin = receptive_field(network, variables)
        self.tile = tile
        self.padding = one_of("padding", padding, PADDINGS)
        self._variables = jax.device_put(variables)
        self._program = functools.partial(_upscale, network, margin)

    def __call__(
        self, image: np.ndarray, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Upscales one image.

        Args:
          image: uint8 or uint16 `[h, w, 3]` RGB or `[h, w]` grey.
          progress: called with the number of windows done and the number of all
            windows.

        Returns:
          The image's dtype, `[scale h, scale w, 3]` or `[scale h, scale w]`.

        Raises:
          ValueError: the image has another dtype or shape, or is empty.
        """
        image = np.asarray(image)
        _check(image)
        height, width, *colours = image.shape
        scale = self.scale
        border = self.halo if self.padding == "symmetric" else 0
        plan = tiles.plan(height, width, self.halo, self.tile, border)
        sr = np.empty((scale * height, scale * width, *colours), image.dtype)
        done = 0
        for windows, result in _one_ahead(self._results(image, plan, border)):
            for (rows, columns), piece in zip(
                windows, np.asarray(result), strict=False
            ):
                sr[rows.core(scale), columns.core(scale)] = piece[
                    rows.core_within(scale), columns.core_within(scale)
                ]
            done += len(windows)
            if progress:
                progress(done, len(plan.windows))
        return sr

    def _results(
        self, image: np.ndarray, plan: tiles.Plan, border: int
    ) -> Iterator[tuple[Sequence[tiles.Window], jax.Array]]:
        """Yields batches of windows and their SR, which may still be computing."""
        height, width = plan.sides
        margins = [(border, border)] * 2 + [(0, 0)] * (image.ndim - 2)
        image = np.pad(image, margins, mode="symmetric")
        size = np.minimum(image.shape[:2], plan.sides).astype(np.int32)
        for i in range(0, len(plan.windows), plan.batch):
            windows = plan.windows[i : i + plan.batch]
            lr = np.zeros((plan.batch, *plan.sides, *image.shape[2:]), image.dtype)
            for window, (rows, columns) in zip(lr, windows, strict=False):
                y, x = rows.start + border, columns.start + border
                window[: size[0], : size[1]] = image[y : y + height, x : x + width]
            listed = plan.cells(windows)
            cells = np.zeros((plan.most_cells, 3), np.int32)
            cells[: len(listed)] = listed
            yield (
                windows,
                self._program(
                    self._variables, lr, size, cells, len(listed), cell=plan.cell
                ),
            )


@functools.partial(jax.jit, static_argnames=("network", "margin", "cell"))
def _upscale(
    network: Any,
    margin: int,
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
      margin: radius of the receptive field of `reconstruct`, in LR pixels.
      variables: the generator's variables.
      windows: unsigned integers `[batch, h, w, 3]` or `[batch, h, w]`.
      size: `[2]`, number of rows and columns of each window that lie in the image.
      cells: the cells, see Plan.cells; rows from `count` on are ignored.
      count: number of cells to compute.
      cell: height and width of a cell.

    Returns:
      SR `[batch, scale h, scale w, ...]` in the dtype of `windows`; zero outside the
      cells.
    """
    batch, height, width, *colours = windows.shape
    scale, m = network.scale, margin
    top = np.iinfo(windows.dtype).max
    lr = windows.astype(jnp.float32) / top
    if not colours:
        lr = jnp.repeat(lr[..., None], 3, axis=-1)
    whole = Window(lr, jnp.zeros_like(size), size)
    x = network.apply(variables, whole, method="features").to_array()
    x = jnp.pad(x, ((0, 0), (m, m), (m, m), (0, 0)))
    shape = (1, cell[0] + 2 * m, cell[1] + 2 * m, x.shape[-1])

    def reconstruct(i: jax.Array, canvas: jax.Array) -> jax.Array:
        window = cells[i, 0]
        # A cell that would extend beyond its window is moved back into it.
        start = jnp.minimum(cells[i, 1:], np.subtract((height, width), cell))
        near = lax.dynamic_slice(x, (window, *start, 0), shape)
        part = Window(near, start - m, size, spare=m)
        sr = network.apply(variables, part, method="reconstruct")
        levels = jnp.floor(((sr if colours else sr @ LUMA) + 1) * (top / 2) + 0.5)
        levels = jnp.clip(levels, 0, top).astype(canvas.dtype)
        corner = (window, *(scale * start), *(0 for _ in colours))
        return lax.dynamic_update_slice(canvas, levels, corner)

    canvas = jnp.zeros((batch, scale * height, scale * width, *colours), windows.dtype)
    return lax.fori_loop(0, count, reconstruct, canvas)


def _check(image: np.ndarray) -> None:
    right_shape = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)
    if image.dtype not in (np.uint8, np.uint16) or not right_shape or not image.size:
        raise ValueError(
            f"the image is {image.dtype} {list(image.shape)}; expected uint8 or uint16 "
            "[height, width, 3] or [height, width] with at least one pixel"
        )


def _one_ahead(items: Iterator) -> Iterator:
    """Yields each item only after the next one is requested, to keep the device busy.

    The device computes the next batch while the caller copies the current one.
    """
    before = next(items)
    for item in items:
        yield before
        before = item
    yield before
