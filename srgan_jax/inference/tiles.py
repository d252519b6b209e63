"""Where windows and cells lie: how an image of any size goes through fixed shapes.

A window is what the network sees at a time: a core, whose pixels it computes, and a
halo of the receptive field around the core. A window reaches beyond the image only
where the image is smaller than the window. So each edge of a window is either an edge
of the image, where zero padding belongs, or cuts the image a halo away from the core.
The core is reconstructed cell by cell.

An image may be continued beyond its borders. All positions count from the image's own
first pixel, so that those of a continued image begin below zero.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIDE = 768  # of the largest window chosen here: 0.15 GB for each array of features
STEP = 32  # window sides are multiples of it, so that few programs serve all sizes
CELL = 64  # largest side of a cell: its HR feature maps stay near the cache
BATCH_PIXELS = 256 * 256  # small windows are gathered up to about as many


class Part(NamedTuple):
    """A window along one axis, in LR pixels.

    Attributes:
      start: first pixel of the window.
      first: first pixel of the core.
      end: pixel behind the last one of the core.
    """

    start: int
    first: int
    end: int

    def core(self, scale: int) -> slice:
        """The core in the upscaled image."""
        return slice(scale * self.first, scale * self.end)

    def core_within(self, scale: int) -> slice:
        """The core in the upscaled window."""
        start = self.start
        return slice(scale * (self.first - start), scale * (self.end - start))


Window = tuple[Part, Part]  # rows, columns


class Plan(NamedTuple):
    """How an image is covered.

    Attributes:
      windows: of each image.
      sides: height and width of every window.
      cell: height and width of every cell.
      batch: number of windows, of one image or several, that are computed at a time.
    """

    windows: list[Window]
    sides: tuple[int, int]
    cell: tuple[int, int]
    batch: int

    def cells(self, windows: Sequence[Window]) -> np.ndarray:
        """int32 `[n, 3]`: index of the window, row and column in it of each cell."""
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
        """How many cells a batch of windows may have."""
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
    """Covers images of equal size by windows.

    Args:
      height: of an image, in LR pixels.
      width: likewise.
      halo: radius of the receptive field.
      tile: largest side of a core inside the image. None takes the whole image in one
        window, or in as few windows as sides of about `SIDE` allow. Without need no
        window is larger than that.
      border: pixels by which an image is continued to each side, at most `halo`.
      count: number of images. The sides of windows of a single image are rounded up to
        `STEP`; several images are worth a program of their own.
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
    """The parts along one axis, their side, and the side of a cell."""
    continued = length + 2 * border
    side = _automatic_side(continued, halo, step)
    if most is not None:
        side = min(side, most)
    if continued <= side:
        return [Part(-border, 0, length)], side, _equal(side - 2 * border, CELL)
    cell = min(side, _equal(max(side - 2 * halo, STEP), CELL))
    return _parts(length, side, halo, border), side, cell


def _automatic_side(length: int, halo: int, step: int) -> int:
    most = max(SIDE, 4 * halo)
    count = 1 + _count(max(0, length - most), most - 2 * halo)
    return _count(length + (count - 1) * 2 * halo, count * step) * step


def _parts(length: int, side: int, halo: int, border: int) -> list[Part]:
    """More than one part, which each have a halo where they cut the image."""
    continued = length + 2 * border
    step = side - 2 * halo
    count = 1 + _count(continued - side, step)
    first_edge = halo - border + step
    edges = [0, *range(first_edge, first_edge + (count - 1) * step, step), length]
    return [
        Part(min(i * step, continued - side) - border, first, end)
        for i, (first, end) in enumerate(itertools.pairwise(edges))
    ]


def _count(length: int, side: int) -> int:
    """How many parts of at most `side` make up `length`."""
    return -(-length // side)


def _equal(length: int, side: int) -> int:
    """The side of equal parts of `length` that are at most `side`."""
    return _count(length, _count(length, side))
