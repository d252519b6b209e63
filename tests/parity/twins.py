"""The same network in PyTorch and here: one initialisation, the same batches."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import reference
import skimage.data
import torch

from srgan_jax.data import resize
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import state, steps
from srgan_jax.weights import layout
from srgan_jax.weights import torch as torch_files
from srgan_jax.weights.layout import Weights
from srgan_jax.weights.presets import PRESETS

PROJECTS = ("lornatang", "sgrvinod")
SMALL = {"channels": 8, "blocks": 2, "hidden": 16, "crop": 32}
Batch = dict[str, np.ndarray]


def batches(count: int, size: int = 4, crop: int = 32) -> Iterator[Batch]:
    """Crops of a photograph, always the same: uint8 'hr' and bicubic 'lr'."""
    photograph = skimage.data.astronaut()
    rng = np.random.default_rng(0)
    for _ in range(count):
        corners = rng.integers(0, 512 - crop, (size, 2))
        hr = np.stack([photograph[y : y + crop, x : x + crop] for y, x in corners])
        lr = np.stack([resize.imresize(image, 1 / 4) for image in hr])
        yield {"lr": lr, "hr": hr}


@functools.cache
def vgg() -> reference.VGG19:
    """VGG19 with activations that grow no smaller from layer to layer, as trained."""
    torch.manual_seed(1)
    network = reference.VGG19().eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter)
    return network


def ported(module: torch.nn.Module) -> Weights:
    """A module's weights, by way of its state dict."""
    tensors = {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}
    return torch_files.recognise(tensors, type(module).__name__)


def create_project(name: str, *, seed: int = 0, **size: int) -> reference.Project:
    """The reference with running statistics and slopes that are not their defaults."""
    torch.manual_seed(seed)
    project = reference.Project(name, vgg(), **size)
    for module in (project.g, project.d):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                torch.nn.init.normal_(part.bias, 0, 0.1)
            elif isinstance(part, torch.nn.PReLU):
                torch.nn.init.uniform_(part.weight, 0.1, 0.4)
    return project


def create_recipe(name: str, dtype: Any = jnp.float32, **changes: Any) -> steps.Recipe:
    """Our recipe for a project of SMALL size, by its preset.

    `changes` are those of the recipe; called generator_* and discriminator_*, of the
    networks' settings.
    """
    preset = PRESETS[name]
    networks = {}
    for kind, network in (("generator", Generator), ("discriminator", Discriminator)):
        prefix = kind + "_"
        other = {
            k.removeprefix(prefix): changes.pop(k)
            for k in list(changes)
            if k.startswith(prefix)
        }
        size = {k: v for k, v in SMALL.items() if k in preset[kind]}
        networks[kind] = network(**preset[kind] | size | other, dtype=dtype)
    layer = changes.pop("layer", None)
    optimizer = preset["optimizer"] | changes.pop("optimizer", {})
    recipe = steps.Recipe(
        **networks,
        optimizer=optax.adam(1e-4, **optimizer),
        vgg=layer and VGG19(layer, "torchvision", dtype),
        feature_scale=preset["content"]["feature_scale"],
        reduction=preset["content"]["reduction"],
        mse_range=preset["content"]["range"],
        adversarial_weight=preset["adversarial"]["weight"],
        adversarial_form=preset["adversarial"]["form"],
        order=preset["adversarial"]["order"],
    )
    return dataclasses.replace(recipe, **changes)


def create_state(project: reference.Project, recipe: steps.Recipe) -> state.TrainState:
    generator, discriminator = (
        jax.tree.map(jnp.asarray, ported(module).variables)
        for module in (project.g, project.d)
    )
    return state.TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=state.create_network(generator, recipe.optimizer),
        discriminator=state.create_network(discriminator, recipe.optimizer),
        ema=generator,
    )


def compile_step(step: Any, recipe: steps.Recipe) -> Any:
    """A step on one device; `(state, vgg_params, batch) -> (state, metrics)`."""
    alone = jax.vmap(
        functools.partial(step, recipe),
        in_axes=(None, None, 0),
        out_axes=None,
        axis_name=steps.AXIS,
    )
    compiled = jax.jit(lambda s, v, batch: alone(s, v, jax.tree.map(_one, batch)))
    return compiled


def _one(x: jax.Array) -> jax.Array:
    return x[None]


def to_torch(batch: Batch, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """'lr' and 'hr' in [0, 1], NCHW."""
    lr, hr = (
        torch.from_numpy(batch[k]).permute(0, 3, 1, 2).to(dtype) / 255
        for k in ("lr", "hr")
    )
    return lr, hr


def apart(ours: Any, theirs: Any, *, without: tuple[str, ...] = ()) -> float:
    """||ours - theirs|| / ||theirs|| over all leaves of two trees."""
    wanted = dict(layout.flatten(theirs))
    found = dict(layout.flatten(ours))
    assert found.keys() == wanted.keys()
    kept = [name for name in wanted if not name.endswith(without or ("-",))]
    difference = sum(np.sum(np.square(np.subtract(found[k], wanted[k]))) for k in kept)
    size = sum(np.sum(np.square(np.asarray(wanted[k]))) for k in kept)
    return float(np.sqrt(difference / size))
