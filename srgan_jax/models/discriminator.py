"""The discriminator (sec. 2.1.1, fig. 4): eight convolutions and two dense layers.

The output is logits; the loss applies the sigmoid, in a form that cannot overflow.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.choices import one_of
from srgan_jax.models import layers, ranges
from srgan_jax.models.layers import BatchNorm, Conv, Dense

# Width as a multiple of `channels`, and stride: k3n64s1, k3n64s2, ...
CONVOLUTIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
POOLED = 6  # side of the pooled feature maps; 96x96 crops have it without pooling


class Discriminator(nn.Module):
    """Maps HR or SR `[batch, h, w, 3]` in [-1, 1] to logits `[batch]`; high means real.

    Attributes:
      channels: feature maps of the first convolution, 64 in the paper.
      hidden: units of the first dense layer, 1024 in the paper.
      conv_bias: True to give convolutions that precede a BN a bias.
      head: 'dense' (the parameters fix the crop size) or 'pooled' (feature maps are
        first averaged to 6x6, so that any crop size works).
      padding: padding of stride-2 convolutions: 'torch' is (1, 1), 'tf' is (0, 1).
      input_range: range that the first convolution sees: 'symmetric', 'unit', 'byte' or
        'imagenet'.
      bn_epsilon: see BatchNorm.
      bn_momentum: see BatchNorm.
      running_variance: see BatchNorm.
      initializer: 'torch', 'glorot' or 'he'; see `layers.kernel_init`.
      dtype: compute dtype; parameters, statistics and logits are float32.
      axis_name: mapped axis over which batch statistics are synchronised, or None.
    """

    channels: int = 64
    hidden: int = 1024
    conv_bias: bool = False
    head: str = "dense"
    padding: str = "torch"
    input_range: str = "symmetric"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    running_variance: str = "biased"
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        one_of("head", self.head, ("dense", "pooled"))
        one_of("padding", self.padding, ("torch", "tf"))
        conv = partial(Conv, size=3, initializer=self.initializer, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            epsilon=self.bn_epsilon,
            momentum=self.bn_momentum,
            running_variance=self.running_variance,
            axis_name=self.axis_name,
        )
        activation = partial(layers.leaky_relu, slope=0.2)
        dense = partial(Dense, initializer=self.initializer)
        strided = {"torch": (1, 1), "tf": (0, 1)}[self.padding]

        x = ranges.from_symmetric(images, self.input_range)
        for i, (width, stride) in enumerate(CONVOLUTIONS):
            x = conv(
                width * self.channels,
                stride=stride,
                padding=strided if stride == 2 else (1, 1),
                use_bias=i == 0 or self.conv_bias,
                name=f"conv_{i}",
            )(x)
            if i > 0:
                x = norm(name=f"bn_{i}")(x)
            x = activation(x)
        if self.head == "pooled":
            x = layers.adaptive_average_pool(x, POOLED)
        x = layers.flatten(x)
        x = activation(dense(self.hidden, dtype=self.dtype, name="dense_0")(x))
        x = layers.wide(x)
        return dense(1, dtype=x.dtype, name="dense_1")(x)[:, 0]
