"""VGG19 feature maps phi_{i,j} (eq. 5).

phi_{i,j} follows the activation of the j-th convolution before the i-th max-pooling.
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
    """Images `[batch, h, w, 3]` in [-1, 1] to phi_{i,j} `[batch, h', w', c]`, float32.

    Attributes:
      layer: (i, j), for example (5, 4) or (2, 2). A layer that VGG19 does not have is
        refused.
      preprocessing: 'caffe' (the original weights, as in Keras) or 'torchvision';
        whichever the weights were trained with.
      dtype: of the computation.
    """

    layer: tuple[int, int] = (5, 4)
    preprocessing: str = "caffe"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        one_of("preprocessing", self.preprocessing, tuple(INPUT_RANGES))
        last_stage, last_conv = self.layer
        if not (1 <= last_stage <= 5 and 1 <= last_conv <= STAGES[last_stage - 1][1]):
            raise ValueError(f"VGG19 has no phi_{last_stage},{last_conv}")
        x = ranges.from_symmetric(images, INPUT_RANGES[self.preprocessing])
        for stage, (width, convolutions) in enumerate(STAGES[:last_stage], start=1):
            conv = partial(Conv, width, 3, dtype=self.dtype)
            count = last_conv if stage == last_stage else convolutions
            for j in range(1, count + 1):
                x = conv(name=f"conv{stage}_{j}")(x)
                if j == count and stage < last_stage:
                    # max-pooling and ReLU commute: a quarter is left for the ReLU
                    x = max_pool(x)
                x = layers.relu(x)
        return layers.to_image(x)
