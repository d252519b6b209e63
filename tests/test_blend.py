"""Interpolation between generators."""

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_jax.weights import layout, store
from srgan_jax.weights.blend import blend
from srgan_jax.weights.layout import WeightsError

TINY = {"scale": 2, "blocks": 1, "channels": 4}


def variables(seed: int, **attributes) -> dict:
    rng = np.random.default_rng(seed)
    shapes = layout.expected("generator", attributes)
    leaves = {k: rng.standard_normal(s, np.float32) for k, s in shapes.items()}
    return unflatten_dict(leaves, sep="/")


ONE, OTHER = variables(0, **TINY), variables(1, **TINY)


@settings(deadline=None)
@given(alpha=st.floats(0, 1))
def test_blend_is_linear_in_parameters_and_statistics(alpha: float) -> None:
    blended = blend((TINY, ONE), (TINY, OTHER), alpha)
    assert blended.keys() == {"params", "batch_stats"}

    def check(a, b, c):
        assert c.dtype == np.float32
        expected = a + alpha * (b.astype(np.float64) - a)
        np.testing.assert_allclose(c, expected, atol=1e-6)

    jax.tree.map(check, ONE, OTHER, blended)


def test_alpha_zero_and_one_return_the_generators_themselves() -> None:
    for alpha, end in {0: ONE, 1: OTHER}.items():
        blended = blend((TINY, ONE), (TINY, OTHER), alpha)
        jax.tree.map(np.testing.assert_array_equal, blended, end)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(WeightsError, match="expected a number from 0 to 1"):
        blend((TINY, ONE), (TINY, OTHER), alpha)


def test_different_settings_are_refused_and_named() -> None:
    tanh = TINY | {"output": "tanh"}
    with pytest.raises(WeightsError, match="output is 'none' in one and 'tanh'"):
        blend((TINY, ONE), (tanh, OTHER), 0.5)
    larger = TINY | {"blocks": 2}
    with pytest.raises(WeightsError, match="blocks is 1 in one and 2"):
        blend((TINY, ONE), (larger, variables(1, **larger)), 0.5)


def test_settings_that_equal_the_defaults_may_be_left_out() -> None:
    spelled = TINY | {"output": "none"}
    blend((TINY, ONE), (spelled, OTHER), 0.5)


@pytest.mark.weights
def test_blend_of_catalog_generators_lies_between_them() -> None:
    """As alpha grows, the error to one generator grows and that to the other falls."""
    from skimage import data

    from srgan_jax.inference.upscaler import Upscaler

    a, b = (store.load_generator(f"krasserm-{n}") for n in ("srresnet", "srgan"))
    lr = data.astronaut()[40:72, 200:232]
    ends = [Upscaler(*generator)(lr) for generator in (a, b)]
    blends = [Upscaler(a[0], blend(a, b, alpha))(lr) for alpha in (0, 0.4, 0.8, 1)]
    np.testing.assert_array_equal(blends[0], ends[0])
    np.testing.assert_array_equal(blends[-1], ends[1])
    for end, order in zip(ends, (1, -1), strict=True):
        errors = [np.mean((x.astype(float) - end) ** 2) for x in blends]
        assert errors == sorted(errors)[::order]
