"""Every fast form against the plain one: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_jax.kernels import convolution, fast_forms, strided
from srgan_jax.kernels.batch_norm import batch_normalise
from srgan_jax.kernels.cpu import narrow, winograd
from srgan_jax.models import layers
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19

RNG = np.random.default_rng(0)


def normal(*shape, mean=0.0, deviation=1.0):
    return RNG.normal(mean, deviation, shape).astype(np.float32)


def assert_same(fast, plain, *arguments, rtol=1e-4):
    """Same values, and same gradients of every argument for a random cotangent."""
    values, pull_back = jax.vjp(fast, *arguments)
    expected, expected_pull_back = jax.vjp(plain, *arguments)
    cotangent = jax.tree.map(lambda v: normal(*v.shape), expected)
    got = jax.tree.leaves((values, pull_back(cotangent)))
    want = jax.tree.leaves((expected, expected_pull_back(cotangent)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_a_convolution_of_pairs(size):
    kernel = normal(size, size, 3, 5)
    arguments = normal(2, 6, 4, 6), kernel
    assert_same(fast_forms._paired_on_tpu, fast_forms._paired_plainly, *arguments)

    def plain(x, kernel):
        return convolution.convolve(x.reshape(2, 6, 8, 3), kernel).reshape(2, 6, 4, 10)

    assert_same(fast_forms.paired_convolution, plain, *arguments)


def values_and_gradients(function, x, kernel, cotangent):
    values, pull_back = jax.vjp(function, x, kernel)
    return [np.asarray(leaf) for leaf in (values, *pull_back(cotangent))]


sizes = st.integers(1, 6)


@given(sizes, sizes, sizes, sizes, sizes, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_convolution_in_tiles(b, rows, columns, halves, features, seed):
    rng = np.random.default_rng(seed)
    image = (b, 2 * rows, 2 * columns)
    shapes = (*image, 2 * halves), (3, 3, 2 * halves, features), (*image, features)
    with jax.enable_x64(True):
        arguments = [rng.normal(size=shape) for shape in shapes]
        got = values_and_gradients(winograd.convolve, *arguments)
        want = values_and_gradients(convolution.convolve, *arguments)
    for a, e in zip(got, want, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-11)


def test_tiles_round_no_more_than_a_plain_convolution():
    shapes = (2, 24, 24, 64), (3, 3, 64, 64), (2, 24, 24, 64)
    arguments = [normal(*shape) for shape in shapes]
    with jax.enable_x64(True):
        wide = [argument.astype(np.float64) for argument in arguments]
        exact = values_and_gradients(convolution.convolve, *wide)
    tiles = values_and_gradients(winograd.convolve, *arguments)
    plain = values_and_gradients(convolution.convolve, *arguments)
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
def test_what_tiles_do_not_cover_is_refused(x, kernel):
    with pytest.raises(ValueError, match="even height, width and channels"):
        winograd.convolve(normal(*x), normal(*kernel))
    wide = (*kernel[:2], 64 * kernel[2], 64 * kernel[3])
    wide_x = jnp.zeros((*x[:3], wide[2] + x[3] % 2))
    assert not winograd.pays(wide_x, jnp.zeros((*wide[:2], wide_x.shape[3], wide[3])))


def products_of(function, *arguments, platform="cpu"):
    """Matrix products in the program of a function's values and gradients."""

    def gradients(*arguments):
        values, pull_back = jax.vjp(function, *arguments)
        return values, pull_back(values)

    text = lowered_for(platform, gradients, *arguments).as_text()
    return text.count("stablehlo.dot_general")


def test_tiles_are_for_wide_float32_convolutions_on_a_cpu():
    in_tiles = 3 * 16
    form = fast_forms.differentiated_convolution
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
    assert products_of(fast_forms.paired_convolution, pairs, kernel) == in_tiles


def test_narrow_gradients_are_products_on_a_cpu():
    few = normal(1, 8, 4, 6), normal(3, 3, 3, 5)
    shuffled = normal(1, 4, 4, 8), normal(9, 9, 2, 3)
    for platform, products in (("cpu", 1), ("tpu", 0), ("cuda", 0)):
        form = fast_forms.paired_convolution
        assert products_of(form, *few, platform=platform) == products
    form = fast_forms.shuffled_convolution
    for platform in ("cpu", "tpu"):
        text = lowered_for(
            platform, jax.grad(lambda k, x: form(x, k).sum()), *shuffled[::-1]
        ).as_text()
        assert ("60x16xf32" in text) == (platform == "cpu")


def test_networks_take_tiles_only_where_they_train():
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


@pytest.mark.parametrize("size", [1, 3, 5])
def test_few_channels_and_kernels_of_one_column(size):
    arguments = normal(2, 6, 5, 3), normal(size, size, 3, 7)
    assert_same(narrow.convolve_few, convolution.convolve, *arguments)
    arguments = normal(2, 6, 5, 7), normal(size, 1, 7, 4)
    assert_same(narrow.convolve_rows, convolution.convolve, *arguments)


def test_the_gradient_at_few_channels_is_rounded_once():
    arguments = [
        jnp.asarray(normal(*shape), jnp.bfloat16)
        for shape in ((2, 6, 8, 3), (3, 3, 3, 64), (2, 6, 8, 64))
    ]
    _, got, _ = values_and_gradients(narrow.convolve_few, *arguments)
    wide = [argument.astype(jnp.float32) for argument in arguments]
    _, want, _ = values_and_gradients(convolution.convolve, *wide)
    assert got.dtype == jnp.bfloat16
    spacing = np.abs(want) * 2.0**-8  # half a unit in the last place, at most
    assert (np.abs(got.astype(np.float32) - want) <= spacing + 1e-5).all()


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_a_convolution_in_front_of_the_shuffle(size):
    arguments = normal(2, 6, 5, 8), normal(size, size, 2, 3)
    assert_same(fast_forms._rearranged, fast_forms._shuffled_plainly, *arguments)

    def plain(x, kernel):
        return convolution.convolve(layers.pixel_shuffle(x), kernel)

    assert_same(fast_forms.shuffled_convolution, plain, *arguments)


@pytest.mark.parametrize("form", [fast_forms._rearranged, fast_forms._shuffled_plainly])
def test_an_image_is_not_rounded_to_the_dtype_of_the_computation(form):
    arguments = jnp.bfloat16(normal(2, 6, 5, 8)), jnp.bfloat16(normal(9, 9, 2, 3))
    image, pull_back = jax.vjp(form, *arguments)
    assert image.dtype == jnp.float32
    wide = [argument.astype(jnp.float32) for argument in arguments]
    np.testing.assert_allclose(image, form(*wide), rtol=1e-5, atol=1e-4)
    cotangent = normal(*image.shape)
    expected = jax.vjp(form, *wide)[1](cotangent)
    for at, want in zip(pull_back(cotangent), expected, strict=True):
        assert at.dtype == jnp.bfloat16
        np.testing.assert_allclose(at, want, rtol=0.02, atol=0.02 * np.abs(want).max())


def stride_two(x, kernel, padding):
    layouts = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), [padding] * 2, dimension_numbers=layouts
    )


@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
@pytest.mark.parametrize("size", [(6, 8), (2, 2), (5, 8), (7, 5)])
def test_a_convolution_of_stride_two(size, padding):
    arguments = normal(2, *size, 3), normal(3, 3, 3, 5)

    def plain(x, kernel):
        return stride_two(x, kernel, padding)

    def fast(x, kernel):
        return strided.strided_convolution(x, kernel, padding)

    assert_same(fast, plain, *arguments)


@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
def test_a_convolution_of_stride_two_from_pairs(padding):
    def plain(x, kernel):
        return stride_two(x.reshape(2, 6, 8, 3), kernel, padding)

    def on_tpu(x, kernel):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strided, "by_platform", lambda tpu, default: tpu)
            return strided.halving_convolution(x, kernel, padding)

    def here(x, kernel):
        return strided.halving_convolution(x, kernel, padding)

    arguments = normal(2, 6, 4, 6), normal(3, 3, 3, 5)
    assert_same(on_tpu, plain, *arguments)
    assert_same(here, plain, *arguments)


def lowered_for(platform, function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))


def test_the_form_is_chosen_for_the_platform_that_is_compiled_for():
    x, kernel = normal(1, 4, 4, 8), normal(9, 9, 2, 3)

    def gradient(x, kernel):
        return jax.grad(lambda k: fast_forms.shuffled_convolution(x, k).sum())(kernel)

    for function in (fast_forms.shuffled_convolution, gradient):
        tpu = lowered_for("tpu", function, x, kernel).as_text()
        cpu = lowered_for("cpu", function, x, kernel).as_text()
        gpu = lowered_for("cuda", function, x, kernel).as_text()
        assert "5x1x8x60" in tpu
        assert "5x1x8x60" in cpu
        assert "5x1x8x60" not in gpu


def test_the_form_of_stride_two_is_chosen_too():
    def gradient(x, kernel):
        return jax.grad(lambda x: strided.halving_convolution(x, kernel, (1, 1)).sum())(
            x
        )

    arguments = normal(1, 4, 2, 6), normal(3, 3, 3, 5)
    tpu, cpu, gpu = (
        lowered_for(platform, gradient, *arguments).as_text()
        for platform in ("tpu", "cpu", "cuda")
    )
    zeros_between = "lhs_dilate = [2, 2]"
    assert "lhs_dilate = [2, 1]" in tpu
    assert zeros_between not in cpu
    assert zeros_between in gpu


@pytest.mark.parametrize(("size", "padding"), [(5, (1, 1)), (3, (0, 0))])
def test_another_convolution_of_stride_two_is_refused(size, padding):
    with pytest.raises(ValueError, match="at stride 2"):
        strided.strided_convolution(
            normal(1, 8, 8, 3), normal(size, size, 3, 5), padding
        )


def two_passes(x, scale, bias):
    """Batch normalisation as its definition reads, and its statistics."""
    mean = jnp.mean(x, axis=(0, 1, 2))
    var = jnp.mean(jnp.square(x - mean), axis=(0, 1, 2))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias, mean, var


def test_batch_normalisation_in_one_pass():
    x = normal(4, 5, 6, 3, mean=2, deviation=3)
    arguments = x, normal(3), normal(3)
    centre = normal(3, mean=2)

    def fast(x, scale, bias):
        return batch_normalise(x, scale, bias, centre, 1e-5, None)[0]

    assert_same(fast, lambda *a: two_passes(*a)[0], *arguments)
    _, mean, var = batch_normalise(*arguments, centre, 1e-5, None)
    np.testing.assert_allclose(mean, two_passes(*arguments)[1], rtol=1e-5)
    np.testing.assert_allclose(var, two_passes(*arguments)[2], rtol=1e-5)


def test_batch_normalisation_of_pairs():
    arguments = normal(2, 3, 4, 5), normal(5), normal(5)

    def fast(x, *parameters):
        pairs = fast_forms.pair(x)
        y = batch_normalise(pairs, *parameters, jnp.zeros(5), 1e-5, None)[0]
        return fast_forms.unpair(y)

    assert_same(fast, lambda *a: two_passes(*a)[0], *arguments)


def test_synchronised_batch_normalisation_has_the_gradient_of_the_global_batch():
    x, scale, bias = normal(4, 2, 3, 3, 5), normal(5), normal(5)
    cotangent = normal(*x.shape)

    def local(x, cotangent):  # gradients are taken within the mapped axis, as in a step
        def fast(*arguments):
            return batch_normalise(*arguments, jnp.zeros(5), 1e-5, "batch")[0]

        y, pull_back = jax.vjp(fast, x, scale, bias)
        return y, *pull_back(cotangent)

    y, at_x, at_scale, at_bias = jax.vmap(local, axis_name="batch")(x, cotangent)
    whole = x.reshape(8, 3, 3, 5)
    expected, pull_back = jax.vjp(lambda *a: two_passes(*a)[0], whole, scale, bias)
    wanted = expected, *pull_back(cotangent.reshape(whole.shape))
    got = (
        y.reshape(whole.shape),
        at_x.reshape(whole.shape),
        at_scale.sum(0),
        at_bias.sum(0),
    )
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_constant_channel_far_from_zero_is_normalised_to_the_bias():
    x = jnp.full((2, 4, 4, 1), 1234.5)
    one = jnp.ones(1)
    y, _, var = batch_normalise(x, one, one, jnp.zeros(1), 1e-5, None)
    assert var[0] >= 0
    assert np.isfinite(y).all()


@pytest.mark.parametrize("prelu", ["shared", "per_channel"])
def test_a_generator_in_training_is_the_same_in_pairs_and_without(prelu, monkeypatch):
    network = Generator(blocks=2, channels=4, prelu=prelu)
    lr = RNG.uniform(size=(2, 6, 6, 3)).astype(np.float32)
    variables = network.init(jax.random.key(0), lr)

    def sr(params):
        given = {**variables, "params": params}
        return network.apply(given, lr, True, mutable=["batch_stats"])

    def in_its_fast_form(params):
        with monkeypatch.context() as patch:
            forms = fast_forms._paired_on_tpu, fast_forms._rearranged
            patch.setattr(fast_forms, "_paired", forms[0])
            patch.setattr(fast_forms, "_shuffled", forms[1])
            return sr(params)

    def unpaired(params):
        with monkeypatch.context() as patch:
            patch.setattr(fast_forms, "pair", lambda x: x)
            patch.setattr(fast_forms, "unpair", lambda x: x)
            return sr(params)

    assert_same(in_its_fast_form, sr, variables["params"], rtol=2e-3)
