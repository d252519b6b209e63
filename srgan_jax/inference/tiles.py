"""Where windows and cells lie: how a picture of any size goes through fixed shapes.

A window is what the network sees at a time: its core, which it gives, and round it a
halo of the receptive field. A window reaches beyond the picture only if the picture is
smaller than it. So each edge of a window either is the picture's, where zero padding
belongs, or cuts the picture a halo away from the core. A core is reconstructed by the
cell.
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
    """A window along one axis, in LR pixels: its start, its core's first and end."""

    start: int
    first: int
    end: int

    def core(self, scale: int) -> slice:
        """The core in the upscaled picture."""
        return slice(scale * self.first, scale * self.end)

    def core_within(self, scale: int) -> slice:
        """The core in the upscaled window."""
        start = self.start
        return slice(scale * (self.first - start), scale * (self.end - start))


Window = tuple[Part, Part]  # rows, columns


class Plan(NamedTuple):
    """Windows of a picture, the sides of each and of its cells, windows at a time."""

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


def plan(height: int, width: int, halo: int, tile: int | None) -> Plan:
    """Covers a picture by windows with cores of `tile` LR pixels a side.

    With None one window takes the whole picture, its sides rounded up to `STEP`, or as
    few windows as sides of about `SIDE` allow.
    """
    if tile is None:
        sides = _automatic_side(height, halo), _automatic_side(width, halo)
        cell = _equal(sides[0], CELL), _equal(sides[1], CELL)
        batch = 1
    else:
        side = tile + 2 * halo
        side_cell = min(side, _equal(max(tile, STEP), CELL))
        sides, cell = (side, side), (side_cell, side_cell)
        batch = max(1, BATCH_PIXELS // side**2)
    rows, columns = _parts(height, sides[0], halo), _parts(width, sides[1], halo)
    return Plan(list(itertools.product(rows, columns)), sides, cell, batch)


def _automatic_side(length: int, halo: int) -> int:
    most = max(SIDE, 4 * halo)
    count = 1 + _count(max(0, length - most), most - 2 * halo)
    return _count(length + (count - 1) * 2 * halo, count * STEP) * STEP


def _parts(length: int, side: int, halo: int) -> list[Part]:
    if length <= side:
        return [Part(0, 0, length)]
    step = side - 2 * halo
    count = 1 + _count(length - side, step)
    edges = [0, *range(halo + step, halo + count * step, step), length]
    return [
        Part(min(i * step, length - side), first, end)
        for i, (first, end) in enumerate(itertools.pairwise(edges))
    ]


def _count(length: int, side: int) -> int:
    """How many parts of at most `side` make up `length`."""
    return -(-length // side)


def _equal(length: int, side: int) -> int:
    """The side of equal parts of `length` that are at most `side`."""
    return _count(length, _count(length, side))
