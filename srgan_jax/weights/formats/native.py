"""The project's own weight files: safetensors that open without this project.

Tensors are float32 and named like `params/conv_in/kernel` (convolutions as height,
width, input, output); the metadata hold the format's version, the kind of network and
its settings as JSON. Another version, or settings that this one does not know, are
refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from srgan_jax import paths
from srgan_jax.models import registry
from srgan_jax.weights import layout
from srgan_jax.weights.layout import Weights, WeightsError

FORMAT_VERSION = "1"


def tensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of any safetensors file.

    Raises:
      WeightsError: the file is none, or is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            return file.metadata() or {}, {k: file.get_tensor(k) for k in names}
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error


def parse(
    path: Path, metadata: Mapping[str, str], leaves: Mapping[str, np.ndarray]
) -> Weights:
    """The network in a file of ours.

    Raises:
      WeightsError: it is of another version, or its settings or tensors are not what
        this version expects.
    """
    version = metadata["srgan_jax"]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is of format version {version}; this version of srgan_jax reads "
            f"version {FORMAT_VERSION}: install a newer one"
        )
    try:
        kind, settings = metadata["kind"], json.loads(metadata["settings"])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"the header of {path} is damaged: {error!r}") from None
    if kind not in registry.NETWORKS:
        raise WeightsError(f"{path} holds a {kind!r}, which this version does not know")
    return layout.check(Weights(kind, settings, layout.unflatten(leaves)), str(path))


def write(path: Path, weights: Weights, metadata: Mapping[str, Any]) -> None:
    """Writes a file atomically; `metadata` (JSON values) is not read again.

    Raises:
      WeightsError: a setting is unknown or the variables are not those of the settings.
    """
    layout.check(weights, f"what was to be written to {path}")
    leaves = {
        name: np.ascontiguousarray(leaf, np.float32)
        for name, leaf in layout.flatten(weights.variables)
    }
    header = {name: json.dumps(value) for name, value in metadata.items()}
    header |= {
        "srgan_jax": FORMAT_VERSION,
        "kind": weights.kind,
        "settings": json.dumps(dict(weights.settings)),
    }
    with paths.replacing(path) as unfinished:
        # not save_file, which makes a file that nobody else may read
        unfinished.write_bytes(safetensors.numpy.save(leaves, header))
