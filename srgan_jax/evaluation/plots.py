"""SVG plots: scores against each other, and values over the steps of a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 640, 400  # size of the drawing; a page scales it
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 40, 48  # margins around the axes
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#444444")
MOST_POINTS = 400  # a curve with more points is averaged down to these
CHARACTER = 7.2  # approximate width of a character in a label


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
    """Draws labelled points, with lines behind them.

    Args:
      points: the points; their values are finite.
      x_label: label of the horizontal axis.
      y_label: label of the vertical axis.
      lines: the vertices of dashed lines.
    """
    axes = _Axes.around([(p.x, p.y) for p in points])
    drawn = [axes.draw(x_label, y_label)]
    for line in lines:
        corners = " ".join(
            "{:.1f},{:.1f}".format(*axes.place((corner.x, corner.y))) for corner in line
        )
        drawn.append(
            f'<polyline points="{corners}" fill="none" stroke="#888" '
            'stroke-dasharray="5 4"/>'
        )
    places = [axes.place((point.x, point.y)) for point in points]
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for i, (point, (x, y)) in enumerate(zip(points, places, strict=True)):
        box = _place_label(x, y, CHARACTER * len(point.label), taken)
        taken.append(box)
        drawn.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_colour(i)}"/>'
            f'<text x="{(box.left + box.right) / 2:.1f}" y="{box.bottom - 4:.1f}" '
            f'text-anchor="middle">{escape(point.label)}</text>'
        )
    return _svg(drawn)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> str:
    """Draws curves with a legend; pieces of curves with many points are averaged.

    Args:
      series: maps names to points with finite values, ordered by x.
      x_label: label of the horizontal axis.
      y_label: label of the vertical axis.
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


class _Box(NamedTuple):
    """A rectangle of the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        """Returns True if the rectangles overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def _place_label(x: float, y: float, width: float, taken: Sequence[_Box]) -> _Box:
    """Finds the free space nearest to a point for its label.

    If there is none, the label covers others.
    """
    half, end = width / 2, WIDTH - width
    candidates = [(x + 9, y), (x - 9 - width, y)]
    for distance in (15, 30, 45):
        for middle in (y - distance, y + distance):
            candidates += [(x - half, middle), (x + 9, middle), (x - 9 - width, middle)]
    boxes = [_Box(left, y - 8, left + width, y + 8) for left, y in candidates]
    for box in boxes:
        across = box.left > LEFT and box.right < WIDTH
        up = box.top > 0 and box.bottom < HEIGHT - BOTTOM
        if across and up and not any(box.meets(other) for other in taken):
            return box
    return boxes[0]._replace(left=min(x + 9, end), right=min(x + 9, end) + width)


class _Axes(NamedTuple):
    """The axes of a plot and the range of values that they show."""

    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]]) -> "_Axes":
        low, high = [], []
        for values in zip(*points, strict=True):
            first, last = min(values), max(values)
            margin = 0.1 * (last - first) or abs(first) * 0.05 or 1.0
            low.append(first - margin)
            high.append(last + margin)
        return cls((low[0], low[1]), (high[0], high[1]))

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        """Maps values to the drawing's coordinates."""
        across, up = (
            (value - low) / (high - low)
            for value, low, high in zip(point, self.low, self.high, strict=True)
        )
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def draw(self, x_label: str, y_label: str) -> str:
        """Draws the grid, its values and the labels of both axes."""
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
    """Returns about five round values between `low` and `high`, with their text."""
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
