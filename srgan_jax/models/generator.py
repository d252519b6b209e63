"""SRResNet, the generator (sec. 2.1.1, fig. 4), with every variant in the field.

Refuses settings it does not know. The attributes without `dtype` and `axis_name` are
the generator's settings: what its file stores, and what `Generator(**settings)` takes.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.kernels import fast_forms
from srgan_jax.models import layers
from srgan_jax.models.layers import BatchNorm, Conv, PReLU


class Generator(nn.Module):
    """LR `[batch, h, w, 3]` in [0, 1] to SR `[batch, scale h, scale w, 3]` in [-1, 1].

    Attributes:
      scale: 2, 4 or 8; one sub-pixel convolution for each factor of two.
      blocks: residual blocks B, 16 in the paper.
      channels: feature maps, 64 in the paper.
      conv_bias: whether convolutions in front of a BN carry a bias.
      prelu: 'shared' or 'per_channel' slopes.
      input_range: what the first convolution sees: 'unit', 'symmetric', 'byte' or
        'imagenet'.
      output: last activation: 'none', 'clip' (to `output_range`) or 'tanh'.
      output_range: what the last layer speaks: 'symmetric' or 'unit'.
      bn_epsilon, bn_momentum, running_variance: see BatchNorm.
      initializer: 'torch', 'glorot' or 'he'.
      dtype: of the computation; parameters, statistics and SR are float32.
      axis_name: mapped axis over which batch statistics are synchronised, or None.

    The paper does not state `conv_bias`, `prelu`, `input_range`'s handling, `output`
    and `initializer`. The defaults: no bias where BN takes it out again, a shared slope
    and PyTorch's initialisation as in the usual PyTorch reference, and no last
    activation, since tanh's gradient vanishes where pictures are black and white.
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

    @nn.compact
    def __call__(self, lr: jax.Array, train: bool = False) -> jax.Array:
        self._check()
        # in pairs of pixels the trunk's 64 channels fill a TPU's lanes
        paired = train and lr.shape[2] % 2 == 0
        conv = partial(Conv, initializer=self.initializer, dtype=self.dtype)
        conv3 = partial(
            conv,
            self.channels,
            3,
            use_bias=self.conv_bias,
            form="paired" if paired else "plain",
        )
        norm = partial(
            BatchNorm,
            self.bn_epsilon,
            self.bn_momentum,
            self.running_variance,
            self.axis_name,
            paired=paired,
        )
        prelu = partial(PReLU, self.prelu, paired=paired)
        x = layers.from_unit(lr, self.input_range)
        x = conv(self.channels, 9, name="conv_in")(x)
        if paired:
            x = fast_forms.pair(x)
        x = skip = prelu(name="prelu_in")(x)
        for i in range(self.blocks):
            x = ResidualBlock(conv3, norm, prelu, name=f"block_{i}")(x, train)
        x = norm(name="bn_mid")(conv3(name="conv_mid")(x), train) + skip
        if paired:
            x = fast_forms.unpair(x)
        upsamplings = self.scale.bit_length() - 1
        for i in range(upsamplings):
            form = "differentiated" if train else "plain"
            x = conv(4 * self.channels, 3, form=form, name=f"up_{i}")(x)
            x = PReLU(self.prelu, repeat=4, name=f"prelu_up_{i}")(x)
            if i < upsamplings - 1:
                x = layers.pixel_shuffle(x)
        x = conv(3, 9, form="shuffled", name="conv_out")(x)
        return self.to_symmetric(x.astype(jnp.promote_types(x.dtype, jnp.float32)))

    def _check(self) -> None:
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale is {self.scale}; expected 2, 4 or 8")
        ranges = ("unit", "symmetric", "byte", "imagenet")
        layers.one_of("input_range", self.input_range, ranges)
        layers.one_of("output", self.output, ("none", "clip", "tanh"))
        layers.one_of("output_range", self.output_range, ("symmetric", "unit"))
        layers.one_of("running_variance", self.running_variance, ("biased", "unbiased"))

    def to_symmetric(self, x: jax.Array) -> jax.Array:
        """The last activation, and the output's range to [-1, 1]."""
        unit = self.output_range == "unit"
        if self.output == "tanh":
            if unit:
                raise ValueError("output 'tanh' speaks output_range 'symmetric'")
            x = jnp.tanh(x)
        elif self.output == "clip":
            x = jnp.clip(x, 0.0 if unit else -1.0, 1.0)
        return 2.0 * x - 1.0 if unit else x


class ResidualBlock(nn.Module):
    """conv, BN, PReLU, conv, BN, sum (Gross and Wilber's layout, sec. 2.1.1)."""

    conv3: partial
    norm: partial
    prelu: partial

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = self.norm(name="bn1")(self.conv3(name="conv1")(x), train)
        y = self.prelu(name="prelu")(y)
        return x + self.norm(name="bn2")(self.conv3(name="conv2")(y), train)


def settings_of(generator: Generator) -> dict[str, Any]:
    """The generator's settings as a dict of JSON values."""
    return {name: getattr(generator, name) for name in SETTINGS}


def from_settings(settings: Mapping[str, Any], **execution: Any) -> Generator:
    """A generator of these settings; `execution` may set `dtype` and `axis_name`.

    Raises:
      ValueError: a setting is unknown.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ValueError(
            f"unknown generator settings {', '.join(unknown)}; "
            f"known are {', '.join(SETTINGS)}"
        )
    return Generator(**settings, **execution)


SETTINGS = tuple(
    name
    for name in Generator.__dataclass_fields__
    if name not in ("dtype", "axis_name", "parent", "name")
)
