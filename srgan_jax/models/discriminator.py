"""The discriminator (sec. 2.1.1, fig. 4): eight convolutions and two dense layers.

Gives logits: a sigmoid belongs to the loss, where it is computed without overflow.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.kernels import fast_forms
from srgan_jax.models import layers
from srgan_jax.models.layers import BatchNorm, Conv, Dense

# Width as a multiple of `channels`, and stride: k3n64s1, k3n64s2, ...
CONVOLUTIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
POOLED = 6  # AdaptiveAvgPool's cells; what 96x96 crops have anyway


class Discriminator(nn.Module):
    """HR or SR `[batch, h, w, 3]` in [-1, 1] to logits `[batch]`; high means real.

    Attributes:
      channels: width of the first convolution, 64 in the paper.
      hidden: units of the first dense layer, 1024 in the paper.
      conv_bias: whether convolutions in front of a BN carry a bias.
      head: 'dense' (one crop size, fixed by the parameters) or 'pooled' (averaged to
        6x6 first: any crop).
      padding: of stride-2 convolutions: 'torch' (1, 1) or 'tf' (0, 1).
      input_range: 'symmetric', 'unit', 'byte' or 'imagenet'.
      bn_epsilon, bn_momentum, running_variance: see BatchNorm.
      initializer: 'torch', 'glorot' or 'he'.
      dtype: of the computation; parameters, statistics and logits are float32.
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
    def __call__(
        self, x: jax.Array, train: bool = False, part: str = "whole"
    ) -> jax.Array:
        """With `part`: 'features' of images alone, or the 'dense' layers on these."""
        layers.one_of("part", part, ("whole", "features", "dense"))
        layers.one_of("head", self.head, ("dense", "pooled"))
        layers.one_of("padding", self.padding, ("torch", "tf"))
        layers.one_of("running_variance", self.running_variance, ("biased", "unbiased"))
        if part != "dense":
            x = self._features(x, train)
        return x if part == "features" else self._logits(x)

    def _features(self, images: jax.Array, train: bool) -> jax.Array:
        conv = partial(Conv, size=3, initializer=self.initializer, dtype=self.dtype)
        act = partial(layers.leaky_relu, slope=0.2)
        x = layers.from_symmetric(images, self.input_range)
        # 3 and 64 channels fill a TPU's lanes in pairs of pixels
        paired = images.shape[2] % 2 == 0
        first = ["paired", "halving"] if paired else ["differentiated", "plain"]
        forms = first + 3 * ["differentiated", "plain"]
        if paired:
            x = fast_forms.pair(x)
        for i, (width, stride) in enumerate(CONVOLUTIONS):
            shrinks_as_tf = stride == 2 and self.padding == "tf"
            x = conv(
                width * self.channels,
                stride=stride,
                padding=(0, 1) if shrinks_as_tf else (1, 1),
                use_bias=i == 0 or self.conv_bias,
                form=forms[i],
                name=f"conv_{i}",
            )(x)
            if i > 0:
                x = BatchNorm(
                    self.bn_epsilon,
                    self.bn_momentum,
                    self.running_variance,
                    self.axis_name,
                    name=f"bn_{i}",
                )(x, train)
            x = act(x)
        if self.head == "pooled":
            x = layers.adaptive_average_pool(x, POOLED)
        return x.reshape(x.shape[0], -1)

    def _logits(self, x: jax.Array) -> jax.Array:
        act = partial(layers.leaky_relu, slope=0.2)
        dense = partial(Dense, initializer=self.initializer)
        x = act(dense(self.hidden, dtype=self.dtype, name="dense_0")(x))
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return dense(1, dtype=x.dtype, name="dense_1")(x)[:, 0]
