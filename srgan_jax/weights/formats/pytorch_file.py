"""Reads and writes PyTorch's own file format, for which PyTorch is imported.

Files are opened with `weights_only`. This refuses pickled modules, because loading one
runs code from the file.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax import paths
from srgan_jax.paths import AnyPath
from srgan_jax.weights.formats import pytorch, signature
from srgan_jax.weights.layout import Weights, WeightsError

# Names of the entry that holds a checkpoint's state dict, the most specific first.
WRAPPERS = (
    "state_dict",
    "params",
    "model_state_dict",
    "model",
    "generator",
    "netG",
)
AVERAGES = ("ema_state_dict", "params_ema")


def read(path: Path, *, ema: bool = False) -> Weights:
    """Reads the network in a `.pth` file: a state dict, or a checkpoint with one.

    Args:
      path: the weight file.
      ema: take the checkpoint's moving average (`ema_state_dict` or `params_ema`). A
        checkpoint that holds only the moving average does not need `ema`.

    Raises:
      WeightsError: PyTorch is not installed, the file holds pickled code or no state
        dict, or `pytorch.recognise` refuses it.
    """
    content, source = _state_dict(_load(path), str(path), ema)
    return pytorch.recognise(_arrays(content, source), source)


def write(path: AnyPath, weights: Weights) -> None:
    """Writes Lornatang's checkpoint `{'state_dict': ...}` atomically.

    Raises:
      WeightsError: PyTorch is not installed, or `pytorch.state_dict` refuses the
        weights.
    """
    torch = _import_torch(path)
    state = {k: torch.from_numpy(v) for k, v in pytorch.state_dict(weights).items()}
    with paths.replacing(path) as unfinished:
        torch.save({"state_dict": state}, unfinished)


def _load(path: Path) -> dict[Any, Any]:
    """Loads the dict in a file of `torch.save`; errors say what another file holds."""
    kind = signature.describe(path)
    if not kind.startswith(("a zip archive", "a pickle", "a tar archive")):
        raise WeightsError(
            f"{path} is not a state dict: it is {kind}; expected a file that "
            "`torch.save` wrote"
        )
    torch = _import_torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's readers raise exceptions of any type
        pickled = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"it holds code of {pickled[1]}" if pickled else f"it is {kind}"
        raise WeightsError(
            f"{path} is not a state dict ({found}); if it is a pickled module, opening "
            "it would run its code: in its own project run "
            "`torch.save(model.state_dict(), 'state_dict.pth')`, then convert that file"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} is not a state dict: it holds a {type(content).__name__}; "
            "expected a dict of tensors"
        )
    return content


def _state_dict(
    content: dict[Any, Any], source: str, ema: bool
) -> tuple[dict[Any, Any], str]:
    """Finds the state dict in a checkpoint; also returns a description of its place."""
    for name in AVERAGES if ema else (*WRAPPERS, *AVERAGES):
        if isinstance(content.get(name), dict):
            return _state_dict(content[name], f"{source}, entry {name!r},", False)
    if ema:
        raise WeightsError(
            f"{source} has neither {' nor '.join(AVERAGES)}; convert it without --ema"
        )
    return content, source


def _arrays(content: dict[Any, Any], source: str) -> dict[str, np.ndarray]:
    """A state dict's tensors as float32 arrays, without its other entries."""
    arrays = {}
    for name, value in content.items():
        if not (isinstance(name, str) and hasattr(value, "detach")):
            continue
        try:
            arrays[name] = value.detach().float().numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise WeightsError(
                f"{source}: {name} is a tensor of layout {value.layout} and type "
                f"{value.dtype}; expected dense floating-point numbers"
            ) from error
    return arrays


def _import_torch(path: AnyPath) -> Any:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path} is in PyTorch's own format, which needs PyTorch (the README says "
            "how to install a CPU build); state dicts in .safetensors do not"
        ) from error
    return torch
