"""Winograd's 3x3 convolutions, compared with XLA's, and where they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import lowered_for, normal, products_of, values_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_jax.kernels.convolution import convolve
from srgan_jax.kernels.cpu import winograd
from srgan_jax.kernels.pairs import paired_convolution
from srgan_jax.kernels.same_size import same_size_convolution
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19

sizes = st.integers(1, 6)


@given(sizes, sizes, sizes, sizes, sizes, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_winograd_equals_direct_convolution(b, rows, columns, halves, features, seed):
    rng = np.random.default_rng(seed)
    image = (b, 2 * rows, 2 * columns)
    shapes = (*image, 2 * halves), (3, 3, 2 * halves, features), (*image, features)
    with jax.enable_x64(True):
        arguments = [rng.normal(size=shape) for shape in shapes]
        got = values_and_gradients(winograd.convolve, *arguments)
        want = values_and_gradients(convolve, *arguments)
    for a, e in zip(got, want, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-11)


def test_winograd_rounds_no_more_than_direct_convolution():
    shapes = (2, 24, 24, 64), (3, 3, 64, 64), (2, 24, 24, 64)
    arguments = [normal(*shape) for shape in shapes]
    with jax.enable_x64(True):
        wide = [argument.astype(np.float64) for argument in arguments]
        exact = values_and_gradients(convolve, *wide)
    tiles = values_and_gradients(winograd.convolve, *arguments)
    plain = values_and_gradients(convolve, *arguments)
    for a, b, e in zip(tiles, plain, exact, strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - e).max() < 2 * np.abs(b - e).max() < 2e-5 * np.std(e)


@pytest.mark.parametrize(
    ("x", "kernel"),
    [
        ((1, 4, 4, 2), (5, 5, 2, 3)),
        ((1, 3, 4, 2), (3, 3, 2, 3)),
        ((1, 4, 3, 2), (3, 3, 2, 3)),
        ((1, 4, 4, 3), (3, 3, 3, 3)),
    ],
)
def test_winograd_refuses_other_kernels_and_odd_sizes(x, kernel):
    with pytest.raises(ValueError, match="even height, width and channels"):
        winograd.convolve(normal(*x), normal(*kernel))
    wide = (*kernel[:2], 64 * kernel[2], 64 * kernel[3])
    wide_x = jnp.zeros((*x[:3], wide[2] + x[3] % 2))
    wide_kernel = jnp.zeros((*wide[:2], wide_x.shape[3], wide[3]))
    assert not winograd.is_profitable(wide_x, wide_kernel)


def test_winograd_is_used_for_wide_float32_convolutions_on_a_cpu():
    in_tiles = 3 * 16
    form = same_size_convolution
    x, kernel = normal(1, 8, 8, 64), normal(3, 3, 64, 256)
    assert products_of(form, x, kernel) == in_tiles
    assert products_of(form, x, kernel, platform="tpu") == 0
    assert products_of(form, x, kernel, platform="cuda") == 0
    assert products_of(form, normal(1, 24, 24, 64), kernel[..., :64]) == in_tiles
    assert products_of(form, normal(1, 96, 96, 64), kernel[..., :64]) == 0
    assert products_of(form, x[..., :8], kernel[:, :, :8, :8]) == 0
    half = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    assert products_of(form, *half) == 0
    pairs = normal(1, 8, 4, 128)
    assert products_of(paired_convolution, pairs, kernel) == in_tiles


def test_networks_use_winograd_only_in_training():
    generator = Generator(blocks=1)
    lr = jnp.zeros((1, 8, 8, 3))
    variables = jax.eval_shape(generator.init, jax.random.key(0), lr)

    def products(train):
        def forward(variables):
            return generator.apply(variables, lr, train, mutable=["batch_stats"])[0]

        text = lowered_for("cpu", forward, variables).as_text()
        return text.count("stablehlo.dot_general")

    assert products(train=True) - products(train=False) == 5 * 16
    for network in (Discriminator(), VGG19((3, 2))):
        images = jnp.zeros((1, 96, 96, 3))
        variables = jax.eval_shape(network.init, jax.random.key(0), images)
        text = lowered_for("cpu", network.apply, variables, images).as_text()
        assert text.count("stablehlo.dot_general") >= 2 * 16
