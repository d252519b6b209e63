"""The losses of sec. 2.2 as pure functions of images, features and logits.

Every reduction is written out. The paper's equations and the usual implementations
differ by factors of up to 512, and weights such as 0.006 and 1e-3 have a meaning only
together with one reduction.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.choices import one_of

REDUCTIONS = ("mean", "sum_channels")
ADVERSARIAL_FORMS = ("non_saturating", "saturating")
BLOCK = 8  # side of the blocks of `colour` and `smooth` in pixels
SMOOTH = 3 / 127.5  # largest standard deviation of a smooth block: 3 of 255 levels


def squared_distance(a: jax.Array, b: jax.Array, reduction: str = "mean") -> jax.Array:
    """The distance of eq. 4 (on images) and eq. 5 (on VGG features), a scalar.

    `sum_channels` follows both equations literally: it averages over batch and
    positions (1 / r^2 W H, 1 / W_ij H_ij) and sums over channels. `mean`, the default,
    averages over channels too, as every PyTorch implementation does. At phi_5,4 the sum
    is 512 times as large as the mean, which makes the adversarial term negligible.

    Args:
      a: images or features `[batch, height, width, channels]`.
      b: images or features of the same shape.
      reduction: 'mean' or 'sum_channels'.

    Raises:
      ValueError: there is no such reduction.
    """
    one_of("content.reduction", reduction, REDUCTIONS)
    per_channel = jnp.mean(jnp.square(a - b), axis=(0, 1, 2))
    return jnp.mean(per_channel) if reduction == "mean" else jnp.sum(per_channel)


def absolute_distance(a: jax.Array, b: jax.Array, reduction: str = "mean") -> jax.Array:
    """The mean absolute error (L1); arguments are those of `squared_distance`.

    It is not in the paper. Added to a VGG loss, it prevents colour shifts and artefacts
    in smooth areas.
    """
    one_of("content.reduction", reduction, REDUCTIONS)
    per_channel = jnp.mean(jnp.abs(a - b), axis=(0, 1, 2))
    return jnp.mean(per_channel) if reduction == "mean" else jnp.sum(per_channel)


def colour_distance(a: jax.Array, b: jax.Array, reduction: str = "mean") -> jax.Array:
    """The L1 between means of 8x8 pixels; arguments are those of `squared_distance`.

    It is not in the paper; Ignatov et al. 2017 introduced such a loss on blurred
    images. The adversarial and the VGG loss leave colours free to drift. Unlike the L1
    between pixels, this distance does not object to invented texture. Rows and columns
    after the last whole block do not count.
    """
    return absolute_distance(block_means(a), block_means(b), reduction)


def block_means(images: jax.Array) -> jax.Array:
    """Means over whole blocks, `[batch, height // BLOCK, width // BLOCK, channels]`."""
    return nn.avg_pool(images, (BLOCK, BLOCK), strides=(BLOCK, BLOCK))


def smooth_distance(sr: jax.Array, hr: jax.Array, reduction: str = "mean") -> jax.Array:
    """The L1 within blocks of 8x8 pixels where HR is smooth, and 0 in all others.

    It is not in the paper. The human eye sees a grid or a wrong colour best in smooth
    areas. They have no texture to invent, so that this distance may have a large
    weight. A block is smooth if no channel's standard deviation exceeds `SMOOTH`. The
    mean is over all pixels; rows and columns after the last whole block do not count.

    Args:
      sr: images `[batch, height, width, channels]` in [-1, 1].
      hr: images of the same shape and range.
      reduction: 'mean' or 'sum_channels'.
    """
    variance = block_means(hr**2) - block_means(hr) ** 2
    smooth = jnp.all(variance <= SMOOTH**2, axis=-1, keepdims=True)
    smooth = jnp.repeat(jnp.repeat(smooth, BLOCK, axis=1), BLOCK, axis=2)
    height, width = smooth.shape[1:3]
    sr, hr = (jnp.where(smooth, x[:, :height, :width], 0) for x in (sr, hr))
    return absolute_distance(sr, hr, reduction)


def grid_distance(
    a: jax.Array, b: jax.Array, scale: int, reduction: str = "mean"
) -> jax.Array:
    """The L1 between means over the pixels with equal position within an LR pixel.

    It is not in the paper. Sub-pixel convolutions may repeat a pattern of `scale` x
    `scale` pixels over the whole image; unlike textures, it remains in these means, and
    so does a shift of colours.

    Args:
      a: images `[batch, height, width, channels]`.
      b: images of the same shape.
      scale: HR size over LR size.
      reduction: 'mean' or 'sum_channels'.
    """
    batch, height, width, channels = a.shape
    cells = (batch, height // scale, scale, width // scale, scale, channels)
    means = (a - b).reshape(cells).mean((1, 3))
    return absolute_distance(means, jnp.zeros_like(means), reduction)


def adversarial_loss(logits: jax.Array, form: str = "non_saturating") -> jax.Array:
    """-log D(G(z)) averaged over the batch (eq. 6), from D's logits `[batch]`.

    -log sigmoid(x) is computed as softplus(-x), since the log of a sigmoid overflows.
    `saturating` is log(1 - D(G(z))), the generator's part of eq. 2. Its gradient
    vanishes where D is certain that SR is fake, as D is early in training (sec. 2.2.2).

    Args:
      logits: D's outputs for SR before the sigmoid, `[batch]`.
      form: 'non_saturating' or 'saturating'.

    Raises:
      ValueError: there is no such form.
    """
    one_of("adversarial.form", form, ADVERSARIAL_FORMS)
    if form == "saturating":
        return -jnp.mean(jax.nn.softplus(logits))
    return jnp.mean(jax.nn.softplus(-logits))


def discriminator_loss(hr_logits: jax.Array, sr_logits: jax.Array) -> jax.Array:
    """-log D(HR) - log(1 - D(SR)), each averaged over the batch (eq. 2, negated).

    Args:
      hr_logits: D's outputs for HR before the sigmoid, `[batch]`.
      sr_logits: D's outputs for SR before the sigmoid, `[batch]`.
    """
    hr, sr = jax.nn.softplus(-hr_logits), jax.nn.softplus(sr_logits)
    return jnp.mean(hr) + jnp.mean(sr)


def total_variation(images: jax.Array) -> jax.Array:
    """Sum of absolute differences of neighbouring pixels, averaged over the batch.

    The paper states the weight (2e-8, for SRResNet-VGG22 only, sec. 3.2) but not the
    form. This is the anisotropic form, summed over positions and channels, since 2e-8
    times a mean would have no effect.

    Args:
      images: `[batch, height, width, 3]` in [-1, 1].
    """
    down = jnp.abs(images[:, 1:] - images[:, :-1])
    right = jnp.abs(images[:, :, 1:] - images[:, :, :-1])
    return (jnp.sum(down) + jnp.sum(right)) / images.shape[0]
