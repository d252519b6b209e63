"""Trains in PyTorch and here from one initialisation, on the same batches."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import reference
import skimage.data
import torch
from flax.traverse_util import flatten_dict

from srgan_jax.data import resize
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import state, steps
from srgan_jax.training.presets import PRESETS
from srgan_jax.weights import store
from srgan_jax.weights.formats import pytorch, pytorch_layouts
from srgan_jax.weights.layout import Weights

PROJECTS = ("lornatang", "sgrvinod")
SMALL = {"channels": 8, "blocks": 2, "hidden": 16, "crop": 32}
# A bias before BN has a gradient of zero up to rounding errors, which Adam amplifies
# to a random walk. So these biases are left out of comparisons.
IDLE = {
    "lornatang": (),
    "sgrvinod": (
        *("conv1/bias", "conv2/bias", "conv_mid/bias"),
        *(f"conv_{i}/bias" for i in range(1, 8)),
    ),
}
Batch = Mapping[str, np.ndarray]


class Twins:
    """A PyTorch project and our port of it, trained side by side.

    Attributes:
      project: the PyTorch project.
      recipe: our recipe of the current stage.
      state: our training state.
    """

    def __init__(
        self,
        name: str,
        *,
        double: bool = False,
        size: Mapping[str, int] = SMALL,
    ):
        self.name, self.size = name, dict(size)
        self.dtype, torch_dtype = (
            (jnp.float64, torch.float64) if double else (jnp.float32, torch.float32)
        )
        self.torch_dtype = torch_dtype
        self.project = create_project(name, **size).to(torch_dtype)
        params, _ = store.load_vgg19("vgg19")
        self.vgg_params = jax.tree.map(lambda x: jnp.asarray(x, self.dtype), params)

    def start(
        self,
        stage: str,
        layer: tuple[int, int] | None = None,
        *,
        learning_rate: float = 1e-4,
        **changes: Any,
    ) -> None:
        """Begins a stage with new moments on both sides."""
        self.stage, self.layer = stage, layer
        self.recipe = create_recipe(
            self.name,
            self.dtype,
            self.size,
            layer=layer,
            learning_rate=learning_rate,
            **changes,
        )
        if not hasattr(self, "state"):
            self.state = create_state(self.project, self.recipe)
        else:
            self.state = restarted(self.state, self.recipe)
        self.project.restart(learning_rate)
        step = getattr(steps, f"{stage}_step")
        self._step = compile_step(step, self.recipe)

    def step(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Runs a step on both sides; returns (ours, theirs) for each loss."""
        self.state, ours = self._step(self.state, self.vgg_params, batch)
        images = to_torch(batch, self.torch_dtype)
        if self.stage == "pretrain":
            theirs = self.project.pretrain_step(*images)
        else:
            theirs = self.project.adversarial_step(*images, self.layer)
        return {name: (float(ours[name]), loss) for name, loss in theirs.items()}

    def apart(self) -> dict[str, float]:
        """Relative distances of parameters and of running statistics, of G and D."""
        distances = {}
        pairs = {"g": self.state.generator, "d": self.state.discriminator}
        for key, ours in pairs.items():
            theirs = ported(getattr(self.project, key)).variables
            distances[f"{key} parameters"] = apart(
                ours.params, theirs["params"], without=IDLE[self.name]
            )
            distances[f"{key} statistics"] = apart(
                ours.batch_stats, theirs["batch_stats"]
            )
        return distances


def batches(count: int, size: int = 4, crop: int = 32) -> Iterator[Batch]:
    """Returns fixed crops of a photograph: uint8 'hr' and bicubic 'lr'."""
    photograph = skimage.data.astronaut()
    rng = np.random.default_rng(0)
    for _ in range(count):
        corners = rng.integers(0, 512 - crop, (size, 2))
        hr = np.stack([photograph[y : y + crop, x : x + crop] for y, x in corners])
        lr = np.stack([resize.imresize(image, 1 / 4) for image in hr])
        yield {"lr": lr, "hr": hr}


@functools.cache
def vgg() -> reference.VGG19:
    """Returns the catalog's VGG19.

    The features of an untrained VGG19 hardly differ between images, so rounding errors
    would dominate the content loss.
    """
    params, _ = store.load_vgg19("vgg19")
    layers = pytorch_layouts.vgg19()
    network = reference.VGG19(caffe=True).eval().requires_grad_(False)
    network.load_state_dict(
        {
            f"{layers[layer]}.{theirs}": torch.from_numpy(value)
            for layer, leaves in params.items()
            for theirs, value in (
                ("weight", leaves["kernel"].transpose(3, 2, 0, 1).copy()),
                ("bias", leaves["bias"]),
            )
        }
    )
    return network


def ported(module: torch.nn.Module) -> Weights:
    """Converts a module's weights through its state dict."""
    tensors = {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}
    return pytorch.recognise(tensors, type(module).__name__)


def create_project(name: str, **size: int) -> reference.Project:
    """Creates a project whose running statistics and slopes are not the defaults."""
    features = vgg()  # Constructing it draws random numbers too.
    torch.manual_seed(0)
    project = reference.Project(name, features, **size)
    for module in (project.g, project.d):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                torch.nn.init.normal_(part.bias, 0, 0.1)
            elif isinstance(part, torch.nn.PReLU):
                torch.nn.init.uniform_(part.weight, 0.1, 0.4)
    return project


def create_recipe(
    name: str,
    dtype: Any = jnp.float32,
    size: Mapping[str, int] = SMALL,
    **changes: Any,
) -> steps.Recipe:
    """Creates our recipe from a project's preset, with the catalog's VGG19.

    `changes` override fields of the recipe. Those named generator_* and discriminator_*
    override settings of the networks.
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
        own = {k: v for k, v in size.items() if k in preset[kind]}
        networks[kind] = network(**preset[kind] | own | other, dtype=dtype)
    layer = changes.pop("layer", None)
    learning_rate = changes.pop("learning_rate", 1e-4)
    optimizer = preset["optimizer"] | changes.pop("optimizer", {})
    content = (steps.ContentTerm("mse"),)
    if layer:
        vgg = VGG19(layer, "caffe", dtype)
        content = (steps.ContentTerm(f"vgg{layer[0]}{layer[1]}", vgg=vgg),)
    recipe = steps.Recipe(
        **networks,
        optimizer=optax.adam(learning_rate, **optimizer),
        learning_rate=optax.constant_schedule(learning_rate),
        content=content,
        feature_scale=1 / 12.75,
        reduction=preset["content"]["reduction"],
        pixel_range=preset["content"]["range"],
        adversarial_weight=preset["adversarial"]["weight"],
        adversarial_form=preset["adversarial"]["form"],
        order=preset["adversarial"]["order"],
    )
    return dataclasses.replace(recipe, **changes)


def create_state(project: reference.Project, recipe: steps.Recipe) -> state.TrainState:
    """Creates our state from the project's current weights."""
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


def restarted(former: state.TrainState, recipe: steps.Recipe) -> state.TrainState:
    """Resets the moments, as at the start of a stage."""
    create = state.create_network
    return former.replace(
        generator=create(former.generator.variables, recipe.optimizer),
        discriminator=create(former.discriminator.variables, recipe.optimizer),
    )


def compile_step(step: Any, recipe: steps.Recipe) -> Any:
    """Compiles a step `(state, vgg_params, batch) -> (state, metrics)`."""
    alone = jax.vmap(
        functools.partial(step, recipe),
        in_axes=(None, None, 0),
        axis_name=steps.AXIS,
    )

    def run(state: Any, vgg_params: Any, batch: Any) -> Any:
        after = alone(state, vgg_params, jax.tree.map(lambda x: x[None], batch))
        return jax.tree.map(lambda x: x[0], after)

    return jax.jit(run)


def to_torch(batch: Batch, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns 'lr' and 'hr' in [0, 1] as NCHW tensors."""
    lr, hr = (
        torch.from_numpy(np.array(batch[k])).permute(0, 3, 1, 2).to(dtype) / 255
        for k in ("lr", "hr")
    )
    return lr, hr


def apart(ours: Any, theirs: Any, *, without: tuple[str, ...] = ()) -> float:
    """||ours - theirs|| / ||theirs|| over all leaves of two trees."""
    wanted = flatten_dict(theirs, sep="/")
    found = flatten_dict(ours, sep="/")
    assert found.keys() == wanted.keys()
    kept = [name for name in wanted if not name.endswith(without)]
    difference = sum(np.sum(np.square(np.subtract(found[k], wanted[k]))) for k in kept)
    size = sum(np.sum(np.square(np.asarray(wanted[k]))) for k in kept)
    return float(np.sqrt(difference / size))
