"""The layers of SRResNet, the discriminator and VGG19.

Layers take and return images `[batch, height, width, channels]`. Parameters and batch
statistics are float32 for every compute dtype. Unknown settings are refused.

An image is an array, or one of the memory layouts in `kernels`, which pass between
layers; `to_image` converts it to an array.
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
    """Marks images as needing no gradient, so that convolutions use less memory."""
    return inference.for_inference(images)


def to_image(x: Image) -> jax.Array:
    """Converts the result of a network to an array, in float32 or wider."""
    array: Any = layouts.elementwise(wide, layouts.to_array(x))
    return array


def wide(x: Any) -> jax.Array:
    """Converts to float32, or keeps a wider dtype."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def kernel_init(initializer: str) -> Callable:
    """Returns the initialiser of a kernel.

    'torch' is U(+-1/sqrt(fan_in)), PyTorch's default. 'glorot' is Keras's default. 'he'
    is N(0, 2/fan_in) (He et al. 2015), PyTorch's `kaiming_normal_`.
    """
    one_of("initializer", initializer, ("torch", "glorot", "he"))
    if initializer == "torch":
        return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    if initializer == "he":
        return nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    return nn.initializers.glorot_uniform()


def bias_init(initializer: str, fan_in: int) -> Callable:
    """Returns the initialiser of a bias: U(+-1/sqrt(fan_in)) for 'torch', else zero."""
    if initializer != "torch":
        return nn.initializers.zeros
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Convolution with a square kernel of odd size and explicit padding.

    Attributes:
      features: number of output channels.
      size: side of the kernel.
      stride: 1, or 2 if the size is 3.
      padding: (before, after) for rows and for columns; `size // 2` by default. At
        stride 2 XLA's `'SAME'` is (0, 1), but PyTorch's `padding=1` is (1, 1); their
        results differ.
      use_bias: True to add a bias to each output channel.
      initializer: 'torch', 'glorot' or 'he'; see `kernel_init`.
      dtype: compute dtype.
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
        return self.convolve(x, kernel.astype(self.dtype), bias)

    @nn.nowrap
    def convolve(self, x: Image, kernel: jax.Array, bias: jax.Array | None) -> Image:
        """The layer as a function of its parameters."""
        return layouts.convolve(x, kernel, bias, self.stride, self.padding)


class SubPixelConv(Conv):
    """Convolution, then PixelShuffle by a factor of two (Shi et al. 2016).

    Maps `[b, h, w, c]` to `[b, 2 h, 2 w, features / 4]`, with PyTorch's order of the
    convolution's output channels, (c, i, j). The shuffle is lazy: the next convolution
    may fuse with it, see kernels.layouts.
    """

    @nn.nowrap
    def convolve(self, x: Image, kernel: jax.Array, bias: jax.Array | None) -> Image:
        return layouts.sub_pixel_convolve(x, kernel, bias)


class Dense(nn.Module):
    """Fully connected layer that maps `[batch, inputs]` to `[batch, features]`."""

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

    Training normalises by the batch's mean and biased variance, and updates the running
    statistics. Inference normalises by the running statistics.

    Attributes:
      use_running_average: False in training, True in inference; set here or passed to
        the call, as with `flax.linen.BatchNorm`.
      epsilon: added to the variance.
      momentum: weight of the old value in an update of the running statistics.
      running_variance: 'biased' as in Flax and Keras, or 'unbiased' as in PyTorch,
        which is n / (n - 1) times as large.
      axis_name: mapped axis over which batch statistics are synchronised, or None.
      folded: True if this layer has been folded into the preceding convolution; it then
        returns its input unchanged. See inference.fold.
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
        """The factor from the batch's biased variance to the running variance."""
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
    """(x - mean) * gain + bias, computed in float32 or wider, returned in x's dtype."""
    mean, gain, bias = (v[None, None, None] for v in (mean, gain, bias))
    return ((wide(x) - mean) * gain + bias).astype(x.dtype)


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0) with a learned slope (He et al. 2015).

    The slope starts at 0.25.

    Attributes:
      slopes: 'shared' (one slope for the layer, PyTorch's default) or 'per_channel'.
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
      x: an image or array of any shape; the gradient at zero is 1.
      slope: a number, or a vector with one slope for each channel.
    """
    return layouts.elementwise(prelu, x, slope)


@layouts.keeps_zero
def prelu(x: jax.Array, slope: jax.Array | float) -> jax.Array:
    """`leaky_relu` of an array; value and gradient for x are one product each."""
    return x * jnp.where(x >= 0, 1, jnp.asarray(slope, x.dtype))


def relu(x: Image) -> Image:
    """max(x, 0)."""
    return layouts.elementwise(nn.relu, x)


def tanh(x: Image) -> Image:
    """The hyperbolic tangent."""
    return layouts.elementwise(jnp.tanh, x)


def clip(x: Image, lowest: float, highest: float) -> Image:
    """Clips values to [lowest, highest]."""
    return layouts.elementwise(jnp.clip, x, lowest, highest)


def adaptive_average_pool(x: Image, size: int) -> jax.Array:
    """Averages `[b, h, w, c]` to `[b, size, size, c]` as torch's AdaptiveAvgPool2d."""

    def cells(length: int) -> jax.Array:
        i = jnp.arange(size)[:, None]
        start, end = i * length // size, -((-(i + 1) * length) // size)
        at = jnp.arange(length)[None]
        inside = (at >= start) & (at < end)
        return inside / (end - start)

    rows, columns = cells(x.shape[1]), cells(x.shape[2])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, layouts.to_array(x))


def flatten(x: Image) -> jax.Array:
    """Flattens `[b, h, w, c]` to `[b, h w c]`."""
    array: Any = layouts.to_array(x)
    return array.reshape(array.shape[0], -1)
