"""VGG19 feature maps phi_{i,j} (eq. 5): after the activation of the j-th convolution
before the i-th max-pooling. Refuses a layer that VGG19 does not have.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.kernels import fast_forms
from srgan_jax.kernels.pooling import max_pool
from srgan_jax.models import layers
from srgan_jax.models.layers import Conv

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # width, convolutions
INPUT_RANGES = {"caffe": "caffe", "torchvision": "imagenet"}


class VGG19(nn.Module):
    """Images `[batch, h, w, 3]` in [-1, 1] to phi_{i,j} `[batch, h', w', c]`, float32.

    Attributes:
      layer: (i, j), for example (5, 4) or (2, 2).
      preprocessing: 'caffe' (the original weights, as in Keras) or 'torchvision'. It
        belongs to the weights, not to taste.
      dtype: of the computation.
    """

    layer: tuple[int, int] = (5, 4)
    preprocessing: str = "caffe"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        layers.one_of("preprocessing", self.preprocessing, tuple(INPUT_RANGES))
        last_stage, last_conv = self.layer
        if not (1 <= last_stage <= 5 and 1 <= last_conv <= STAGES[last_stage - 1][1]):
            raise ValueError(f"VGG19 has no phi_{last_stage},{last_conv}")
        x = layers.from_symmetric(images, INPUT_RANGES[self.preprocessing]).astype(
            self.dtype
        )
        paired = images.shape[2] % 2 == 0  # fills a TPU's lanes at 3 and 64 channels
        if paired:
            x = fast_forms.pair(x)
        for stage, (width, convolutions) in enumerate(STAGES[:last_stage], start=1):
            form = "paired" if paired else "differentiated"
            conv = partial(Conv, width, 3, dtype=self.dtype, form=form)
            count = last_conv if stage == last_stage else convolutions
            for j in range(1, count + 1):
                x = conv(name=f"conv{stage}_{j}")(x)
                if j == count and stage < last_stage:
                    # in front of the activation: a quarter is left to go through it
                    x, paired = max_pool(x, paired), False
                x = nn.relu(x)
        if paired:
            x = fast_forms.unpair(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
