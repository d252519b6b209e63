"""The project's own weight files: safetensors that open without this project.

Tensors are float32 and named like `params/conv_in/kernel` (convolutions as height,
width, input, output); the metadata hold the format's version, the kind of network and
its settings as JSON. Another version, or settings that this one does not know, are
refused.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from srgan_jax.weights import layout
from srgan_jax.weights.layout import WeightsError

FORMAT_VERSION = "1"


def read(kind: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and variables of a generator or discriminator (`kind`).

    Raises:
      WeightsError: the file is none of ours, of another version or kind, or its
        settings or tensors are not what this version expects.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    if "srgan_jax" not in metadata:
        raise WeightsError(
            f"{path} was not written by srgan_jax; if it comes from another framework, "
            f"`srgan-jax weights convert {path} OUT.safetensors` may read it"
        )
    if metadata["srgan_jax"] != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is of format version {metadata['srgan_jax']}; this version of "
            f"srgan_jax reads version {FORMAT_VERSION}: install a newer one"
        )
    if metadata["kind"] != kind:
        raise WeightsError(f"{path} holds a {metadata['kind']}, expected a {kind}")
    settings = json.loads(metadata["settings"])
    variables = layout.unflatten(leaves)
    layout.check(kind, settings, variables, str(path))
    return settings, variables


def write(
    kind: str,
    path: Path,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Writes a file atomically; `metadata` (JSON values) is not read again.

    Raises:
      WeightsError: a setting is unknown or the variables are not those of the settings.
    """
    variables = layout.as_float32(variables)
    layout.check(kind, settings, variables, f"what was to be written to {path}")
    header = {name: json.dumps(value) for name, value in metadata.items()}
    header |= {
        "srgan_jax": FORMAT_VERSION,
        "kind": kind,
        "settings": json.dumps(dict(settings)),
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        leaves = dict(layout.flatten(variables))
        safetensors.numpy.save_file(leaves, unfinished, header)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
