"""The losses of sec. 2.2 as pure functions of images, features and logits.

Every reduction is written out. The paper's equations and the usual implementations
differ by factors of up to 512, and weights such as 0.006 and 1e-3 have a meaning only
together with one reduction.
"""

import jax
import jax.numpy as jnp

from srgan_jax.choices import one_of

REDUCTIONS = ("mean", "sum_channels")
ADVERSARIAL_FORMS = ("non_saturating", "saturating")


def squared_distance(a: jax.Array, b: jax.Array, reduction: str = "mean") -> jax.Array:
    """The distance of eq. 4 (on images) and eq. 5 (on VGG features), a scalar.

    `sum_channels` follows both equations to the letter: it averages over batch and
    positions (1 / r^2 W H, 1 / W_ij H_ij) and sums over channels. `mean`, the default,
    averages over channels too, as every PyTorch implementation does. At phi_5,4 the sum
    is 512 times as large, so that the adversarial term no longer counts.

    Args:
      a: `[batch, height, width, channels]`.
      b: as `a`.
      reduction: 'mean' or 'sum_channels'.
    """
    one_of("content.reduction", reduction, REDUCTIONS)
    per_channel = jnp.mean(jnp.square(a - b), axis=(0, 1, 2))
    return jnp.mean(per_channel) if reduction == "mean" else jnp.sum(per_channel)


def absolute_distance(a: jax.Array, b: jax.Array, reduction: str = "mean") -> jax.Array:
    """The mean absolute error (L1) between images; otherwise as `squared_distance`.

    It is not in the paper. Together with VGG features it keeps colours and smooth areas
    where they are.
    """
    one_of("content.reduction", reduction, REDUCTIONS)
    per_channel = jnp.mean(jnp.abs(a - b), axis=(0, 1, 2))
    return jnp.mean(per_channel) if reduction == "mean" else jnp.sum(per_channel)


def adversarial_loss(logits: jax.Array, form: str = "non_saturating") -> jax.Array:
    """-log D(G(z)) averaged over the batch (eq. 6), from D's logits `[batch]`.

    -log sigmoid(x) is computed as softplus(-x), since the log of a sigmoid overflows.
    `saturating` is log(1 - D(G(z))), the generator's part of eq. 2. Its gradient
    vanishes where D rejects SR with certainty, as it does early in training
    (sec. 2.2.2).
    """
    one_of("adversarial.form", form, ADVERSARIAL_FORMS)
    if form == "saturating":
        return -jnp.mean(jax.nn.softplus(logits))
    return jnp.mean(jax.nn.softplus(-logits))


def discriminator_loss(hr_logits: jax.Array, sr_logits: jax.Array) -> jax.Array:
    """-log D(HR) - log(1 - D(SR)), each averaged over the batch (eq. 2, negated)."""
    hr, sr = jax.nn.softplus(-hr_logits), jax.nn.softplus(sr_logits)
    return jnp.mean(hr) + jnp.mean(sr)


def total_variation(images: jax.Array) -> jax.Array:
    """Sum of |differences| of neighbours, averaged over the batch alone.

    The paper states the weight (2e-8, for SRResNet-VGG22 only, sec. 3.2) but not the
    form. This is the anisotropic one, summed over positions, since 2e-8 times a mean
    would have no effect.

    Args:
      images: `[batch, height, width, 3]` in [-1, 1].
    """
    down = jnp.abs(images[:, 1:] - images[:, :-1])
    right = jnp.abs(images[:, :, 1:] - images[:, :, :-1])
    return (jnp.sum(down) + jnp.sum(right)) / images.shape[0]
