"""VGG19 feature maps phi_{i,j} (eq. 5).

phi_{i,j} is the output of the j-th convolution before the i-th max-pooling, after its
ReLU.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.choices import one_of
from srgan_jax.kernels.pooling import max_pool
from srgan_jax.models import layers, ranges
from srgan_jax.models.layers import Conv

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # width, convolutions
INPUT_RANGES = {"caffe": "caffe", "torchvision": "imagenet"}


class VGG19(nn.Module):
    """Maps images in [-1, 1] to the feature maps phi_{i,j}.

    Images are `[batch, h, w, 3]`, feature maps `[batch, h', w', c]` in float32.

    Attributes:
      layer: (i, j), for example (5, 4) or (2, 2).
      preprocessing: preprocessing that the weights were trained with: 'caffe' (the
        original weights, which Keras uses) or 'torchvision'.
      dtype: compute dtype.

    Raises:
      ValueError: VGG19 has no such layer, or the preprocessing is unknown.
    """

    layer: tuple[int, int] = (5, 4)
    preprocessing: str = "caffe"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        one_of("preprocessing", self.preprocessing, tuple(INPUT_RANGES))
        last_stage, last_conv = self.layer
        if not (1 <= last_stage <= 5 and 1 <= last_conv <= STAGES[last_stage - 1][1]):
            raise ValueError(
                f"VGG19 has no phi_{last_stage},{last_conv}; its stages have 2, 2, 4, "
                "4 and 4 convolutions"
            )
        x = ranges.from_symmetric(images, INPUT_RANGES[self.preprocessing])
        for stage, (width, convolutions) in enumerate(STAGES[:last_stage], start=1):
            conv = partial(Conv, width, 3, dtype=self.dtype)
            count = last_conv if stage == last_stage else convolutions
            for j in range(1, count + 1):
                x = conv(name=f"conv{stage}_{j}")(x)
                if j == count and stage < last_stage:
                    # Max-pooling and ReLU commute; pooling first saves ReLU work.
                    x = max_pool(x)
                x = layers.relu(x)
        return layers.to_image(x)
