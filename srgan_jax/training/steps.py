"""One update of each stage: per-device pure functions, the mathematics alone.

They run under a mapped axis `AXIS` (shard_map, pmap or vmap): each device sees its part
of the global batch, and gradients, batch statistics and metrics are averaged over the
axis. With per-replica batch normalisation the statistics are averaged too, or the
replicas' states would drift apart.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import losses
from srgan_jax.training.state import (
    Network,
    TrainState,
    move_average,
    seen_in_turn,
    update,
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
      name: 'mse' (eq. 4) or 'l1', between images; or a layer of VGG19 such as 'vgg54',
        the squared distance between its features (eq. 5).
      weight: of this distance in the content loss.
      vgg: the network that gives the features, or None for images.
    """

    name: str
    weight: float = 1.0
    vgg: VGG19 | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a stage computes with: networks, optimiser and the weights of the losses.

    Attributes:
      generator, discriminator, optimizer: of this stage.
      learning_rate: the optimiser's schedule, by the step within the stage.
      first_step: step of the run at which the stage begins.
      content: the terms of the content loss; their weighted sum is minimised.
      feature_scale: factor on the features; 1/12.75 makes eq. 5 0.006 times itself.
      reduction: of the content loss, see losses.squared_distance.
      pixel_range: of the images in 'mse' and 'l1': 'symmetric' (sec. 3.2) or 'unit',
        which makes the MSE a quarter and the L1 half as large.
      tv_weight: of the total variation.
      adversarial_weight: 1e-3 in eq. 3.
      adversarial_form: see losses.adversarial_loss.
      order: whether G's step sees D before its update ('generator_first', as in the
        PyTorch references; D's pass over SR then serves both) or after it
        ('discriminator_first', the order of Goodfellow's algorithm 1).
      ema_decay: of the generator's average, once the stage is long enough: see
        state.warmed_up_decay.
    """

    generator: Generator
    discriminator: Discriminator
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


def pretrain_step(
    recipe: Recipe, state: TrainState, vgg_params: Any, batch: Batch
) -> tuple[TrainState, Metrics]:
    """Updates the generator on the content loss alone (SRResNet, sec. 3.2).

    Args:
      recipe: of the stage.
      state: replicated.
      vgg_params: VGG19's parameters, or None where the recipe has no `vgg`.
      batch: this device's 'lr' `[b, h, w, 3]` and 'hr' `[b, rh, rw, 3]` in uint8.

    Returns:
      The next state and the metrics, both equal on all devices.
    """
    lr, hr = paper_ranges(batch)
    sr, pull_back, stats = forward(recipe.generator, state.generator, lr)
    metrics, at_sr = image_losses(recipe, vgg_params, sr, hr)
    (gradient, _) = pull_back(at_sr)
    return finish(recipe, state, gradient, stats, state.discriminator, metrics)


def adversarial_step(
    recipe: Recipe, state: TrainState, vgg_params: Any, batch: Batch
) -> tuple[TrainState, Metrics]:
    """Updates D on eq. 2 and G on eq. 3, k = 1, from one forward pass of G.

    Arguments and results are those of `pretrain_step`.
    """
    lr, hr = paper_ranges(batch)
    sr, pull_back, stats = forward(recipe.generator, state.generator, lr)

    critic = state.discriminator
    assert critic is not None
    judged = judge(recipe.discriminator, critic, hr, sr)
    gradient_d = average_over_devices(judged.gradient)
    # The running statistics see D's passes in the order of the PyTorch references.
    passes = [judged.after_hr, judged.after_sr]
    if recipe.order == "generator_first":  # G's step and D's step show SR to the same D
        passes.insert(0, judged.after_sr)
    momentum = recipe.discriminator.bn_momentum
    stats_d = seen_in_turn(critic.batch_stats, passes, momentum)
    updated = update(recipe.optimizer, critic, gradient_d, stats_d)
    metrics = {
        "discriminator": judged.loss,
        "d_hr": jnp.mean(jax.nn.sigmoid(judged.on_hr)),
        "d_sr": jnp.mean(jax.nn.sigmoid(judged.on_sr)),
        "discriminator_gradient": optax.tree.norm(gradient_d),
    }

    on_sr, pull_sr = judged.on_sr, judged.pull_sr
    if recipe.order == "discriminator_first":
        on_sr, pull_both, stats_d = forward(recipe.discriminator, updated, sr)

        def pull_sr(at_logits: jax.Array) -> jax.Array:
            return pull_both(at_logits)[1]

    updated = dataclasses.replace(updated, batch_stats=average_over_devices(stats_d))

    adversarial, at_logits = jax.value_and_grad(losses.adversarial_loss)(
        on_sr, recipe.adversarial_form
    )
    parts, at_sr = image_losses(recipe, vgg_params, sr, hr)
    at_sr = at_sr + recipe.adversarial_weight * pull_sr(at_logits)
    (gradient, _) = pull_back(at_sr)
    metrics |= parts | {"adversarial": adversarial}
    return finish(recipe, state, gradient, stats, updated, metrics)


class Judged(NamedTuple):
    """D on HR and SR: its loss and its gradient, logits, statistics after each.

    `pull_sr` takes a gradient at SR's logits back to SR.
    """

    loss: jax.Array
    gradient: Any
    on_hr: jax.Array
    on_sr: jax.Array
    after_hr: Any
    after_sr: Any
    pull_sr: Callable[[jax.Array], jax.Array]


def judge(
    discriminator: Discriminator, critic: Network, hr: jax.Array, sr: jax.Array
) -> Judged:
    """D's passes over HR and SR, each normalised by its own statistics.

    Its dense layers, which hold most of its parameters, take both together: one pass
    reads these and writes their gradient.
    """
    show = functools.partial(forward, discriminator, critic)
    of_hr, pull_hr, after_hr = show(hr, part="features")
    of_sr, pull_sr, after_sr = show(sr, part="features")
    logits, pull_dense, _ = show(jnp.concatenate([of_hr, of_sr]), part="dense")
    on_hr, on_sr = jnp.split(logits, 2)
    loss, at_logits = jax.value_and_grad(losses.discriminator_loss, (0, 1))(
        on_hr, on_sr
    )
    of_dense, at_features = pull_dense(jnp.concatenate(at_logits))
    at_hr, at_sr = jnp.split(at_features, 2)
    gradient = optax.tree.add(pull_hr(at_hr)[0], pull_sr(at_sr)[0])

    def pull_to_sr(at_logits: jax.Array) -> jax.Array:
        both = jnp.concatenate([jnp.zeros_like(at_logits), at_logits])
        _, at_sr = jnp.split(pull_dense(both)[1], 2)
        return pull_sr(at_sr)[1]

    gradient = optax.tree.add(gradient, of_dense)
    return Judged(loss, gradient, on_hr, on_sr, after_hr, after_sr, pull_to_sr)


def average_over_devices(tree: Any) -> Any:
    """Their mean; one device's parts as they are, of which XLA would make copies.

    So a vmap over one device must leave the axis on its results.
    """
    return tree if lax.axis_size(AXIS) == 1 else lax.pmean(tree, AXIS)


def paper_ranges(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """LR in [0, 1] and HR in [-1, 1] (sec. 3.2) from 8 bits."""
    return batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0


def forward(
    module: Generator | Discriminator, network: Network, images: jax.Array, **part: Any
) -> tuple[jax.Array, Any, Any]:
    """Output in training mode, its pull-back to (parameters, images), statistics."""

    def apply(params: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": network.batch_stats}
        output, changed = module.apply(
            variables, images, True, mutable=["batch_stats"], **part
        )
        return output, changed["batch_stats"]

    return jax.vjp(apply, network.params, images, has_aux=True)


def image_losses(
    recipe: Recipe, vgg_params: Any, sr: jax.Array, hr: jax.Array
) -> tuple[Metrics, jax.Array]:
    """Content loss (eq. 4, 5) and total variation, and the gradient of their sum at SR.

    Where the content loss has several terms, the metrics hold each of them too, before
    its weight.
    """

    def loss(sr: jax.Array) -> tuple[jax.Array, Metrics]:
        terms = {
            term.name: content_distance(recipe, term, vgg_params, sr, hr)
            for term in recipe.content
        }
        weighted = (term.weight * terms[term.name] for term in recipe.content)
        content = functools.reduce(jnp.add, weighted)
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
    """One term of the content loss, before its weight."""
    if term.vgg is None:
        scale = 1.0 if recipe.pixel_range == "symmetric" else 0.5
        a, b = scale * sr, scale * hr
    else:
        variables = {"params": vgg_params}
        a, b = (
            recipe.feature_scale * jnp.asarray(term.vgg.apply(variables, images))
            for images in (sr, hr)
        )
    if term.name == "l1":
        return losses.absolute_distance(a, b, recipe.reduction)
    return losses.squared_distance(a, b, recipe.reduction)


def finish(
    recipe: Recipe,
    state: TrainState,
    gradient: Any,
    stats: Any,
    discriminator: Network | None,
    metrics: Metrics,
) -> tuple[TrainState, Metrics]:
    """The generator's update and average, and the metrics of all devices."""
    parts = gradient, stats, metrics
    gradient, stats, metrics = average_over_devices(parts)
    generator = update(recipe.optimizer, state.generator, gradient, stats)
    step = state.step - recipe.first_step
    decay = warmed_up_decay(recipe.ema_decay, step)
    ema = move_average(state.ema, generator.variables, decay)
    metrics["generator_gradient"] = optax.tree.norm(gradient)
    metrics["learning_rate"] = jnp.asarray(recipe.learning_rate(step), jnp.float32)
    return TrainState(state.step + 1, generator, discriminator, ema), metrics
