"""Divides an image of any size into windows and cells of fixed shapes.

A window is the input of one call of the network. It consists of a core, for which SR is
computed, and a halo around it as wide as the receptive field. A window extends beyond
the image only if the image is smaller than the window. Each edge of a window is
therefore either an edge of the image, where zero padding belongs, or a halo away from
the core. SR of the core is reconstructed cell by cell.

An image may be padded at its borders. Positions are relative to the first pixel of the
image without padding, so that positions in the padding may be negative.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIDE = 768  # largest side of an automatic window: feature maps take 0.15 GB each
STEP = 32  # sides of automatic windows are multiples, to compile few programs
CELL = 64  # largest side of a cell, so that its HR feature maps fit into the cache
BATCH_PIXELS = 256 * 256  # small windows are batched up to about this number of pixels


class Part(NamedTuple):
    """A window along one axis, in LR pixels.

    Attributes:
      start: first pixel of the window.
      first: first pixel of the core.
      end: last pixel of the core plus one.
    """

    start: int
    first: int
    end: int

    def core(self, scale: int) -> slice:
        """The slice of the core in the upscaled image."""
        return slice(scale * self.first, scale * self.end)

    def core_within(self, scale: int) -> slice:
        """The slice of the core in the upscaled window."""
        start = self.start
        return slice(scale * (self.first - start), scale * (self.end - start))


Window = tuple[Part, Part]  # rows, columns


class Plan(NamedTuple):
    """How an image is divided into windows and cells.

    Attributes:
      windows: all windows of each image.
      sides: height and width of every window.
      cell: height and width of every cell.
      batch: number of windows in a batch, of one image or of several.
    """

    windows: list[Window]
    sides: tuple[int, int]
    cell: tuple[int, int]
    batch: int

    def cells(self, windows: Sequence[Window]) -> np.ndarray:
        """The cells of a batch of windows, int32 `[n, 3]`.

        The columns are the index of the window, and the cell's first row and column
        within the window.
        """
        listed = [
            (i, row, column)
            for i, (rows, columns) in enumerate(windows)
            for row in range(rows.first, rows.end, self.cell[0])
            for column in range(columns.first, columns.end, self.cell[1])
        ]
        starts = [(0, rows.start, columns.start) for rows, columns in windows]
        cells = np.array(listed, np.int32)
        return cells - np.array(starts, np.int32)[cells[:, 0]]

    @property
    def most_cells(self) -> int:
        """The largest number of cells in a batch of windows."""
        rows, columns = map(_count, self.sides, self.cell)
        return self.batch * rows * columns


def plan(
    height: int,
    width: int,
    halo: int,
    tile: int | None,
    border: int = 0,
    count: int = 1,
) -> Plan:
    """Covers images of equal size with windows.

    Args:
      height: height of each image, in LR pixels.
      width: width of each image, in LR pixels.
      halo: radius of the receptive field, in LR pixels.
      tile: side of each core, unless None would give a smaller window. None takes one
        window for the whole image; for an image above about `SIDE` it takes as few
        windows as possible.
      border: width of the padding of the images, at most `halo`.
      count: number of images. A single image's windows have sides rounded up to
        multiples of `STEP`; several images are worth a program of their own.
    """
    step = STEP if count == 1 else 1
    most = None if tile is None else tile + 2 * halo
    axes = [_axis(length, halo, border, step, most) for length in (height, width)]
    (rows, *_), (columns, *_) = axes
    windows = list(itertools.product(rows, columns))
    sides, cell = (axes[0][1], axes[1][1]), (axes[0][2], axes[1][2])
    batch = min(count * len(windows), max(1, BATCH_PIXELS // (sides[0] * sides[1])))
    return Plan(windows, sides, cell, batch)


def _axis(
    length: int, halo: int, border: int, step: int, most: int | None
) -> tuple[list[Part], int, int]:
    """Returns the parts along one axis, their side, and the side of a cell."""
    padded = length + 2 * border
    side = _automatic_side(padded, halo, step)
    if most is not None:
        side = min(side, most)
    if padded <= side:
        return [Part(-border, 0, length)], side, _equal_part(side - 2 * border, CELL)
    cell = min(side - 2 * border, _equal_part(max(side - 2 * halo, STEP), CELL))
    return _parts(length, side, halo, border), side, cell


def _automatic_side(length: int, halo: int, step: int) -> int:
    most = max(SIDE, 4 * halo)
    count = 1 + _count(max(0, length - most), most - 2 * halo)
    return _count(length + (count - 1) * 2 * halo, count * step) * step


def _parts(length: int, side: int, halo: int, border: int) -> list[Part]:
    """Cuts an axis into more than one part."""
    padded = length + 2 * border
    step = side - 2 * halo
    count = 1 + _count(padded - side, step)
    first_edge = halo - border + step
    edges = [0, *range(first_edge, first_edge + (count - 1) * step, step), length]
    return [
        Part(min(i * step, padded - side) - border, first, end)
        for i, (first, end) in enumerate(itertools.pairwise(edges))
    ]


def _count(length: int, side: int) -> int:
    """The number of parts with at most `side` pixels that make up `length`."""
    return -(-length // side)


def _equal_part(length: int, side: int) -> int:
    """The size of equal parts of `length` that have at most `side` pixels."""
    return _count(length, _count(length, side))
