"""Reads and writes this project's weight files, which are ordinary safetensors files.

Tensors are float32 or float16 and have names such as `params/conv_in/kernel`; kernels
of convolutions are (height, width, input, output). The metadata holds the format's
version, the kind of network and its settings as JSON. Files of another version or with
unknown settings are refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from srgan_jax import paths
from srgan_jax.models import registry
from srgan_jax.paths import AnyPath
from srgan_jax.weights import layout
from srgan_jax.weights.formats import signature
from srgan_jax.weights.layout import Weights, WeightsError

FORMAT_VERSION = "1"
StorageDtype = Literal["float32", "float16"]


def tensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Reads the metadata and tensors of any safetensors file.

    Raises:
      WeightsError: the file is damaged or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            return file.metadata() or {}, {k: file.get_tensor(k) for k in names}
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a safetensors file: it is {signature.describe(path)}; "
            "download or write it again"
        ) from error


def parse(
    path: Path, metadata: Mapping[str, str], leaves: Mapping[str, np.ndarray]
) -> Weights:
    """Interprets the metadata and tensors of a file of this project, as float32.

    Raises:
      WeightsError: this version of srgan_jax cannot read the format version, the
        settings or the tensors.
    """
    version = metadata["srgan_jax"]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is of format version {version}; this version of srgan_jax reads "
            f"version {FORMAT_VERSION}: install a newer one"
        )
    try:
        kind, settings = metadata["kind"], json.loads(metadata["settings"])
        if not isinstance(settings, dict):
            raise ValueError(f"settings are {settings!r}; expected an object")
    except (KeyError, ValueError) as error:
        raise WeightsError(f"the header of {path} is damaged: {error!r}") from None
    if kind not in registry.NETWORKS:
        raise WeightsError(
            f"{path} holds a {kind!r}; expected one of {', '.join(registry.NETWORKS)}"
        )
    for name, leaf in leaves.items():
        if leaf.dtype not in (np.float32, np.float16):
            raise WeightsError(
                f"{path}: {name} is {leaf.dtype}; expected float32 or float16"
            )
    variables = unflatten_dict(
        {name: leaf.astype(np.float32) for name, leaf in leaves.items()}, sep="/"
    )
    return layout.check(Weights(kind, settings, variables), str(path))


def write(
    path: AnyPath,
    weights: Weights,
    metadata: Mapping[str, Any],
    dtype: StorageDtype = "float32",
) -> None:
    """Writes a file atomically.

    Args:
      path: the file to write.
      weights: the weights to store.
      metadata: JSON values that describe the file; `parse` ignores them.
      dtype: dtype of the stored tensors. 'float16' halves the size of the file and
        rounds every value to 11 significant bits.

    Raises:
      WeightsError: a setting is unknown, the variables do not fit the settings, or a
        value is too large for `dtype`.
    """
    layout.check(weights, f"the network for {path}")
    leaves = {}
    for name, leaf in flatten_dict(weights.variables, sep="/").items():
        with np.errstate(over="ignore"):  # reported below
            leaves[name] = np.ascontiguousarray(leaf, dtype)
        if not np.array_equal(np.isfinite(leaves[name]), np.isfinite(leaf)):
            raise WeightsError(f"{path}: {name} is too large for {dtype}; use float32")
    header = {name: json.dumps(value) for name, value in metadata.items()}
    header |= {
        "srgan_jax": FORMAT_VERSION,
        "kind": weights.kind,
        "settings": json.dumps(dict(weights.settings)),
    }
    with paths.replacing(path) as unfinished:
        # safetensors.numpy.save_file would create a file that only its owner can read
        unfinished.write_bytes(safetensors.numpy.save(leaves, header))
