"""The layers that SRResNet, the discriminator and VGG19 are made of.

All take and give `[batch, height, width, channels]`. Parameters and batch statistics
are float32 whatever the compute dtype. Settings that are not known are refused.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from srgan_jax.kernels import fast_forms, strided
from srgan_jax.kernels.batch_norm import batch_normalise
from srgan_jax.kernels.convolution import convolve

pixel_shuffle = fast_forms.pixel_shuffle
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def one_of(setting: str, value: str, allowed: Sequence[str]) -> str:
    """Returns `value`, or raises a ValueError that names the setting."""
    if value not in allowed:
        expected = ", ".join(map(repr, allowed))
        raise ValueError(f"{setting} is {value!r}; expected one of {expected}")
    return value


def from_unit(images: jax.Array, input_range: str) -> jax.Array:
    """RGB in [0, 1] to the range a network was trained on.

    `unit` is [0, 1], `symmetric` [-1, 1], `byte` [0, 255], `imagenet` torchvision's
    mean and deviation on [0, 1], `caffe` BGR in [0, 255] less the mean.
    """
    match input_range:
        case "unit":
            return images
        case "symmetric":
            return 2.0 * images - 1.0
        case "byte":
            return 255.0 * images
        case "imagenet":
            return (images - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
        case "caffe":
            return 255.0 * images[..., ::-1] - jnp.array(CAFFE_MEAN_BGR)
    known = ("unit", "symmetric", "byte", "imagenet", "caffe")
    one_of("input_range", input_range, known)
    raise AssertionError(input_range)


def from_symmetric(images: jax.Array, input_range: str) -> jax.Array:
    """RGB in [-1, 1] to the range a network was trained on."""
    if input_range == "symmetric":  # spares the rounding of there and back
        return images
    return from_unit(0.5 * images + 0.5, input_range)


def kernel_init(initializer: str) -> Callable:
    """`torch`: U(+-1/sqrt(fan_in)), PyTorch's default; `glorot`: Keras's default; `he`:
    N(0, 2/fan_in) (He et al. 2015), PyTorch's `kaiming_normal_`."""
    one_of("initializer", initializer, ("torch", "glorot", "he"))
    if initializer == "torch":
        return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    if initializer == "he":
        return nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    return nn.initializers.glorot_uniform()


def bias_init(initializer: str, fan_in: int) -> Callable:
    """`torch`: U(+-1/sqrt(fan_in)), PyTorch's default; `glorot`, `he`: zero."""
    if initializer != "torch":
        return nn.initializers.zeros
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


# What the input's channels are a multiple of, by form
CHANNELS = {"plain": 1, "differentiated": 1, "paired": 2, "halving": 2, "shuffled": 4}


class Conv(nn.Module):
    """Convolution with its padding written out.

    Stride 1, or 2 with a size of 3, which `'SAME'` pads by (0, 1) in XLA, PyTorch's
    `padding=1` by (1, 1): different numbers. `padding` is (before, after), for both
    axes; half the size unless given.

    `form`: 'differentiated' spends memory on speed, 'paired' takes and gives paired
    images, 'halving' takes one and has stride 2, 'shuffled' takes what has yet to go
    through a PixelShuffle: see fast_forms.
    """

    features: int
    size: int
    stride: int = 1
    padding: tuple[int, int] | None = None
    use_bias: bool = True
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.float32
    form: str = "plain"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1] // CHANNELS[self.form]
        shape = (self.size, self.size, channels, self.features)
        kernel = self.param("kernel", kernel_init(self.initializer), shape, jnp.float32)
        y = self._convolve(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            init = bias_init(self.initializer, self.size**2 * channels)
            bias = self.param("bias", init, (self.features,), jnp.float32)
            if self.form == "paired":
                bias = fast_forms.over_pairs(bias)
            y = y + bias.astype(y.dtype)
        return y

    def _convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        half = self.size // 2, self.size // 2
        keeps_size = self.stride == 1 and self.padding in (None, half)
        if self.form in ("differentiated", "paired", "shuffled") and not keeps_size:
            raise ValueError(
                f"form is {self.form!r} with stride {self.stride} and padding "
                f"{self.padding}; expected stride 1 and padding {half}"
            )
        if self.form == "differentiated":
            return fast_forms.differentiated_convolution(x, kernel)
        if self.form == "paired":
            return fast_forms.paired_convolution(x, kernel)
        if self.form == "shuffled":
            return fast_forms.shuffled_convolution(x, kernel)
        if self.form == "halving":
            return strided.halving_convolution(x, kernel, self.padding or (1, 1))
        if self.stride == 2:
            return strided.strided_convolution(x, kernel, self.padding or (1, 1))
        if self.stride != 1:
            raise ValueError(f"stride is {self.stride}; expected 1 or 2")
        padding = self.padding and [self.padding, self.padding]
        return convolve(x, kernel, padding)


class Dense(nn.Module):
    """Fully connected layer on `[batch, features]`."""

    features: int
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = kernel_init(self.initializer)
        kernel = self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)
        init = bias_init(self.initializer, x.shape[-1])
        bias = self.param("bias", init, (self.features,), jnp.float32)
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(
            self.dtype
        )


class BatchNorm(nn.Module):
    """Batch normalisation over batch and positions.

    Training normalises by the batch's mean and biased variance and moves the running
    statistics by 1 - momentum; they hold the biased variance as in Flax and Keras, or
    with `running_variance='unbiased'` n / (n - 1) times it as in PyTorch. With
    `axis_name` the statistics are those of the whole global batch (synchronised).
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    running_variance: str = "biased"
    axis_name: str | None = None
    paired: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1] // (2 if self.paired else 1)
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        zeros, ones = jnp.zeros, jnp.ones
        running_mean = self.variable("batch_stats", "mean", zeros, (channels,))
        running_var = self.variable("batch_stats", "var", ones, (channels,))
        if train:
            y, mean, var = batch_normalise(
                x, scale, bias, running_mean.value, self.epsilon, self._axis()
            )
            if not self.is_initializing():
                count = x.size // channels
                if self.axis_name:
                    count *= lax.axis_size(self.axis_name)
                unbiased = self.running_variance == "unbiased"
                correction = count / (count - 1) if unbiased else 1.0
                kept, new = self.momentum, 1 - self.momentum
                running_mean.value = kept * running_mean.value + new * mean
                running_var.value = kept * running_var.value + new * correction * var
            return y
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        deviation = lax.rsqrt(running_var.value + self.epsilon)
        y = (wide - running_mean.value) * (scale * deviation) + bias
        return y.astype(x.dtype)

    def _axis(self) -> str | None:
        return None if self.is_initializing() else self.axis_name


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), the slope learned from 0.25 (He et al. 2015).

    One slope a layer (`shared`, PyTorch's default) or one a channel (`per_channel`).
    `repeat` applies each channel's slope to that many neighbours: in front of a
    PixelShuffle, with which PReLU so commutes.
    """

    slopes: str = "shared"
    repeat: int = 1
    paired: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        one_of("prelu", self.slopes, ("shared", "per_channel"))
        images = 2 if self.paired else 1
        count = x.shape[-1] // (self.repeat * images)
        count = 1 if self.slopes == "shared" else count
        init = nn.initializers.constant(0.25)
        slope = self.param("slope", init, (count,), jnp.float32)
        if count > 1:
            slope = jnp.tile(jnp.repeat(slope, self.repeat), images)
        return leaky_relu(x, slope)


def leaky_relu(x: jax.Array, slope: jax.Array | float) -> jax.Array:
    """max(x, 0) + slope * min(x, 0): one product, whose gradient at x is one too.

    Args:
      x: any shape.
      slope: a number, or one a channel: `[c]`. Zero counts as positive.
    """
    return x * jnp.where(x >= 0, 1, jnp.asarray(slope, x.dtype))


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages `[b, h, w, c]` to `[b, size, size, c]`, AdaptiveAvgPool2d's cells."""

    def cells(length: int) -> jax.Array:
        i = jnp.arange(size)[:, None]
        start, end = i * length // size, -((-(i + 1) * length) // size)
        inside = (jnp.arange(length) >= start) & (jnp.arange(length) < end)
        return inside / (end - start)

    rows, columns = cells(x.shape[1]), cells(x.shape[2])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x)
