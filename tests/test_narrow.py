"""Convolutions of few channels and their gradients, compared with XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import (
    assert_same,
    lowered_for,
    normal,
    products_of,
    values_and_gradients,
)

from srgan_jax.kernels.convolution import convolve
from srgan_jax.kernels.cpu import narrow
from srgan_jax.kernels.pairs import paired_convolution
from srgan_jax.kernels.shuffled import shuffled_convolution


def test_narrow_gradients_are_products_on_a_cpu():
    few = normal(1, 8, 4, 6), normal(3, 3, 3, 5)
    shuffled = normal(1, 4, 4, 8), normal(9, 9, 2, 3)
    for platform, products in (("cpu", 1), ("tpu", 0), ("cuda", 0)):
        assert products_of(paired_convolution, *few, platform=platform) == products
    form = shuffled_convolution
    for platform in ("cpu", "tpu"):
        text = lowered_for(
            platform, jax.grad(lambda k, x: form(x, k).sum()), *shuffled[::-1]
        ).as_text()
        assert ("60x16xf32" in text) == (platform == "cpu")


@pytest.mark.parametrize("size", [1, 3, 5])
def test_narrow_convolutions_equal_plain_convolutions(size):
    arguments = normal(2, 6, 5, 3), normal(size, size, 3, 7)
    assert_same(narrow.convolve_few, convolve, *arguments)
    arguments = normal(2, 6, 5, 7), normal(size, 1, 7, 4)
    assert_same(narrow.convolve_rows, convolve, *arguments)


def test_the_input_gradient_of_few_channels_is_rounded_once():
    arguments = [
        jnp.asarray(normal(*shape), jnp.bfloat16)
        for shape in ((2, 6, 8, 3), (3, 3, 3, 64), (2, 6, 8, 64))
    ]
    _, got, _ = values_and_gradients(narrow.convolve_few, *arguments)
    wide = [argument.astype(jnp.float32) for argument in arguments]
    _, want, _ = values_and_gradients(convolve, *wide)
    assert got.dtype == jnp.bfloat16
    spacing = np.abs(want) * 2.0**-8  # at most half a unit in the last place
    assert (np.abs(got.astype(np.float32) - want) <= spacing + 1e-5).all()
