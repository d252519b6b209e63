"""Converts PyTorch state dicts of SRGAN implementations and of torchvision's VGG19.

State dicts are dicts of arrays here. The implementation (Lornatang, sgrvinod,
leftthomas, torchvision) is recognised by the keys, the network's size by the shapes.
"""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from srgan_jax.models import registry
from srgan_jax.weights import layout
from srgan_jax.weights.formats import pytorch_layouts
from srgan_jax.weights.formats.pytorch_layouts import Layers
from srgan_jax.weights.implementations import IMPLEMENTATIONS
from srgan_jax.weights.layout import Weights, WeightsError

State = Mapping[str, np.ndarray]

# Prefixes that PyTorch's wrapper modules add to names.
PREFIXES = re.compile(r"^((module|_orig_mod|net)\.)+")
# Names of conv1, conv2 and conv3 in Lornatang's files of 2022.
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
# Settings that must equal Lornatang's for weights to be written in Lornatang's layout.
MEANINGS = {
    "generator": ("conv_bias", "prelu", "input_range", "bn_epsilon"),
    "discriminator": ("conv_bias", "head", "padding", "input_range", "bn_epsilon"),
}


def recognise(state: State, source: str) -> Weights:
    """Converts a state dict to the network that it holds.

    Args:
      state: arrays by PyTorch's names.
      source: where the state dict comes from, for error messages.

    Raises:
      WeightsError: the layout is unknown or not supported, or tensors are missing,
        unexpected or of another shape.
    """
    state = {
        FORMER_NAMES.sub(r"conv\1.", PREFIXES.sub("", name)): np.asarray(value)
        for name, value in state.items()
        if not IGNORED.search(name)
    }
    for project, key in pytorch_layouts.GENERATOR_KEYS.items():
        if key in state:
            return _generator(project, state, source)
    for project, key in pytorch_layouts.DISCRIMINATOR_KEYS.items():
        if key in state:
            return _discriminator(project, state, source)
    if "features.34.weight" in state:
        features = {k: v for k, v in state.items() if k.startswith("features.")}
        settings = {"preprocessing": "torchvision"}
        return _take("vgg19", settings, pytorch_layouts.vgg19(), features, source)
    for pattern, network in pytorch_layouts.UNSUPPORTED.items():
        if any(re.search(pattern, name) for name in state):
            raise WeightsError(f"{source} holds {network}")
    names = ", ".join(itertools.islice(state, 5)) or "none"
    raise WeightsError(
        f"{source} has an unknown layout; expected a generator of "
        f"{', '.join(pytorch_layouts.GENERATORS)}, a discriminator of "
        f"{', '.join(pytorch_layouts.DISCRIMINATORS)}, or torchvision's VGG19 "
        f"(docs/porting.md describes them); its first tensors are {names}"
    )


def state_dict(weights: Weights) -> dict[str, np.ndarray]:
    """Converts a generator or discriminator to Lornatang's state dict (names of 2023).

    Lornatang's generator gives SR in [0, 1]. For a generator that gives SR in [-1, 1],
    the last convolution is rescaled.

    Raises:
      WeightsError: Lornatang's network cannot express these weights.
    """
    kind, settings, variables = weights
    if kind == "vgg19":
        raise WeightsError(
            "VGG19 is not written in PyTorch's format; use torchvision's own weights"
        )
    network = registry.create(kind, settings)
    theirs = IMPLEMENTATIONS["lornatang"][kind]
    other = [n for n in MEANINGS[kind] if getattr(network, n) != theirs[n]]
    if getattr(network, "output", None) == "tanh":
        other.append("output")
    if other:
        listed = [f"{n}={getattr(network, n)!r} ({theirs[n]!r})" for n in other]
        raise WeightsError(
            f"Lornatang's {kind} cannot hold these weights; their settings differ from "
            f"Lornatang's (in brackets): {', '.join(listed)}; write .safetensors "
            "instead"
        )
    leaves: dict[str, np.ndarray] = {
        name: np.asarray(leaf, np.float32)
        for name, leaf in flatten_dict(variables, sep="/").items()
    }
    if kind == "discriminator":
        layers = pytorch_layouts.DISCRIMINATORS["lornatang"]
    else:
        ups = network.scale.bit_length() - 1
        layers = pytorch_layouts.generator("lornatang", network.blocks, ups)
        if network.output_range == "symmetric":
            leaves["params/conv_out/kernel"] = leaves["params/conv_out/kernel"] / 2
            leaves["params/conv_out/bias"] = leaves["params/conv_out/bias"] / 2 + 0.5
    channels = 8 * network.channels
    return {_theirs(k, layers): _to_torch(k, v, channels) for k, v in leaves.items()}


def _generator(project: str, state: State, source: str) -> Weights:
    blocks, ups = (_count(state, p) for p in pytorch_layouts.REPEATED[project])
    layers = pytorch_layouts.generator(project, blocks, ups)
    if project == "leftthomas" and f"{layers['bn_mid']}.running_mean" not in state:
        raise WeightsError(
            f"{source} holds a generator of leftthomas/SRGAN as published in 2018, "
            "where block7 has a PReLU instead of batch normalisation, which is not "
            "supported; use weights trained with the project's current code"
        )
    channels = _channels(state, pytorch_layouts.GENERATOR_KEYS[project], source)
    size = {"scale": 2**ups, "blocks": blocks, "channels": channels}
    settings = IMPLEMENTATIONS[project]["generator"] | size
    return _take("generator", settings, layers, state, source)


def _discriminator(project: str, state: State, source: str) -> Weights:
    layers = pytorch_layouts.DISCRIMINATORS[project]
    size = {
        "channels": _channels(
            state, pytorch_layouts.DISCRIMINATOR_KEYS[project], source
        ),
        "hidden": np.size(state.get(layers["dense_0"] + ".bias", ())),
    }
    settings = IMPLEMENTATIONS[project]["discriminator"] | size
    return _take("discriminator", settings, layers, state, source)


def _take(
    kind: str, settings: dict[str, Any], layers: Layers, state: State, source: str
) -> Weights:
    dense = state.get(layers.get("dense_0", "") + ".weight", np.zeros(()))
    crop = layout.crop_of(dense.shape[1], settings) if dense.ndim == 2 else 96
    wanted = layout.expected(kind, settings, crop)
    layout.compare(
        {name: value.shape for name, value in state.items()},
        {_theirs(k, layers): _torch_shape(shape) for k, shape in wanted.items()},
        f"{source} does not fit the {kind}",
    )
    channels = 8 * settings.get("channels", 0)
    leaves = {k: _from_torch(k, state[_theirs(k, layers)], channels) for k in wanted}
    return Weights(kind, settings, unflatten_dict(leaves, sep="/"))


def _channels(state: State, key: str, source: str) -> int:
    """The number of feature maps, which is the length of the vector `key`."""
    if not state[key].size:
        raise WeightsError(f"{source} is damaged, {key} is empty; get the file again")
    return state[key].size


def _count(state: State, pattern: str) -> int:
    """The number of different modules whose names match `pattern` at their start."""
    return len({m[1] for name in state if (m := re.match(pattern, name))})


def _theirs(leaf: str, layers: Layers) -> str:
    """The state dict's name of our leaf, such as `params/block_0/conv1/kernel`."""
    _, *layer, name = leaf.split("/")
    return f"{layers['/'.join(layer)]}.{LEAVES[name]}"


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's kernels are (out, in, height, width), dense ones (out, in)."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _from_torch(leaf: str, value: np.ndarray, channels: int) -> np.ndarray:
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    elif "dense_0" in leaf and value.ndim == 2:  # PyTorch flattens inputs as c, h, w
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
