"""Layouts and platforms' implementations, compared with plain arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import RNG, assert_same, lowered_for, normal, on

from srgan_jax.kernels import layouts
from srgan_jax.kernels.convolution import convolve
from srgan_jax.kernels.dispatch import force_platform
from srgan_jax.kernels.inference import Inference
from srgan_jax.kernels.layouts import Paired, Unshuffled, to_array
from srgan_jax.kernels.pairs import (
    halving_convolution,
    pair,
    paired_convolution,
    unpair,
)
from srgan_jax.kernels.shuffled import (
    pixel_shuffle,
    shuffle_order,
    shuffled_convolution,
)
from srgan_jax.kernels.strided import strided_convolution
from srgan_jax.models import layers
from srgan_jax.models.generator import Generator

PLATFORMS = ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_convolution_of_pairs_equals_plain_convolution(size, platform):
    def plain(x, kernel):
        return convolve(x.reshape(2, 6, 8, 3), kernel).reshape(2, 6, 4, 10)

    arguments = normal(2, 6, 4, 6), normal(size, size, 3, 5)
    assert_same(on(platform, paired_convolution), plain, *arguments)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_convolution_before_the_shuffle_equals_convolution_after_it(size, platform):
    def plain(x, kernel):
        return convolve(pixel_shuffle(x), kernel)

    def fast(x, kernel):
        return shuffled_convolution(shuffle_order(x), kernel)

    arguments = normal(2, 6, 5, 8), normal(size, size, 2, 3)
    assert_same(on(platform, fast), on("cpu", plain), *arguments)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_sub_pixel_convolution_shuffles_pytorch_s_order_of_channels(platform):
    slopes = normal(2)

    def plain(x, kernel, bias):
        y = convolve(x, kernel) + bias[None, None, None]
        y = y.reshape(2, 4, 3, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        return layers.prelu(y.reshape(2, 8, 6, 2), slopes)

    def fast(x, kernel, bias):
        y = layouts.sub_pixel_convolve(x, kernel, bias)
        return to_array(layouts.elementwise(layers.prelu, y, slopes))

    arguments = normal(2, 4, 3, 3), normal(3, 3, 3, 8), normal(8)
    assert_same(on(platform, fast), plain, *arguments)


def test_a_gpu_shuffles_whole_rows_of_channels():
    arguments = normal(1, 4, 4, 8), normal(3, 3, 8, 20), normal(20)

    def upscaled(*arguments):
        return to_array(layouts.sub_pixel_convolve(*arguments))

    by_pixel = "tensor<1x4x4x2x2x5xf32>) -> tensor<1x4x2x4x2x5xf32>"
    for platform in PLATFORMS:
        text = lowered_for(platform, upscaled, *arguments).as_text()
        assert (by_pixel in text) == (platform == "cuda")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_image_is_not_rounded_to_the_compute_dtype(platform):
    form = on(platform, shuffled_convolution)
    arguments = jnp.bfloat16(normal(2, 6, 5, 8)), jnp.bfloat16(normal(9, 9, 2, 3))
    image, vjp = jax.vjp(form, *arguments)
    assert image.dtype == jnp.float32
    wide = [argument.astype(jnp.float32) for argument in arguments]
    np.testing.assert_allclose(image, form(*wide), rtol=1e-5, atol=1e-4)
    cotangent = normal(*image.shape)
    expected = jax.vjp(form, *wide)[1](cotangent)
    for gradient, want in zip(vjp(cotangent), expected, strict=True):
        assert gradient.dtype == jnp.bfloat16
        atol = 0.02 * np.abs(want).max()
        np.testing.assert_allclose(gradient, want, rtol=0.02, atol=atol)


def stride_two(x, kernel, padding):
    layouts = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), [padding] * 2, dimension_numbers=layouts
    )


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
@pytest.mark.parametrize("size", [(6, 8), (2, 2), (5, 8), (7, 5)])
def test_convolution_of_stride_two_equals_xlas(size, padding, platform):
    def plain(x, kernel):
        return stride_two(x, kernel, padding)

    def fast(x, kernel):
        return strided_convolution(x, kernel, padding)

    arguments = normal(2, *size, 3), normal(3, 3, 3, 5)
    assert_same(on(platform, fast), plain, *arguments)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
def test_convolution_of_stride_two_of_pairs_equals_xlas(padding, platform):
    def plain(x, kernel):
        return stride_two(x.reshape(2, 6, 8, 3), kernel, padding)

    def fast(x, kernel):
        return halving_convolution(x, kernel, padding)

    arguments = normal(2, 6, 4, 6), normal(3, 3, 3, 5)
    assert_same(on(platform, fast), plain, *arguments)


@pytest.mark.parametrize(("size", "padding"), [(5, (1, 1)), (3, (0, 0))])
def test_unsupported_convolutions_of_stride_two_are_refused(size, padding):
    with pytest.raises(ValueError, match="at stride 2"):
        strided_convolution(normal(1, 8, 8, 3), normal(size, size, 3, 5), padding)


def test_the_implementation_is_chosen_for_the_target_platform():
    x, kernel = normal(1, 4, 4, 8), normal(9, 9, 2, 3)

    def gradient(x, kernel):
        return jax.grad(lambda k: shuffled_convolution(x, k).sum())(kernel)

    for function in (shuffled_convolution, gradient):
        cpu, gpu, tpu = (
            lowered_for(platform, function, x, kernel).as_text()
            for platform in PLATFORMS
        )
        assert "5x1x8x60" in tpu
        assert "5x1x8x60" in cpu
        assert "5x1x8x60" not in gpu


def test_the_implementation_of_stride_two_is_chosen_for_the_target_platform():
    def gradient(x, kernel):
        return jax.grad(lambda x: halving_convolution(x, kernel, (1, 1)).sum())(x)

    arguments = normal(1, 4, 2, 6), normal(3, 3, 3, 5)
    cpu, gpu, tpu = (
        lowered_for(platform, gradient, *arguments).as_text() for platform in PLATFORMS
    )
    zeros_between = "lhs_dilate = [2, 2]"
    assert "lhs_dilate = [2, 1]" in tpu
    assert zeros_between not in cpu
    assert zeros_between in gpu


def test_a_forced_platform_applies_to_functions_compiled_before():
    x, kernel = normal(1, 4, 4, 8), normal(9, 9, 2, 3)
    compiled = jax.jit(shuffled_convolution)
    for platform, rearranged in (("cpu", True), ("cuda", False), ("tpu", True)):
        with force_platform(platform):
            assert ("5x1x8x60" in compiled.lower(x, kernel).as_text()) == rearranged


def image_of(layout, shape):
    """A random array, and the same image in a layout."""
    x = normal(*shape)
    if layout is Paired:
        return x, Paired(pair(jnp.asarray(x)))
    if layout is Unshuffled:
        array = normal(shape[0], shape[1] // 2, shape[2] // 2, 4 * shape[3])
        return np.asarray(pixel_shuffle(array)), Unshuffled(jnp.asarray(array))
    return x, Inference(jnp.asarray(x))


@pytest.mark.parametrize("layout", [Paired, Unshuffled, Inference])
def test_operations_on_a_layout_equal_those_on_its_array(layout):
    x, image = image_of(layout, (2, 6, 8, 4))
    assert image.shape == x.shape
    np.testing.assert_array_equal(to_array(image), x)
    slope, bias = normal(4), normal(5)
    ours = layouts.elementwise(layers.prelu, image, slope)
    np.testing.assert_array_equal(to_array(ours), layers.prelu(x, slope))
    for other in (image, image_of(layout, x.shape)[1]):
        np.testing.assert_array_equal(to_array(image + other), x + to_array(other))
    shuffled = to_array(layouts.pixel_shuffle(image))
    np.testing.assert_array_equal(shuffled, pixel_shuffle(x))
    for features, stride, padding in (
        *((5, 1, None), (3, 1, None), (128, 1, None), (5, 1, (0, 1))),
        *((5, 2, (1, 1)), (5, 2, (0, 1))),
    ):
        kernel = normal(3, 3, 4, features)
        bias = normal(features)
        ours = layouts.convolve(image, kernel, bias, stride, padding)
        both = [padding or (1, 1)] * 2
        expected = convolve(x, kernel, (stride, stride), both) + bias[None, None, None]
        np.testing.assert_allclose(to_array(ours), expected, rtol=1e-4, atol=1e-4)


def test_an_array_and_pairs_can_be_added():
    x, image = image_of(Paired, (2, 6, 8, 4))
    for total in (jnp.asarray(x) + image, image + jnp.asarray(x), image + image):
        np.testing.assert_array_equal(to_array(total), x + x)


def test_training_stores_pairs_where_channels_fill_half_of_the_lanes():
    def layout(width, channels, features, size=3):
        x, kernel = jnp.zeros((1, 4, width, channels)), (size, size, channels, features)
        return type(jax.eval_shape(layouts.convolve, x, jnp.zeros(kernel)))

    assert layout(8, 3, 64) is layout(8, 64, 64) is layout(8, 3, 64, 9) is Paired
    assert layout(7, 64, 64) is layout(8, 64, 128) is not Paired


@pytest.mark.parametrize("prelu", ["shared", "per_channel"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_generator_in_training_is_the_same_with_and_without_pairs(
    prelu, platform, monkeypatch
):
    network = Generator(blocks=2, channels=4, prelu=prelu)
    lr = RNG.uniform(size=(2, 6, 6, 3)).astype(np.float32)
    variables = network.init(jax.random.key(0), lr)

    def sr(params):
        given = {**variables, "params": params}
        return network.apply(given, lr, True, mutable=["batch_stats"])

    def unpaired(params):
        with monkeypatch.context() as patch:
            patch.setattr(layouts, "HALF_FULL", 0)
            return on("cuda", sr)(params)

    assert_same(on(platform, sr), unpaired, variables["params"], rtol=2e-3)


def test_unpair_is_the_inverse_of_pair():
    x = normal(2, 3, 4, 5)
    np.testing.assert_array_equal(unpair(pair(x)), x)
