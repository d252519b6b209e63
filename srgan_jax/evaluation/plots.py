"""Plots as SVG text: scores against each other, and values over the steps of a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 640, 400  # of the drawing; a page scales it
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 40, 48  # margins around the axes
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#444444")
MOST_POINTS = 400  # of a curve; more are averaged
CHARACTER = 7.2  # width of a character of a label, about


class Point(NamedTuple):
    """A labelled point of a scatter plot."""

    label: str
    x: float
    y: float


def scatter(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    lines: Iterable[Sequence[Point]] = (),
) -> str:
    """Draws labelled points, and lines behind them.

    Args:
      points: finite values.
      x_label: what is across.
      y_label: what is up.
      lines: the corners of dashed lines.
    """
    axes = _Axes.around([(p.x, p.y) for p in points])
    drawn = [axes.draw(x_label, y_label)]
    for line in lines:
        places = (axes.place((corner.x, corner.y)) for corner in line)
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(
            f'<polyline points="{corners}" fill="none" stroke="#888" '
            'stroke-dasharray="5 4"/>'
        )
    taken: list[tuple[float, float]] = []
    for i, point in enumerate(points):
        x, y = axes.place((point.x, point.y))
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_colour(i)}"/>')
        # A label stands beside its point, inside the axes and below those it meets.
        width = CHARACTER * len(point.label)
        at_end = x + 10 + width > WIDTH - 4
        start = x - 10 - width if at_end else x + 10
        while any(abs(start - u) < width and abs(y - v) < 15 for u, v in taken):
            y += 15
        taken.append((start, y))
        anchor = "end" if at_end else "start"
        drawn.append(
            f'<text x="{x - 10 if at_end else x + 10:.1f}" y="{y + 4:.1f}" '
            f'text-anchor="{anchor}">{escape(point.label)}</text>'
        )
    return _svg(drawn)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> str:
    """Draws lines with a legend; a curve of many points is averaged piece by piece.

    Args:
      series: name to points in the order of x, finite.
      x_label: what is across.
      y_label: what is up.
    """
    thinned = {name: _thin(points) for name, points in series.items() if points}
    axes = _Axes.around([point for points in thinned.values() for point in points])
    drawn = [axes.draw(x_label, y_label)]
    x = float(LEFT)
    for i, (name, points) in enumerate(thinned.items()):
        corners = " ".join(f"{u:.1f},{v:.1f}" for u, v in map(axes.place, points))
        drawn.append(
            f'<polyline points="{corners}" fill="none" stroke="{_colour(i)}" '
            'stroke-width="1.5"/>'
        )
        if len(points) == 1:
            u, v = axes.place(points[0])
            drawn.append(
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{_colour(i)}"/>'
            )
        drawn.append(
            f'<text x="{x:.0f}" y="20" fill="{_colour(i)}">{escape(name)}</text>'
        )
        x += CHARACTER * len(name) + 18
    return _svg(drawn)


class _Axes(NamedTuple):
    """The range of values that the drawing's area shows."""

    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]]) -> "_Axes":
        low, high = [], []
        for values in zip(*points, strict=True):
            first, last = min(values), max(values)
            margin = 0.08 * (last - first) or abs(first) * 0.05 or 1.0
            low.append(first - margin)
            high.append(last + margin)
        return cls((low[0], low[1]), (high[0], high[1]))

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        """Values to the drawing's coordinates."""
        across, up = (
            (value - low) / (high - low)
            for value, low, high in zip(point, self.low, self.high, strict=True)
        )
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def draw(self, x_label: str, y_label: str) -> str:
        """The grid, its values and the labels of both axes."""
        drawn = []
        bottom, end = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value, text in _ticks(self.low[0], self.high[0]):
            x, _ = self.place((value, self.low[1]))
            drawn += [
                f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#ddd"/>',
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
                f"{text}</text>",
            ]
        for value, text in _ticks(self.low[1], self.high[1]):
            _, y = self.place((self.low[0], value))
            drawn += [
                f'<path d="M{LEFT} {y:.1f}H{end}" stroke="#ddd"/>',
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>',
            ]
        middle = (LEFT + end) / 2, (TOP + bottom) / 2
        drawn += [
            f'<text x="{middle[0]}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{escape(x_label)}</text>",
            f'<text transform="translate(14 {middle[1]}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>',
        ]
        return "".join(drawn)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five round values between two others, with their text."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    values = [i * step for i in range(first, last + 1)]
    return [(value, f"{value:.{digits}f}") for value in values]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // MOST_POINTS)
    pieces = [points[i : i + size] for i in range(0, len(points), size)]
    return [
        (sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece))
        for piece in pieces
    ]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _svg(drawn: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'role="img" font-family="sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f"{''.join(drawn)}</svg>\n"
    )
