"""The stages of a run: what each computes with, and the state it begins from.

All that any stage needs is made or fetched before the first one begins: a mistake in
the last must not wait for a million steps.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from srgan_jax.training import config as settings
from srgan_jax.training import parallel, steps
from srgan_jax.training.checkpoint import Checkpoints
from srgan_jax.training.state import TrainState, Variables, create_network
from srgan_jax.weights import store


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: its configuration, its steps in the run, what it computes with.

    Attributes:
      config: its ConfigDict.
      index: among the stages.
      first: step of the run at which it begins.
      recipe: see steps.Recipe.
      vgg_params: VGG19's parameters, or None.
    """

    config: ConfigDict
    index: int
    first: int
    recipe: steps.Recipe
    vgg_params: Any

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def end(self) -> int:
        """The last step."""
        return self.first + self.config.steps

    @property
    def update(self) -> parallel.Step:
        """One step, as each device computes it."""
        adversarial = self.config.adversarial
        function = steps.adversarial_step if adversarial else steps.pretrain_step
        return functools.partial(function, self.recipe)


def plan(config: ConfigDict) -> list[Stage]:
    """The stages of a resolved configuration; fetches VGG19 where one needs it.

    Raises:
      ValueError: a network, a layer or the VGG19 weights are not what they must be.
    """
    load_vgg19 = functools.cache(store.load_vgg19)
    stages, first = [], 0
    for index, of_stage in enumerate(config.stages):
        vgg_params, preprocessing = None, "caffe"
        if any(map(settings.vgg_layer, settings.content_terms(of_stage.content))):
            vgg_params, preprocessing = load_vgg19(config.content.weights)
        recipe = settings.recipe(config, of_stage, preprocessing, first)
        stage = Stage(of_stage, index, first, recipe, vgg_params)
        jax.eval_shape(functools.partial(initial_state, config, stage))
        hr = jnp.zeros((1, config.data.crop, config.data.crop, 3))
        for term in recipe.content:
            if term.vgg is not None:
                jax.eval_shape(term.vgg.apply, {"params": vgg_params}, hr)
        stages.append(stage)
        first = stage.end
    return stages


def initial_state(
    config: ConfigDict,
    stage: Stage,
    generator: Variables | None = None,
    discriminator: Variables | None = None,
) -> TrainState:
    """The state at a stage's first step; a network that is not given is random.

    What is random is a function of the seed and the stage.
    """
    recipe = stage.recipe
    key = jax.random.fold_in(jax.random.key(config.seed), stage.index)
    crop, small = config.data.crop, config.data.crop // config.generator.scale
    lr, hr = jnp.zeros((1, small, small, 3)), jnp.zeros((1, crop, crop, 3))
    if generator is None:
        generator = recipe.generator.init(key, lr)
    critic = None
    if stage.config.adversarial:
        if discriminator is None:
            discriminator = recipe.discriminator.init(key, hr)
        critic = create_network(discriminator, recipe.optimizer)
    network = create_network(generator, recipe.optimizer)
    return TrainState(jnp.int32(stage.first), network, critic, network.variables)


def begin(
    config: ConfigDict,
    stage: Stage,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
    resumed_at: int,
) -> TrainState:
    """The state at the stage's first step, or at the checkpoint inside the stage."""
    fresh = functools.partial(initial_state, config, stage)
    abstract = parallel.abstract(jax.eval_shape(fresh), mesh)
    if resumed_at > stage.first:
        return checkpoints.restore(resumed_at, abstract)
    generator = discriminator = None
    if stage.first:  # the averaged generator of the stage before, as its file has it
        generator = checkpoints.restore_generator(stage.first, abstract.ema)
    elif config.init_from is not None:
        _, generator = store.load_generator(config.init_from)
    if stage.config.adversarial and config.init_discriminator_from is not None:
        _, discriminator = store.load_discriminator(config.init_discriminator_from)
    return parallel.replicate(fresh(generator, discriminator), mesh)
