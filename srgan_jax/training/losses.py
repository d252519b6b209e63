"""The losses of sec. 2.2 as pure functions of images, features and logits.

Reductions are spelled out: the paper's letter, the references' habit and our default
differ by factors of up to 512, and 0.006 or 1e-3 mean something only with one of them.
"""

import jax
import jax.numpy as jnp

from srgan_jax.choices import one_of

REDUCTIONS = ("mean", "sum_channels")
ADVERSARIAL_FORMS = ("non_saturating", "saturating")


def squared_distance(a: jax.Array, b: jax.Array, reduction: str = "mean") -> jax.Array:
    """The distance of eq. 4 (on images) and eq. 5 (on VGG features), a scalar.

    `sum_channels` is the letter of both equations: averaged over batch and positions
    (1 / r^2 W H, 1 / W_ij H_ij), summed over channels. `mean`, what every PyTorch
    reimplementation computes and our default, averages over channels too: at phi_5,4
    the sum is 512 times larger and drowns the adversarial term.

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

    Not in the paper: beside VGG features it holds colours and smooth areas in place.
    """
    one_of("content.reduction", reduction, REDUCTIONS)
    per_channel = jnp.mean(jnp.abs(a - b), axis=(0, 1, 2))
    return jnp.mean(per_channel) if reduction == "mean" else jnp.sum(per_channel)


def adversarial_loss(logits: jax.Array, form: str = "non_saturating") -> jax.Array:
    """-log D(G(z)) averaged over the batch (eq. 6), from D's logits `[batch]`.

    -log sigmoid(x) = softplus(-x): never a log of a sigmoid, which overflows.
    `saturating` is log(1 - D(G(z))), the generator's part of eq. 2. Its gradient
    vanishes while D rejects SR with certainty, that is, early in training (sec. 2.2.2).
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

    Anisotropic; the paper states the weight (2e-8, SRResNet-VGG22 only, sec. 3.2) but
    not the form. Summed over positions, since 2e-8 of a mean would be nothing at all.

    Args:
      images: `[batch, height, width, 3]` in [-1, 1].
    """
    down = jnp.abs(images[:, 1:] - images[:, :-1])
    right = jnp.abs(images[:, :, 1:] - images[:, :, :-1])
    return (jnp.sum(down) + jnp.sum(right)) / images.shape[0]
