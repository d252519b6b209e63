"""Tiny networks and batches that several tests share."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from PIL import Image

from configs import srgan
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.registry import EXECUTION
from srgan_jax.models.vgg import VGG19
from srgan_jax.training.state import TrainState, create_network
from srgan_jax.training.steps import ContentTerm, Recipe

CROP, SCALE = 32, 4


def recipe(**fields) -> Recipe:
    synchronised = fields.pop("synchronised", False)
    axis_name = "batch" if synchronised else None
    return Recipe(
        generator=Generator(blocks=1, channels=4, axis_name=axis_name),
        discriminator=Discriminator(channels=2, hidden=4, axis_name=axis_name),
        **{
            "optimizer": optax.adam(1e-3),
            "learning_rate": optax.constant_schedule(1e-3),
            "ema_decay": 0.9,
        }
        | fields,
    )


@functools.cache  # Compiling an initialisation takes longer than a test.
def initialise(network: Generator | Discriminator, side: int) -> dict:
    return jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, side, side, 3)))


def state(recipe: Recipe, adversarial: bool = True) -> TrainState:
    variables = initialise(recipe.generator, CROP // SCALE)
    network = create_network(variables, recipe.optimizer)
    discriminator = None
    if adversarial:
        discriminator = create_network(
            initialise(recipe.discriminator, CROP), recipe.optimizer
        )
    return TrainState(jnp.int32(0), network, discriminator, network.variables)


def settings_of(network: Generator | Discriminator) -> dict[str, Any]:
    """Returns the settings of a network, as its file stores them."""
    names = set(network.__dataclass_fields__) - set(EXECUTION)
    return {name: getattr(network, name) for name in names}


def vgg_content(layer: tuple[int, int] = (1, 2)) -> tuple[ContentTerm, ...]:
    return (ContentTerm(f"vgg{layer[0]}{layer[1]}", vgg=VGG19(layer)),)


@functools.cache
def vgg_params(layer: tuple[int, int] = (1, 2)) -> dict:
    images = jnp.zeros((1, CROP, CROP, 3))
    return VGG19(layer).init(jax.random.key(1), images)["params"]


def batch(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def images(side: int) -> np.ndarray:
        return rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)

    return {"lr": images(CROP // SCALE), "hr": images(CROP)}


def photographs(folder: Path, count: int = 12, side: int = 44) -> Path:
    """Writes images of smooth noise into a folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        noise.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def config(folder: Path) -> ConfigDict:
    """Both stages of tiny networks: 3 steps each, checkpoints at every second step."""
    config = srgan.get_config("mse")
    config.batch_size = 4
    config.ema_decay = 0.9
    config.log_every = 1
    config.generator.update({"blocks": 1, "channels": 4})
    config.discriminator.update({"channels": 2, "hidden": 4})
    config.data.update({"source": f"folder:{folder}", "crop": CROP})
    config.evaluation.update({"source": f"folder:{folder}", "every": 2})
    config.evaluation.lpips = "none"
    config.checkpoint.every = 2
    for stage in config.stages:
        stage.steps = 3
        stage.learning_rate = 1e-3
    config.stages[1].decay_at = (2,)
    return config


get_config = config  # --config=tests/tiny.py:FOLDER
