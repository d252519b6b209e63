"""SRResNet, the generator (sec. 2.1.1, fig. 4), and its published variants."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from srgan_jax.choices import one_of
from srgan_jax.kernels.layouts import Image
from srgan_jax.models import layers, ranges
from srgan_jax.models.layers import BatchNorm, Conv, PReLU, SubPixelConv


class Generator(nn.Module):
    """Upscales LR in [0, 1] to SR in [-1, 1].

    LR is `[batch, h, w, 3]`, SR is `[batch, scale h, scale w, 3]`.

    The paper does not specify `conv_bias`, `prelu`, `input_range`, `output` and
    `initializer`. By default convolutions that precede a BN have no bias, since BN
    would subtract it. The PReLU slopes and the initialisation follow the common PyTorch
    implementations. There is no last activation, since the gradient of tanh vanishes
    where images are black or white.

    Attributes:
      scale: 2, 4 or 8; one sub-pixel convolution for each factor of two.
      blocks: number of residual blocks B, 16 in the paper.
      channels: number of feature maps, 64 in the paper.
      conv_bias: True to give convolutions that precede a BN a bias.
      prelu: 'shared' or 'per_channel' slopes.
      input_range: range that the first convolution sees: 'unit', 'symmetric', 'byte' or
        'imagenet'.
      output: last activation: 'none', 'clip' (to `output_range`) or 'tanh'.
      output_range: range of the last layer: 'symmetric' or 'unit'.
      bn_epsilon: see BatchNorm.
      bn_momentum: see BatchNorm.
      running_variance: see BatchNorm.
      initializer: 'torch', 'glorot' or 'he'; see `layers.kernel_init`.
      dtype: compute dtype; parameters, statistics and SR are float32.
      axis_name: mapped axis over which batch statistics are synchronised, or None.
      folded: True if the BNs are folded into the convolutions; see inference.fold.
    """

    scale: int = 4
    blocks: int = 16
    channels: int = 64
    conv_bias: bool = False
    prelu: str = "shared"
    input_range: str = "unit"
    output: str = "none"
    output_range: str = "symmetric"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    running_variance: str = "biased"
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    folded: bool = False

    def setup(self) -> None:
        self._check()
        conv = partial(Conv, initializer=self.initializer, dtype=self.dtype)
        bias = self.conv_bias or self.folded
        conv3 = partial(conv, self.channels, 3, use_bias=bias)
        norm = partial(
            BatchNorm,
            epsilon=self.bn_epsilon,
            momentum=self.bn_momentum,
            running_variance=self.running_variance,
            axis_name=self.axis_name,
            folded=self.folded,
        )
        prelu = partial(PReLU, self.prelu)
        upsamplings = range(self.scale.bit_length() - 1)

        self.conv_in, self.prelu_in = conv(self.channels, 9), prelu()
        self.block = [ResidualBlock(conv3, norm, prelu) for _ in range(self.blocks)]
        self.conv_mid, self.bn_mid = conv3(), norm()
        sub_pixel = partial(
            SubPixelConv, initializer=self.initializer, dtype=self.dtype
        )
        self.up = [sub_pixel(4 * self.channels, 3) for _ in upsamplings]
        self.prelu_up = [prelu() for _ in upsamplings]
        self.conv_out = conv(3, 9)

    def __call__(self, lr: Image, train: bool = False) -> Image:
        x = lr if train else layers.for_inference(lr)
        return self.reconstruct(self.features(x, train))

    def features(self, lr: Image, train: bool = False) -> Image:
        """Maps LR in [0, 1] to feature maps `[batch, h, w, channels]`."""
        x = ranges.from_unit(lr, self.input_range)
        x = skip = self.prelu_in(self.conv_in(x))
        for block in self.block:
            x = block(x, train)
        return self.bn_mid(self.conv_mid(x), not train) + skip

    def reconstruct(self, x: Image) -> Image:
        """Maps feature maps to SR `[batch, scale h, scale w, 3]` in [-1, 1]."""
        for sub_pixel_conv, prelu in zip(self.up, self.prelu_up, strict=True):
            x = prelu(sub_pixel_conv(x))
        x = layers.to_image(self.conv_out(x))
        if self.output == "tanh":
            x = layers.tanh(x)
        elif self.output == "clip":
            x = layers.clip(x, 0.0 if self.output_range == "unit" else -1.0, 1.0)
        return ranges.from_unit(x, "symmetric") if self.output_range == "unit" else x

    def _check(self) -> None:
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale is {self.scale}; expected 2, 4 or 8")
        ranges = ("unit", "symmetric", "byte", "imagenet")
        one_of("input_range", self.input_range, ranges)
        one_of("output", self.output, ("none", "clip", "tanh"))
        one_of("output_range", self.output_range, ("symmetric", "unit"))
        one_of("running_variance", self.running_variance, ("biased", "unbiased"))
        if self.output == "tanh" and self.output_range == "unit":
            raise ValueError(
                "output is 'tanh', which gives [-1, 1]; expected output_range "
                "'symmetric'"
            )


class ResidualBlock(nn.Module):
    """conv, BN, PReLU, conv, BN, elementwise sum (layout of Gross and Wilber)."""

    conv: partial
    norm: partial
    prelu: partial

    @nn.compact
    def __call__(self, x: Image, train: bool) -> Image:
        norm = partial(self.norm, use_running_average=not train)
        y = norm(name="bn1")(self.conv(name="conv1")(x))
        y = self.prelu(name="prelu")(y)
        return x + norm(name="bn2")(self.conv(name="conv2")(y))
