"""The training step of each kind of stage, as pure per-device functions.

They run under a mapped axis `AXIS` (shard_map, pmap or vmap). Each device sees its part
of the global batch; gradients, running statistics and metrics are averaged over the
axis. Running statistics are averaged even with per-replica batch normalisation, since
the replicas' states would drift apart otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from srgan_jax.models.vgg import VGG19
from srgan_jax.training import losses
from srgan_jax.training.state import (
    Network,
    TrainState,
    apply_gradient,
    update_running_stats,
    warmed_up_decay,
)

AXIS = "batch"
ORDERS = ("generator_first", "discriminator_first")

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class ContentTerm:
    """One weighted distance between SR and HR in the content loss.

    Attributes:
      name: 'mse' (eq. 4), 'l1', 'colour', 'smooth' or 'grid' for a distance of images,
        or a layer of VGG19 such as 'vgg54' for the squared distance between its
        features (eq. 5).
      weight: weight of this distance in the content loss.
      vgg: the network that computes the features; None for a distance between images.
    """

    name: str
    weight: float = 1.0
    vgg: VGG19 | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Networks, optimiser and loss weights of a stage.

    Attributes:
      generator: G, a network of `models.registry`.
      discriminator: D, a network of `models.registry`.
      optimizer: optimiser of both networks.
      learning_rate: the optimiser's schedule, by the step within the stage.
      first_step: step of the run at which the stage begins.
      content: terms of the content loss, which is their weighted sum.
      feature_scale: factor on the features; 1/12.75 scales the loss of eq. 5 by 0.006.
      reduction: reduction of the content loss, see losses.squared_distance.
      pixel_range: range of the images in their distances: 'symmetric' is [-1, 1]
        (sec. 3.2); 'unit' is [0, 1], which divides the MSE by 4, the others by 2.
      tv_weight: weight of the total variation.
      adversarial_weight: weight of the adversarial loss, 1e-3 in eq. 3.
      adversarial_form: form of the adversarial loss, see losses.adversarial_loss.
      order: 'generator_first' computes G's gradient with D before D's own step, as the
        PyTorch references do, so one pass of D over SR serves both losses.
        'discriminator_first' uses D after its step, as in Goodfellow's algorithm 1.
      ema_decay: decay of the generator's average after its warm-up, see
        state.warmed_up_decay.
      accumulate: number of micro-batches that a device's batch is split into. More than
        one requires the order 'generator_first'.
      freeze_statistics: True if G's batch normalisation uses its running statistics,
        which do not change, as in inference. G must have been trained before.
    """

    generator: Any
    discriminator: Any
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    first_step: int = 0
    content: tuple[ContentTerm, ...] = (ContentTerm("mse"),)
    feature_scale: float = 1 / 12.75
    reduction: str = "mean"
    pixel_range: str = "symmetric"
    tv_weight: float = 0.0
    adversarial_weight: float = 1e-3
    adversarial_form: str = "non_saturating"
    order: str = "generator_first"
    ema_decay: float = 0.999
    accumulate: int = 1
    freeze_statistics: bool = False


class Gradients(NamedTuple):
    """Gradients of G and D, and metrics, of a batch.

    D's gradient is None in a stage without D.
    """

    generator: Any
    discriminator: Any
    metrics: Metrics


def pretrain_step(
    recipe: Recipe, state: TrainState, vgg_params: Any, batch: Batch
) -> tuple[TrainState, Metrics]:
    """Trains the generator on the content loss alone (SRResNet, sec. 3.2).

    Args:
      recipe: the stage's recipe.
      state: the state, equal on all devices.
      vgg_params: VGG19's parameters; None if no content term needs them.
      batch: this device's 'lr' `[b, h, w, 3]` and 'hr' `[b, scale h, scale w, 3]`,
        uint8.

    Returns:
      The next state and the metrics, both equal on all devices.
    """
    gradients = functools.partial(pretrain_gradients, recipe, vgg_params)
    return finish(recipe, state, *over_micro_batches(recipe, gradients, state, batch))


def pretrain_gradients(
    recipe: Recipe, vgg_params: Any, state: TrainState, batch: Batch
) -> tuple[Gradients, TrainState]:
    """Returns G's gradient, and the state with new running statistics."""
    lr, hr = paper_ranges(batch)
    sr, generator_vjp, stats = forward_generator(recipe, state.generator, lr)
    metrics, sr_gradient = image_losses(recipe, vgg_params, sr, hr)
    gradient, _ = generator_vjp(sr_gradient)
    generator = dataclasses.replace(state.generator, batch_stats=stats)
    return (
        Gradients(gradient, None, metrics),
        dataclasses.replace(state, generator=generator),
    )


def adversarial_step(
    recipe: Recipe, state: TrainState, vgg_params: Any, batch: Batch
) -> tuple[TrainState, Metrics]:
    """Trains D on eq. 2 and G on eq. 3, one step each, from one forward pass of G.

    Arguments and results are those of `pretrain_step`.
    """
    gradients = functools.partial(adversarial_gradients, recipe, vgg_params)
    return finish(recipe, state, *over_micro_batches(recipe, gradients, state, batch))


def adversarial_gradients(
    recipe: Recipe, vgg_params: Any, state: TrainState, batch: Batch
) -> tuple[Gradients, TrainState]:
    """Returns gradients of G and D, and the state with new running statistics."""
    lr, hr = paper_ranges(batch)
    sr, generator_vjp, stats = forward_generator(recipe, state.generator, lr)

    # D's loss on HR and SR, and its gradient.
    before = state.discriminator
    assert before is not None
    hr_logits, hr_vjp, hr_stats = forward(recipe.discriminator, before, hr)
    sr_logits, sr_vjp, sr_stats = forward(recipe.discriminator, before, sr)
    loss, cotangents = jax.value_and_grad(losses.discriminator_loss, (0, 1))(
        hr_logits, sr_logits
    )
    gradient_d = optax.tree.add(hr_vjp(cotangents[0])[0], sr_vjp(cotangents[1])[0])
    # Running statistics are updated by D's passes in the PyTorch references' order.
    passes = [hr_stats, sr_stats]
    if recipe.order == "generator_first":  # G's step comes first and runs D on SR too
        passes.insert(0, sr_stats)
    stats_d = update_running_stats(
        before.batch_stats, passes, recipe.discriminator.bn_momentum
    )
    metrics = {
        "discriminator": loss,
        "d_hr": jnp.mean(jax.nn.sigmoid(hr_logits)),
        "d_sr": jnp.mean(jax.nn.sigmoid(sr_logits)),
    }

    # G's loss on SR, and its gradient.
    if recipe.order == "discriminator_first":
        after = apply_gradient(
            recipe.optimizer, before, average_over_devices(gradient_d), stats_d
        )
        sr_logits, sr_vjp, stats_d = forward(recipe.discriminator, after, sr)
    adversarial, cotangent = jax.value_and_grad(losses.adversarial_loss)(
        sr_logits, recipe.adversarial_form
    )
    parts, sr_gradient = image_losses(recipe, vgg_params, sr, hr)
    sr_gradient += recipe.adversarial_weight * sr_vjp(cotangent)[1]
    gradient, _ = generator_vjp(sr_gradient)
    metrics |= parts | {"adversarial": adversarial}
    generator = dataclasses.replace(state.generator, batch_stats=stats)
    discriminator = dataclasses.replace(before, batch_stats=stats_d)
    return (
        Gradients(gradient, gradient_d, metrics),
        dataclasses.replace(state, generator=generator, discriminator=discriminator),
    )


def over_micro_batches(
    recipe: Recipe,
    gradients: Callable[[TrainState, Batch], tuple[Gradients, TrainState]],
    state: TrainState,
    batch: Batch,
) -> tuple[Gradients, TrainState]:
    """Computes the mean gradients and metrics over a device's micro-batches.

    Micro-batches are computed one after another, so memory holds the activations of one
    at a time. Each is normalised by its own batch statistics and updates the running
    statistics in turn.
    """
    if recipe.accumulate == 1:
        return gradients(state, batch)

    def add(
        carry: tuple[Gradients, TrainState], micro_batch: Batch
    ) -> tuple[tuple[Gradients, TrainState], None]:
        total, state = carry
        found, state = gradients(state, micro_batch)
        return (optax.tree.add(total, found), state), None

    count = recipe.accumulate
    batch = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], batch)
    zeros = optax.tree.zeros_like(jax.eval_shape(gradients, state, first)[0])
    (total, state), _ = lax.scan(add, (zeros, state), batch)
    return optax.tree.scale(1 / count, total), state


def paper_ranges(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Converts uint8 images to LR in [0, 1] and HR in [-1, 1] (sec. 3.2)."""
    return batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0


def forward(
    module: nn.Module, network: Network, images: jax.Array
) -> tuple[jax.Array, Any, Any]:
    """Runs a network in training mode.

    Returns:
      The output, its vjp with respect to (parameters, images), and the new running
      statistics.
    """

    def apply(params: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": network.batch_stats}
        output, changed = module.apply(variables, images, True, mutable=["batch_stats"])
        return output, changed.get("batch_stats", {})

    return jax.vjp(apply, network.params, images, has_aux=True)


def forward_generator(
    recipe: Recipe, network: Network, lr: jax.Array
) -> tuple[jax.Array, Any, Any]:
    """Runs G as `forward` does, or with frozen statistics."""
    if not recipe.freeze_statistics:
        return forward(recipe.generator, network, lr)

    def apply(params: Any, lr: jax.Array) -> jax.Array:
        variables = {"params": params, "batch_stats": network.batch_stats}
        return recipe.generator.apply(variables, lr, method=with_running_statistics)

    return *jax.vjp(apply, network.params, lr), network.batch_stats


def with_running_statistics(generator: Any, lr: jax.Array) -> jax.Array:
    """SR as in inference, but from layers whose gradient is fast."""
    return generator.reconstruct(generator.features(lr))


def average_over_devices(tree: Any) -> Any:
    """Averages over the mapped axis.

    On a single device the values are returned unchanged, since XLA would copy them all.
    A vmap over one device must therefore keep the axis in its results.
    """
    return tree if lax.axis_size(AXIS) == 1 else lax.pmean(tree, AXIS)


def image_losses(
    recipe: Recipe, vgg_params: Any, sr: jax.Array, hr: jax.Array
) -> tuple[Metrics, jax.Array]:
    """Computes the losses of SR against HR that do not involve D.

    Returns:
      The content loss (eq. 4, 5) and the total variation as metrics, and the gradient
      of their weighted sum with respect to SR. If the content loss has several terms,
      the metrics include each term without its weight.
    """

    def loss(sr: jax.Array) -> tuple[jax.Array, Metrics]:
        terms = {
            term.name: content_distance(recipe, term, vgg_params, sr, hr)
            for term in recipe.content
        }
        first, *others = (term.weight * terms[term.name] for term in recipe.content)
        content = sum(others, start=first)
        parts = {"content": content}
        if len(terms) > 1:
            parts |= {f"content_{name}": value for name, value in terms.items()}
        if not recipe.tv_weight:
            return content, parts
        parts["total_variation"] = losses.total_variation(sr)
        return content + recipe.tv_weight * parts["total_variation"], parts

    (_, parts), gradient = jax.value_and_grad(loss, has_aux=True)(sr)
    return parts, gradient


def content_distance(
    recipe: Recipe, term: ContentTerm, vgg_params: Any, sr: jax.Array, hr: jax.Array
) -> jax.Array:
    """Returns one term of the content loss, without its weight."""
    scale = 1.0 if recipe.pixel_range == "symmetric" else 0.5
    if term.vgg is None:
        a, b = scale * sr, scale * hr
    else:
        variables = {"params": vgg_params}
        a, b = (
            recipe.feature_scale * jnp.asarray(term.vgg.apply(variables, images))
            for images in (sr, hr)
        )
    if term.name == "colour":
        return losses.colour_distance(a, b, recipe.reduction)
    if term.name == "smooth":  # which blocks are smooth does not depend on the range
        return scale * losses.smooth_distance(sr, hr, recipe.reduction)
    if term.name == "grid":
        return losses.grid_distance(a, b, recipe.generator.scale, recipe.reduction)
    if term.name == "l1":
        return losses.absolute_distance(a, b, recipe.reduction)
    return losses.squared_distance(a, b, recipe.reduction)


def finish(
    recipe: Recipe, before: TrainState, gradients: Gradients, after: TrainState
) -> tuple[TrainState, Metrics]:
    """Averages over devices, applies the gradients and updates G's moving average.

    Args:
      recipe: the stage's recipe.
      before: the state at the start of the step.
      gradients: this device's gradients and metrics.
      after: the same state with this device's new running statistics.

    Returns:
      The next state and the metrics, both equal on all devices.
    """
    discriminator = after.discriminator
    norms = {}
    if discriminator is not None and gradients.discriminator is not None:
        gradient, stats = (
            average_over_devices(gradients.discriminator),
            average_over_devices(discriminator.batch_stats),
        )
        discriminator = apply_gradient(recipe.optimizer, discriminator, gradient, stats)
        norms["discriminator_gradient"] = optax.tree.norm(gradient)
    parts = gradients.generator, after.generator.batch_stats, gradients.metrics
    gradient, stats, metrics = average_over_devices(parts)
    generator = apply_gradient(recipe.optimizer, before.generator, gradient, stats)
    step = before.step - recipe.first_step
    decay = warmed_up_decay(recipe.ema_decay, step)
    ema = optax.incremental_update(generator.variables, before.ema, 1.0 - decay)
    metrics |= norms
    metrics["generator_gradient"] = optax.tree.norm(gradient)
    metrics["learning_rate"] = jnp.asarray(recipe.learning_rate(step), jnp.float32)
    return TrainState(before.step + 1, generator, discriminator, ema), metrics
