"""Reads Keras's HDF5 files: VGG19, and krasserm/super-resolution's two networks.

Needs neither Keras nor TensorFlow. Layers are taken in the order of the file's
`layer_names` attribute (its keys sort conv2d_1, conv2d_10, ...). A file that is not
HDF5, or whose layers are others, is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from srgan_jax.models import vgg
from srgan_jax.weights import catalog, layout
from srgan_jax.weights.layout import WeightsError

Layer = list[np.ndarray]


def read_vgg19(path: Path) -> dict[str, Any]:
    """Parameters of `models.vgg.VGG19`, for its 'caffe' preprocessing."""
    convolutions = iter(_read(path)["convolution"])
    params = {
        f"conv{stage}_{j}": _dense(layer)
        for stage, (_, count) in enumerate(vgg.STAGES, start=1)
        for j, layer in zip(range(1, count + 1), convolutions, strict=False)
    }
    layout.check("vgg19", {}, {"params": params}, str(path))
    return params


def read_generator(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and variables of krasserm's SRResNet, of any size."""
    layers = _read(path)
    convolutions, norms = layers["convolution"], layers["batch norm"]
    blocks = (len(norms) - 1) // 2
    ups = len(convolutions) - 2 * blocks - 3
    if blocks < 1 or ups < 1:
        raise WeightsError(
            f"{path} is not krasserm's generator: it has {len(convolutions)} "
            f"convolutions and {len(norms)} batch normalisations"
        )
    settings = {
        **catalog.PRESETS["krasserm"]["generator"],
        "scale": 2**ups,
        "blocks": blocks,
        "channels": convolutions[0][0].shape[-1],
    }
    residual = [f"block_{i}/" for i in range(blocks)]
    up = range(ups)
    names = {
        "convolution": [
            "conv_in",
            *(block + conv for block in residual for conv in ("conv1", "conv2")),
            "conv_mid",
            *(f"up_{i}" for i in up),
            "conv_out",
        ],
        "batch norm": [
            *(block + norm for block in residual for norm in ("bn1", "bn2")),
            "bn_mid",
        ],
        "prelu": [
            "prelu_in",
            *(block + "prelu" for block in residual),
            *(f"prelu_up_{i}" for i in up),
        ],
    }
    variables = _named(layers, names, path)
    for i in up:
        conv = variables["params"][f"up_{i}"]
        variables["params"][f"up_{i}"] = {
            name: _from_depth_to_space(array) for name, array in conv.items()
        }
    layout.check("generator", settings, variables, str(path))
    return settings, variables


def read_discriminator(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and variables of krasserm's discriminator."""
    layers = _read(path)
    names = {
        "convolution": [f"conv_{i}" for i in range(8)],
        "batch norm": [f"bn_{i}" for i in range(1, 8)],
        "dense": ["dense_0", "dense_1"],
    }
    variables = _named(layers, names, path)
    settings = {
        **catalog.PRESETS["krasserm"]["discriminator"],
        "channels": layers["convolution"][0][0].shape[-1],
        "hidden": layers["dense"][0][0].shape[-1],
    }
    layout.check("discriminator", settings, variables, str(path))
    return settings, variables


def _read(path: Path) -> dict[str, list[Layer]]:
    """The file's layers in order, by type, each with its arrays in Keras's order."""
    layers: dict[str, list[Layer]] = {name: [] for name in (*READERS, "other")}
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            for name in root.attrs["layer_names"]:
                group = root[name]
                arrays = [np.asarray(group[w]) for w in group.attrs["weight_names"]]
                if arrays:
                    layers[_type(arrays)].append(arrays)
    except (OSError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a Keras weight file (HDF5 with layer_names): {error}"
        ) from error
    return layers


def _type(arrays: Layer) -> str:
    match [array.ndim for array in arrays]:
        case [4, 1]:
            return "convolution"
        case [1, 1, 1, 1]:
            return "batch norm"
        case [3]:
            return "prelu"
        case [2, 1]:
            return "dense"
    return "other"


def _named(
    layers: dict[str, list[Layer]], names: dict[str, list[str]], path: Path
) -> dict[str, Any]:
    """Variables by our names, layer by layer."""
    leaves = {}
    for layer_type, found in layers.items():
        wanted = names.get(layer_type, [])
        if len(found) != len(wanted):
            raise WeightsError(
                f"{path} has {len(found)} layers of type {layer_type}; "
                f"expected {len(wanted)}"
            )
        for name, arrays in zip(wanted, found, strict=True):
            for leaf, array in READERS[layer_type](arrays).items():
                collection = "batch_stats" if leaf in ("mean", "var") else "params"
                leaves[f"{collection}/{name}/{leaf}"] = array
    return layout.unflatten(leaves)


def _dense(arrays: Layer) -> dict[str, np.ndarray]:
    return dict(zip(("kernel", "bias"), arrays, strict=True))


def _batch_norm(arrays: Layer) -> dict[str, np.ndarray]:
    return dict(zip(("scale", "bias", "mean", "var"), arrays, strict=True))


def _prelu(arrays: Layer) -> dict[str, np.ndarray]:
    return {"slope": arrays[0].reshape(-1)}


def _from_depth_to_space(array: np.ndarray, factor: int = 2) -> np.ndarray:
    """Output channels from TensorFlow's order (i, j, c) to PixelShuffle's (c, i, j)."""
    grouped = array.reshape(*array.shape[:-1], factor**2, -1)
    return np.ascontiguousarray(np.swapaxes(grouped, -1, -2)).reshape(array.shape)


READERS: dict[str, Callable[[Layer], dict[str, np.ndarray]]] = {
    "convolution": _dense,
    "batch norm": _batch_norm,
    "prelu": _prelu,
    "dense": _dense,
}
