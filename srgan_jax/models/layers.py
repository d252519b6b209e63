"""The layers that SRResNet, the discriminator and VGG19 are made of.

All take and give images `[batch, height, width, channels]`. Parameters and batch
statistics are float32 whatever the compute dtype. Unknown settings are refused.

An image is an array or one of the layouts of `kernels`, in which layers hand images to
one another; `to_image` makes an array of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from srgan_jax.choices import one_of
from srgan_jax.kernels import inference, layouts
from srgan_jax.kernels.batch_norm import batch_normalise
from srgan_jax.kernels.layouts import Image


def for_inference(images: Image) -> Image:
    """Images of which no gradient will be taken: convolutions then spare memory."""
    return inference.for_inference(images)


def to_image(x: Image) -> jax.Array:
    """The result of a network as an array, in float32 or wider."""
    array: Any = layouts.elementwise(wide, layouts.to_array(x))
    return array


def wide(x: Any) -> jax.Array:
    """In float32 or wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def kernel_init(initializer: str) -> Callable:
    """The initialisation of a kernel.

    `torch` is U(+-1/sqrt(fan_in)), PyTorch's default; `glorot` is Keras's default; `he`
    is N(0, 2/fan_in) (He et al. 2015), PyTorch's `kaiming_normal_`.
    """
    one_of("initializer", initializer, ("torch", "glorot", "he"))
    if initializer == "torch":
        return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    if initializer == "he":
        return nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    return nn.initializers.glorot_uniform()


def bias_init(initializer: str, fan_in: int) -> Callable:
    """The initialisation of a bias: `torch` is U(+-1/sqrt(fan_in)), others are zero."""
    if initializer != "torch":
        return nn.initializers.zeros
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Convolution of odd size with its padding written out.

    Attributes:
      features: of the result.
      size: of the kernel, in rows and columns.
      stride: 1, or 2 with a size of 3.
      padding: (before, after) in rows and columns; half the size unless given. With
        stride 2 XLA's `'SAME'` is (0, 1) and PyTorch's `padding=1` is (1, 1), which
        gives other results.
      use_bias: adds a bias to each feature.
      initializer: 'torch', 'glorot' or 'he'.
      dtype: of the computation.
    """

    features: int
    size: int
    stride: int = 1
    padding: tuple[int, int] | None = None
    use_bias: bool = True
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Image) -> Image:
        channels = x.shape[-1]
        shape = (self.size, self.size, channels, self.features)
        kernel = self.param("kernel", kernel_init(self.initializer), shape, jnp.float32)
        bias = None
        if self.use_bias:
            init = bias_init(self.initializer, self.size**2 * channels)
            bias = self.param("bias", init, (self.features,), jnp.float32)
        kernel = kernel.astype(self.dtype)
        return layouts.convolve(x, kernel, bias, self.stride, self.padding)


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
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return y + bias.astype(self.dtype)[None]


class BatchNorm(nn.Module):
    """Batch normalisation over batch and positions.

    Training normalises by the batch's mean and biased variance, and moves the running
    statistics by 1 - momentum. Inference normalises by the running statistics.

    Attributes:
      use_running_average: False in training, True in inference; given here or to the
        call, as with Flax's own.
      epsilon: added to the variance.
      momentum: share of the running statistics that a step keeps.
      running_variance: 'biased' as in Flax and Keras, or 'unbiased' as in PyTorch,
        n / (n - 1) times as large.
      axis_name: mapped axis over which batch statistics are synchronised, or None.
      folded: True where the convolution in front already does what this layer would
        do, which then changes nothing: see inference.fold.
    """

    use_running_average: bool | None = None
    epsilon: float = 1e-5
    momentum: float = 0.9
    running_variance: str = "biased"
    axis_name: str | None = None
    folded: bool = False

    @nn.compact
    def __call__(self, x: Image, use_running_average: bool | None = None) -> Image:
        one_of("running_variance", self.running_variance, ("biased", "unbiased"))
        name = "use_running_average"
        use_running_average = nn.merge_param(
            name, self.use_running_average, use_running_average
        )
        if self.folded:
            return x
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if use_running_average:
            gain = scale * lax.rsqrt(running_var.value + self.epsilon)
            return layouts.elementwise(normalise, x, running_mean.value, gain, bias)
        axis_name = None if self.is_initializing() else self.axis_name
        y, mean, var = batch_normalise(
            x, scale, bias, running_mean.value, self.epsilon, axis_name
        )
        if not self.is_initializing():
            correction = self._correction(x)
            kept, new = self.momentum, 1 - self.momentum
            running_mean.value = kept * running_mean.value + new * mean
            running_var.value = kept * running_var.value + new * correction * var
        return y

    def _correction(self, x: Image) -> float:
        """What the biased variance is multiplied by for the running variance."""
        if self.running_variance == "biased":
            return 1.0
        batch, height, width, _ = x.shape
        count = batch * height * width
        if self.axis_name:
            count *= lax.axis_size(self.axis_name)
        return count / (count - 1)


def normalise(
    x: jax.Array, mean: jax.Array, gain: jax.Array, bias: jax.Array
) -> jax.Array:
    """(x - mean) * gain + bias in float32 or wider, given back in x's dtype."""
    mean, gain, bias = (v[None, None, None] for v in (mean, gain, bias))
    return ((wide(x) - mean) * gain + bias).astype(x.dtype)


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), the slope learned from 0.25 (He et al. 2015).

    Attributes:
      slopes: 'shared', one for the layer as in PyTorch by default, or 'per_channel'.
    """

    slopes: str = "shared"

    @nn.compact
    def __call__(self, x: Image) -> Image:
        one_of("prelu", self.slopes, ("shared", "per_channel"))
        count = 1 if self.slopes == "shared" else x.shape[-1]
        init = nn.initializers.constant(0.25)
        slope = self.param("slope", init, (count,), jnp.float32)
        return leaky_relu(x, slope)


def leaky_relu(x: Image, slope: jax.Array | float) -> Image:
    """max(x, 0) + slope * min(x, 0).

    Args:
      x: any shape. Zero counts as positive.
      slope: a number, or a vector with one for each channel.
    """
    return layouts.elementwise(prelu, x, slope)


@layouts.keeps_zero
def prelu(x: jax.Array, slope: jax.Array | float) -> jax.Array:
    """`leaky_relu` of an array: one product, whose gradient at x is one product too."""
    return x * jnp.where(x >= 0, 1, jnp.asarray(slope, x.dtype))


def relu(x: Image) -> Image:
    """max(x, 0)."""
    return layouts.elementwise(nn.relu, x)


def tanh(x: Image) -> Image:
    """The hyperbolic tangent."""
    return layouts.elementwise(jnp.tanh, x)


def clip(x: Image, lowest: float, highest: float) -> Image:
    """The nearest value in [lowest, highest]."""
    return layouts.elementwise(jnp.clip, x, lowest, highest)


def pixel_shuffle(x: Image) -> Image:
    """`[b, h, w, 4 c]` to `[b, 2 h, 2 w, c]`; channels as in PyTorch: (c, i, j).

    The shuffle is put off, since the next convolution may be faster in front of it.
    """
    return layouts.pixel_shuffle(x)


def adaptive_average_pool(x: Image, size: int) -> jax.Array:
    """Averages `[b, h, w, c]` to `[b, size, size, c]`, AdaptiveAvgPool2d's cells."""

    def cells(length: int) -> jax.Array:
        i = jnp.arange(size)[:, None]
        start, end = i * length // size, -((-(i + 1) * length) // size)
        at = jnp.arange(length)[None]
        inside = (at >= start) & (at < end)
        return inside / (end - start)

    rows, columns = cells(x.shape[1]), cells(x.shape[2])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, layouts.to_array(x))


def flatten(x: Image) -> jax.Array:
    """`[b, h, w, c]` to `[b, h w c]`."""
    array: Any = layouts.to_array(x)
    return array.reshape(array.shape[0], -1)
