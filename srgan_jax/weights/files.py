"""Reads weight files of every layout known here, and converts between them.

`.h5` is Keras's, `.safetensors` ours or a PyTorch state dict, anything else PyTorch's
own format.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax.weights.formats import keras_h5 as keras
from srgan_jax.weights.formats import native
from srgan_jax.weights.formats import pytorch as torch
from srgan_jax.weights.layout import Weights, WeightsError

KERAS = (".h5", ".hdf5")


def read(path: Path, *, ema: bool = False) -> Weights:
    """The network in a file, recognised by what is in it.

    Args:
      path: of the file.
      ema: of a PyTorch checkpoint, take the exponential moving average.

    Raises:
      WeightsError: the file is damaged, or holds nothing that is known here.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        metadata, tensors = native.tensors(path)
        if "srgan_jax" in metadata:
            return native.parse(path, metadata, tensors)
        state = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        return torch.recognise(state, str(path))
    if path.suffix in KERAS:
        return keras.read(path)
    return torch.read(path, ema=ema)


def metadata(path: Path) -> dict[str, Any]:
    """What a file of ours tells beside its settings; nothing of other files."""
    if path.suffix != ".safetensors":
        return {}
    told, _ = native.tensors(path)
    own = ("srgan_jax", "kind", "settings")
    return {k: json.loads(v) for k, v in told.items() if k not in own}


def convert(source: Path, target: Path, *, ema: bool = False) -> Weights:
    """Writes `source` as a file of ours (`.safetensors`) or Lornatang's (`.pth`).

    Returns:
      What was converted.

    Raises:
      WeightsError: `source` cannot be read, or `target` cannot hold it.
    """
    if target.suffix not in (".safetensors", ".pth"):
        raise WeightsError(
            f"{target} names no format: .safetensors is ours, .pth is Lornatang's"
        )
    weights = read(source, ema=ema)
    if target.suffix == ".pth":
        torch.write(target, weights)
    else:
        native.write(target, weights, {"source": source.name})
    return weights
