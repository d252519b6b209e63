"""Reads weight files of all supported formats, and converts between them.

`.h5` files are Keras's, `.safetensors` files are this project's or hold a PyTorch state
dict, and all other files are read as PyTorch's own format.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from srgan_jax import paths
from srgan_jax.paths import AnyPath
from srgan_jax.weights.formats import keras_h5, native, pytorch, pytorch_file, signature
from srgan_jax.weights.layout import Weights, WeightsError

KERAS = (".h5", ".hdf5")


def read(path: AnyPath, *, ema: bool = False) -> Weights:
    """Reads the network in a file, which is recognised by its contents.

    Args:
      path: the weight file.
      ema: take the exponential moving average of a PyTorch checkpoint.

    Raises:
      WeightsError: the file does not exist, is damaged, holds no known network, or
        holds no average although `ema` is set.
    """
    with _local(path) as file:
        weights = _read(file, ema)
    for name, leaf in flatten_dict(weights.variables, sep="/").items():
        if not np.isfinite(leaf).all():
            raise WeightsError(
                f"{path} is damaged, or its training diverged: {name} holds numbers "
                "that are not finite; use an earlier file"
            )
    return weights


@contextlib.contextmanager
def _local(path: AnyPath) -> Iterator[Path]:
    """Yields a local copy of a file; errors name the file itself."""
    if path.is_dir():
        raise WeightsError(
            f"{path} is a folder; expected a weight file such as "
            f"{path / 'generator.safetensors'}"
        )
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    with paths.local_copy(path) as copy:
        try:
            yield copy
        except WeightsError as error:
            if copy == path:
                raise
            text = str(error).replace(str(copy), str(path))
            raise WeightsError(text) from error


def _read(path: Path, ema: bool) -> Weights:
    if path.suffix in signature.PROGRAMS:
        raise WeightsError(
            f"{path} is {signature.PROGRAMS[path.suffix]}, which cannot be read as "
            "weights; give the weight file it was exported from"
        )
    if ema and path.suffix in (".safetensors", *KERAS):
        raise WeightsError(
            f"{path} holds no moving average beside its weights; leave out --ema"
        )
    if path.suffix == ".safetensors":
        metadata, tensors = native.tensors(path)
        if "srgan_jax" in metadata:
            return native.parse(path, metadata, tensors)
        state = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        return pytorch.recognise(state, str(path))
    if path.suffix in KERAS:
        return keras_h5.read(path)
    return pytorch_file.read(path, ema=ema)


def metadata(path: AnyPath) -> dict[str, Any]:
    """The metadata of a file of this project, without its settings.

    Other files give an empty dict.

    Raises:
      WeightsError: the file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    with _local(path) as file:
        header, _ = native.tensors(file)
    if "srgan_jax" not in header:
        return {}
    own = ("srgan_jax", "kind", "settings")
    try:
        return {k: json.loads(v) for k, v in header.items() if k not in own}
    except ValueError as error:
        raise WeightsError(f"the header of {path} is damaged: {error}") from None


def convert(
    source: AnyPath,
    target: AnyPath,
    *,
    ema: bool = False,
    dtype: native.StorageDtype = "float32",
) -> Weights:
    """Converts a weight file to this project's `.safetensors` or Lornatang's `.pth`.

    Args:
      source: file of any supported format.
      target: file to write; its suffix determines the format.
      ema: take the exponential moving average of a PyTorch checkpoint.
      dtype: dtype of the tensors in a `.safetensors` file.

    Returns:
      The converted weights.

    Raises:
      WeightsError: `source` cannot be read, or the format of `target` cannot hold it.
    """
    if target.suffix not in (".safetensors", ".pth"):
        raise WeightsError(
            f"the suffix of {target} names no format; expected .safetensors (this "
            "project's) or .pth (Lornatang's)"
        )
    if target.suffix == ".pth" and dtype != "float32":
        raise WeightsError(
            f"{target}: .pth files hold float32 only; leave out the dtype or write "
            ".safetensors"
        )
    weights = read(source, ema=ema)
    if target.suffix == ".pth":
        pytorch_file.write(target, weights)
    else:
        native.write(target, weights, {"source": source.name}, dtype)
    return weights
