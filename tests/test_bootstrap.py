"""Bootstrap confidence intervals of the difference of two rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srgan_jax.evaluation import bootstrap
from srgan_jax.evaluation.scores import Result, Score


def _row(name, psnrs, lpips=None):
    scores = (Score(str(i), psnr, 0.5, lpips) for i, psnr in enumerate(psnrs))
    return Result(name, "set", "standard", tuple(scores))


@given(st.lists(st.floats(10, 50), min_size=2, max_size=20), st.floats(-3, 3))
def test_a_constant_difference_has_an_interval_of_width_zero(psnrs, shift):
    found = bootstrap.differences(
        _row("a", [p + shift for p in psnrs]), _row("b", psnrs)
    )
    assert found["psnr"] == pytest.approx((shift, shift, shift), abs=1e-9)
    assert found["ssim"] == (0, 0, 0)
    assert "lpips" not in found


def test_the_interval_is_normal_for_many_images():
    rng = np.random.default_rng(0)
    base, delta = rng.normal(30, 4, 400), rng.normal(0.1, 1.0, 400)
    found = bootstrap.differences(_row("a", base + delta), _row("b", base))["psnr"]
    error = delta.std() / math.sqrt(400)
    assert found.mean == pytest.approx(delta.mean())
    assert found.low == pytest.approx(delta.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(delta.mean() + 1.96 * error, abs=0.1 * error)


def test_text_says_whether_a_difference_is_significant():
    rows = [_row("a", [31, 29], 0.1), _row("b", [30, 30], 0.2)]
    text = bootstrap.describe(rows, "a", "b").splitlines()
    assert text[0] == "set, standard: a minus b, mean of 2 images [95 % interval]"
    assert text[1].strip().startswith("PSNR  +0.000 dB [-1.000, +1.000]")
    assert text[1].endswith("not significant on these images")
    assert text[3] == "  LPIPS -0.1000 [-0.1000, -0.1000]"


def test_a_single_image_and_infinite_scores_are_refused():
    with pytest.raises(
        ValueError, match="has 1 image: a comparison needs at least two"
    ):
        bootstrap.differences(_row("a", [30]), _row("b", [31]))
    with pytest.raises(ValueError, match="whose psnr is infinite"):
        bootstrap.differences(_row("a", [30, math.inf]), _row("b", [31, 30]))
