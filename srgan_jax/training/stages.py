"""The stages of a run: the recipe and the initial state of each.

All networks and weights are created or loaded before the first stage begins, so that a
mistake in the last stage is found at once and not after a million steps.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from srgan_jax.models import registry
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import parallel, steps
from srgan_jax.training.config import Config, StageConfig, content_terms, vgg_layer
from srgan_jax.training.state import TrainState, Variables, create_network
from srgan_jax.weights import store

PAPER_BATCH_SIZE = 16  # sec. 3.2


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      config: the stage's part of the configuration.
      index: position among the stages.
      first: step of the run at which the stage begins.
      recipe: networks, optimiser and loss weights.
      vgg_params: VGG19's parameters; None if no content term needs them.
    """

    config: StageConfig
    index: int
    first: int
    recipe: steps.Recipe
    vgg_params: Any

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def end(self) -> int:
        """The last step, counted from the start of the run."""
        return self.first + self.config.steps

    @property
    def step(self) -> parallel.Step:
        """One training step, as each device computes it."""
        adversarial = self.config.adversarial
        function = steps.adversarial_step if adversarial else steps.pretrain_step
        return functools.partial(function, self.recipe)


def prepare_stages(config: Config) -> list[Stage]:
    """Prepares the stages of a run; loads VGG19 if one of them needs it.

    Raises:
      ValueError: a network, a layer of VGG19 or VGG19's weights are not valid.
    """
    load_vgg19 = functools.cache(store.load_vgg19)
    stages, first = [], 0
    for index, stage_config in enumerate(config.stages):
        vgg_params, preprocessing = None, "caffe"
        if any(map(vgg_layer, content_terms(stage_config.content))):
            vgg_params, preprocessing = load_vgg19(config.content.weights)
        recipe = make_recipe(config, stage_config, preprocessing, first)
        stage = Stage(stage_config, index, first, recipe, vgg_params)
        jax.eval_shape(functools.partial(initial_state, config, stage))
        hr = jnp.zeros((1, config.data.crop, config.data.crop, 3))
        for term in recipe.content:
            if term.vgg is not None:
                jax.eval_shape(term.vgg.apply, {"params": vgg_params}, hr)
        stages.append(stage)
        first = stage.end
    return stages


def make_recipe(
    config: Config, stage: StageConfig, preprocessing: str, first_step: int = 0
) -> steps.Recipe:
    """Creates the recipe of a stage.

    Args:
      config: the run's configuration.
      stage: the configuration of the stage.
      preprocessing: how VGG19's weights expect images: 'caffe' or 'torchvision'.
      first_step: step of the run at which the stage begins.
    """
    axis_name = steps.AXIS if config.batch_norm == "synchronised" else None
    execution: dict[str, Any] = {
        "dtype": jnp.dtype(config.dtype),
        "axis_name": axis_name,
    }
    content = []
    for name, weight in content_terms(stage.content).items():
        layer = vgg_layer(name)
        vgg = layer and VGG19(layer, preprocessing, execution["dtype"])
        content.append(steps.ContentTerm(name, weight, vgg))
    rate, adam = learning_rate(config, stage), dataclasses.asdict(config.optimizer)
    return steps.Recipe(
        generator=registry.create("generator", config.generator, **execution),
        discriminator=registry.create(
            "discriminator", config.discriminator, **execution
        ),
        optimizer=optax.adam(rate, **adam),
        learning_rate=rate,
        first_step=first_step,
        content=tuple(content),
        feature_scale=config.content.feature_scale,
        reduction=config.content.reduction,
        pixel_range=config.content.range,
        tv_weight=stage.tv_weight,
        adversarial_weight=config.adversarial.weight,
        adversarial_form=config.adversarial.form,
        order=config.adversarial.order,
        ema_decay=config.ema_decay,
        accumulate=config.accumulate,
        freeze_statistics=config.freeze_statistics,
    )


def learning_rate(config: Config, stage: StageConfig) -> optax.Schedule:
    """The learning rate by the step t within the stage, from 0.

    It is the product of three factors: the stage's `learning_rate`, multiplied by
    `decay_factor` from each step in `decay_at` on; batch_size / 16 with linear scaling
    (Goyal et al. 2017); and min(1, (t + 1) / warmup_steps) with a warm-up.
    """
    rate = stage.learning_rate
    if config.learning_rate_scaling == "linear":
        rate *= config.batch_size / PAPER_BATCH_SIZE
    decays = dict.fromkeys(stage.decay_at, stage.decay_factor)
    schedule = optax.piecewise_constant_schedule(rate, decays)
    if config.warmup_steps == 0:
        return schedule
    return lambda t: schedule(t) * jnp.minimum(1.0, (t + 1) / config.warmup_steps)


def initial_state(
    config: Config,
    stage: Stage,
    generator: Variables | None = None,
    discriminator: Variables | None = None,
) -> TrainState:
    """The state at a stage's start; networks that are not given are initialised.

    The initial weights are a function of the seed and of the stage's index.
    """
    recipe = stage.recipe
    key = jax.random.fold_in(jax.random.key(config.seed), stage.index)
    crop, small = config.data.crop, config.data.crop // config.scale
    lr, hr = jnp.zeros((1, small, small, 3)), jnp.zeros((1, crop, crop, 3))
    if generator is None:
        generator = recipe.generator.init(key, lr)
    discriminator_state = None
    if stage.config.adversarial:
        if discriminator is None:
            discriminator = recipe.discriminator.init(key, hr)
        discriminator_state = create_network(discriminator, recipe.optimizer)
    generator_state = create_network(generator, recipe.optimizer)
    return TrainState(
        jnp.int32(stage.first),
        generator_state,
        discriminator_state,
        ema=generator_state.variables,
    )
