"""Reads and writes PyTorch state dicts: Lornatang's, sgrvinod's and torchvision's.

The layout is recognised by the keys, the network's size by the shapes. PyTorch itself
is imported only for its pickled files, and those are opened with `weights_only`: a
pickled module is refused.
"""

import itertools
import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax import paths
from srgan_jax.models import registry
from srgan_jax.weights import layout
from srgan_jax.weights.formats import pytorch_layouts as torch_layouts
from srgan_jax.weights.formats.pytorch_layouts import Layers
from srgan_jax.weights.layout import Weights, WeightsError
from srgan_jax.weights.presets import PRESETS

State = Mapping[str, np.ndarray]

# What PyTorch's containers put before a name, and how the files of 2022 spell conv1..3.
PREFIXES = re.compile(r"^((module|_orig_mod|net)\.)+")
FORMER_NAMES = re.compile(r"^conv_block([123])\.(?!conv_block)")
IGNORED = re.compile(r"n_averaged$|num_batches_tracked$")
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# Settings on which the meaning of a tensor depends, so that they must be Lornatang's.
MEANINGS = {
    "generator": ("conv_bias", "prelu", "input_range", "bn_epsilon"),
    "discriminator": ("conv_bias", "head", "padding", "input_range", "bn_epsilon"),
}


def read(path: Path, *, ema: bool = False) -> Weights:
    """The network in a `.pth` file: a state dict, or a checkpoint that holds one.

    Args:
      path: of the file.
      ema: take the checkpoint's `ema_state_dict` in place of its `state_dict`.

    Raises:
      WeightsError: PyTorch is not installed, the file holds pickled code or no state
        dict, or `recognise` refuses it.
    """
    torch = _import_torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(
            f"{path} is not a state dict. If it is a pickled module, opening it would "
            "run its code: in its own project write `torch.save(model.state_dict(), "
            f"'state_dict.pth')`, then convert that file. ({error})"
        ) from error
    name = "ema_state_dict" if ema else "state_dict"
    if isinstance(content, dict) and (ema or name in content):
        content = content.get(name)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} has no {name}")
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    return recognise({k: v.float().numpy() for k, v in tensors.items()}, str(path))


def write(path: Path, weights: Weights) -> None:
    """Writes Lornatang's checkpoint `{'state_dict': ...}`, atomically.

    Raises:
      WeightsError: PyTorch is not installed, or `state_dict` refuses.
    """
    torch = _import_torch(path)
    state = {k: torch.from_numpy(v) for k, v in state_dict(weights).items()}
    with paths.replacing(path) as unfinished:
        torch.save({"state_dict": state}, unfinished)


def recognise(state: State, source: str) -> Weights:
    """The network in a state dict.

    Raises:
      WeightsError: the layout is unknown, or tensors are missing, left over or of
        another shape.
    """
    state = {
        FORMER_NAMES.sub(r"conv\1.", PREFIXES.sub("", name)): np.asarray(value)
        for name, value in state.items()
        if not IGNORED.search(name)
    }
    for project in torch_layouts.GENERATORS:
        if f"{torch_layouts.GENERATORS[project]['bn_mid']}.bias" in state:
            return _generator(project, state, source)
        if f"{torch_layouts.DISCRIMINATORS[project]['bn_1']}.bias" in state:
            return _discriminator(project, state, source)
    if "features.34.weight" in state:
        features = {k: v for k, v in state.items() if k.startswith("features.")}
        settings = {"preprocessing": "torchvision"}
        return _take("vgg19", settings, torch_layouts.vgg19(), features, source)
    names = ", ".join(itertools.islice(state, 5)) or "none"
    raise WeightsError(
        f"{source} has no layout that is known here (Lornatang/SRGAN-PyTorch, "
        f"sgrvinod's tutorial, torchvision's VGG19). Its first tensors: {names}"
    )


def state_dict(weights: Weights) -> dict[str, np.ndarray]:
    """A generator or discriminator in Lornatang's layout (names of 2023).

    Of a generator without tanh that speaks [-1, 1], the change to their [0, 1] is
    folded into the last convolution.

    Raises:
      WeightsError: Lornatang's network cannot compute what these weights do.
    """
    kind, settings, variables = weights
    if kind == "vgg19":
        raise WeightsError("VGG19 is not written for PyTorch: torchvision has its own")
    network = registry.create(kind, settings)
    theirs = PRESETS["lornatang"][kind]
    other = [n for n in MEANINGS[kind] if getattr(network, n) != theirs[n]]
    if getattr(network, "output", None) == "tanh":
        other.append("output")
    if other:
        listed = [f"{n}={getattr(network, n)!r} ({theirs[n]!r})" for n in other]
        raise WeightsError(
            f"Lornatang's {kind} cannot hold these weights; theirs has other settings "
            f"(in brackets): {', '.join(listed)}"
        )
    leaves: dict[str, np.ndarray] = {
        name: np.asarray(leaf, np.float32) for name, leaf in layout.flatten(variables)
    }
    if kind == "discriminator":
        layers = torch_layouts.DISCRIMINATORS["lornatang"]
    else:
        ups = network.scale.bit_length() - 1
        layers = torch_layouts.generator("lornatang", network.blocks, ups)
        if network.output_range == "symmetric":
            leaves["params/conv_out/kernel"] = leaves["params/conv_out/kernel"] / 2
            leaves["params/conv_out/bias"] = leaves["params/conv_out/bias"] / 2 + 0.5
    channels = 8 * network.channels
    return {_theirs(k, layers): _to_torch(k, v, channels) for k, v in leaves.items()}


def _generator(project: str, state: State, source: str) -> Weights:
    blocks, ups = (_count(state, name) for name in torch_layouts.REPEATED[project])
    layers = torch_layouts.generator(project, blocks, ups)
    channels = len(state[layers["bn_mid"] + ".bias"])
    size = {"scale": 2**ups, "blocks": blocks, "channels": channels}
    settings = PRESETS[project]["generator"] | size
    return _take("generator", settings, layers, state, source)


def _discriminator(project: str, state: State, source: str) -> Weights:
    layers = torch_layouts.DISCRIMINATORS[project]
    hidden = state.get(layers["dense_0"] + ".bias", ())
    size = {"channels": len(state[layers["bn_1"] + ".bias"]), "hidden": len(hidden)}
    settings = PRESETS[project]["discriminator"] | size
    return _take("discriminator", settings, layers, state, source)


def _take(
    kind: str, settings: dict[str, Any], layers: Layers, state: State, source: str
) -> Weights:
    dense = state.get(layers.get("dense_0", "") + ".weight")
    crop = 96 if dense is None else layout.crop_of(dense.shape[-1], settings)
    wanted = layout.expected(kind, settings, crop)
    layout.compare(
        {name: value.shape for name, value in state.items()},
        {_theirs(k, layers): _torch_shape(shape) for k, shape in wanted.items()},
        f"{source} does not fit the {kind}",
    )
    channels = 8 * settings.get("channels", 0)
    leaves = {k: _from_torch(k, state[_theirs(k, layers)], channels) for k in wanted}
    return Weights(kind, settings, layout.unflatten(leaves))


def _count(state: State, name: str) -> int:
    """How many numbered modules `name` holds."""
    return len({k.split(".")[1] for k in state if k.startswith(f"{name}.")})


def _theirs(leaf: str, layers: Layers) -> str:
    """The name in a state dict of our leaf, such as `params/block_0/conv1/kernel`."""
    _, *layer, name = leaf.split("/")
    return f"{layers['/'.join(layer)]}.{LEAVES[name]}"


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Kernels are out, in, height, width there; dense ones out, in."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _from_torch(leaf: str, value: np.ndarray, channels: int) -> np.ndarray:
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    elif "dense_0" in leaf and value.ndim == 2:  # behind their flattening of c, h, w
        side = math.isqrt(value.shape[1] // channels)
        value = value.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)
        value = value.reshape(-1, value.shape[-1])
    elif value.ndim == 2:
        value = value.T
    return np.ascontiguousarray(value)


def _to_torch(leaf: str, value: np.ndarray, channels: int) -> np.ndarray:
    if value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    elif "dense_0" in leaf and value.ndim == 2:
        side = math.isqrt(len(value) // channels)
        value = value.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
        value = value.reshape(len(value), -1)
    elif value.ndim == 2:
        value = value.T
    return np.array(value, order="C")


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path} is PyTorch's own format, which needs PyTorch (the README says how "
            "to get a CPU build); state dicts in .safetensors are read without it"
        ) from error
    return torch
