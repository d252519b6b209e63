"""Sizes of outputs: as requested, but never above the network's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srgan_jax.inference.sizes import Size


@given(
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    ratio=st.floats(0.01, 4),
)
def test_sizes_keep_the_aspect_ratio(height: int, width: int, ratio: float) -> None:
    rows, columns = Size(scale=ratio).of(height, width, 4)
    assert abs(rows - ratio * height) <= 1
    assert abs(columns - ratio * width) <= 1
    assert Size(width=columns).of(height, width, 4)[1] == columns
    assert Size(height=rows).of(height, width, 4)[0] == rows
    longest = max(Size(max_side=columns).of(height, width, 4))
    assert longest == min(columns, 4 * max(height, width))


def test_given_sides_are_exact_and_never_above_the_networks_size() -> None:
    assert Size().of(12, 14, 4) == (48, 56)
    assert Size(width=10, height=40).of(12, 14, 4) == (40, 10)
    assert Size(max_side=1000).of(12, 14, 4) == (48, 56)
    assert Size(scale=4).of(12, 14, 4) == (48, 56)
    for size in (
        Size(scale=4.5),
        Size(width=57),
        Size(height=49),
        Size(width=1, height=49),
    ):
        with pytest.raises(ValueError, match=r"largest, 56x48 \(x4\)"):
            size.of(12, 14, 4)
