"""Labels of SVG plots."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from srgan_jax.evaluation import plots
from srgan_jax.evaluation.plots import CHARACTER, HEIGHT, WIDTH, Point

SCORES = st.floats(0, 100, allow_subnormal=False)


def labels(points: list[Point]) -> list[tuple[float, float, float]]:
    """The left end, right end and baseline of each point's label."""
    svg = plots.scatter(points, x_label="", y_label="")
    found = re.findall(r'<circle[^>]*/><text x="([\d.-]+)" y="([\d.-]+)"', svg)
    halves = [CHARACTER * len(point.label) / 2 for point in points]
    return [
        (float(x) - half, float(x) + half, float(y))
        for (x, y), half in zip(found, halves, strict=True)
    ]


def test_labels_of_near_points_do_not_overlap() -> None:
    scores = {
        "srresnet": (32.01, 0.1772),
        "srgan-mse": (29.40, 0.1186),
        "srgan-vgg22": (29.58, 0.1090),
        "srgan-vgg54": (29.71, 0.0795),
        "srgan": (30.30, 0.0790),
        "krasserm-srresnet": (31.99, 0.1785),
        "krasserm-srgan": (29.17, 0.0880),
        "nearest": (26.25, 0.3961),
    }
    placed = labels([Point(name, *score) for name, score in scores.items()])
    for a, b in itertools.combinations(placed, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or abs(a[2] - b[2]) >= 16


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=12))
def test_labels_lie_within_the_drawing(scores: list[tuple[float, float]]) -> None:
    for left, right, baseline in labels([Point("a long label", *s) for s in scores]):
        assert left > 0
        assert right <= WIDTH
        assert 0 < baseline < HEIGHT
