"""Reads Keras's HDF5 files: VGG19, and krasserm/super-resolution's two networks.

Neither Keras nor TensorFlow is needed. Layers are read in the order of the file's
attribute `layer_names`; the order of its keys is alphabetical (conv2d_10 before
conv2d_2).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax.models import vgg
from srgan_jax.weights import layout
from srgan_jax.weights.formats import signature
from srgan_jax.weights.implementations import IMPLEMENTATIONS
from srgan_jax.weights.layout import Weights, WeightsError

Layer = list[np.ndarray]
Layers = dict[str, list[Layer]]


def read(path: Path) -> Weights:
    """Reads the network in a file, which is recognised by its types of layers.

    A file with PReLU is read as krasserm's generator, a file with dense layers as
    krasserm's discriminator, and any other file as VGG19.

    Raises:
      WeightsError: the file is damaged or holds another network.
    """
    layers = _read(path)
    if layers["prelu"]:
        weights = _generator(layers, path)
    elif layers["dense"]:
        weights = _discriminator(layers, path)
    else:
        weights = _vgg19(layers, path)
    return layout.check(weights, str(path))


def _generator(layers: Layers, path: Path) -> Weights:
    blocks = (len(layers["batch norm"]) - 1) // 2
    ups = len(layers["convolution"]) - 2 * blocks - 3
    residual = [f"block_{i}/" for i in range(blocks)]
    names = {
        "convolution": [
            "conv_in",
            *(block + conv for block in residual for conv in ("conv1", "conv2")),
            "conv_mid",
            *(f"up_{i}" for i in range(ups)),
            "conv_out",
        ],
        "batch norm": [
            *(block + norm for block in residual for norm in ("bn1", "bn2")),
            "bn_mid",
        ],
        "prelu": [
            "prelu_in",
            *(block + "prelu" for block in residual),
            *(f"prelu_up_{i}" for i in range(ups)),
        ],
    }
    variables = _named(layers, names, path)
    params = variables["params"]
    for i in range(ups):
        up = params[f"up_{i}"]
        params[f"up_{i}"] = {leaf: _from_depth_to_space(a) for leaf, a in up.items()}
    size = {"scale": 2**ups, "blocks": blocks}
    size["channels"] = params["conv_in"]["kernel"].shape[-1]
    settings = IMPLEMENTATIONS["krasserm"]["generator"] | size
    return Weights("generator", settings, variables)


def _discriminator(layers: Layers, path: Path) -> Weights:
    names = {
        "convolution": [f"conv_{i}" for i in range(8)],
        "batch norm": [f"bn_{i}" for i in range(1, 8)],
        "dense": ["dense_0", "dense_1"],
    }
    variables = _named(layers, names, path)
    size = {
        "channels": layers["convolution"][0][0].shape[-1],
        "hidden": layers["dense"][0][0].shape[-1],
    }
    settings = IMPLEMENTATIONS["krasserm"]["discriminator"] | size
    return Weights("discriminator", settings, variables)


def _vgg19(layers: Layers, path: Path) -> Weights:
    stages = enumerate(vgg.STAGES, start=1)
    names = [f"conv{i}_{j + 1}" for i, (_, count) in stages for j in range(count)]
    variables = _named(layers, {"convolution": names}, path)
    return Weights("vgg19", {"preprocessing": "caffe"}, variables)


def _read(path: Path) -> Layers:
    """Reads the layers by type, in the file's order, with arrays in Keras's order."""
    layers: Layers = {name: [] for name in (*READERS, "other")}
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            for name in root.attrs["layer_names"]:
                group = root[name]
                arrays = [np.asarray(group[w]) for w in group.attrs["weight_names"]]
                if arrays:
                    layers[_type(arrays)].append(arrays)
    except Exception as error:  # h5py raises exceptions of any type for damaged files
        raise WeightsError(
            f"{path} is not a Keras weight file (HDF5 with the attribute layer_names): "
            f"it is {signature.describe(path)}"
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


def _named(layers: Layers, names: dict[str, list[str]], path: Path) -> dict[str, Any]:
    """Renames the layers' arrays to our variables."""
    leaves = {}
    for layer_type, found in layers.items():
        wanted = names.get(layer_type, [])
        if len(found) != len(wanted):
            raise WeightsError(
                f"{path} holds an unknown network: it has {len(found)} layers of type "
                f"{layer_type}; expected {len(wanted)}"
            )
        for name, arrays in zip(wanted, found, strict=True):
            for leaf, array in READERS[layer_type](arrays).items():
                collection = "batch_stats" if leaf in ("mean", "var") else "params"
                leaves[f"{collection}/{name}/{leaf}"] = array
    return unflatten_dict(leaves, sep="/")


def _dense(arrays: Layer) -> dict[str, np.ndarray]:
    return dict(zip(("kernel", "bias"), arrays, strict=True))


def _batch_norm(arrays: Layer) -> dict[str, np.ndarray]:
    return dict(zip(("scale", "bias", "mean", "var"), arrays, strict=True))


def _prelu(arrays: Layer) -> dict[str, np.ndarray]:
    return {"slope": arrays[0].reshape(-1)}


def _from_depth_to_space(array: np.ndarray, factor: int = 2) -> np.ndarray:
    """Reorders output channels from TensorFlow's (i, j, c) to our (c, i, j)."""
    if array.shape[-1] % factor**2:
        return array  # `layout.check` refuses its shape
    grouped = array.reshape(*array.shape[:-1], factor**2, -1)
    return np.ascontiguousarray(np.swapaxes(grouped, -1, -2)).reshape(array.shape)


READERS: dict[str, Callable[[Layer], dict[str, np.ndarray]]] = {
    "convolution": _dense,
    "batch norm": _batch_norm,
    "prelu": _prelu,
    "dense": _dense,
}
