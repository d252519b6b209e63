"""What a network expects of a weight file: the names and shapes of its variables.

Every reader ends here: a file that lacks a tensor, has one too many, or has one of
another shape is refused with all of them listed.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.models import vgg
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator

NETWORKS: dict[str, type[nn.Module]] = {
    "generator": Generator,
    "discriminator": Discriminator,
}
EXECUTION = ("dtype", "axis_name", "parent", "name")  # attributes, but no settings


class WeightsError(ValueError):
    """Weights that cannot be had, read or believed; the message says what to do."""


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts as (`params/conv_in/kernel`, array)."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts again; the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def network(kind: str, settings: Mapping[str, Any]) -> nn.Module:
    """The generator or discriminator of these settings.

    Raises:
      WeightsError: a setting is unknown.
    """
    module = NETWORKS[kind]
    known = [name for name in module.__dataclass_fields__ if name not in EXECUTION]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise WeightsError(
            f"unknown {kind} settings {', '.join(unknown)}; this version knows "
            f"{', '.join(known)}"
        )
    return module(**settings)


def check(
    kind: str, settings: Mapping[str, Any], variables: Mapping[str, Any], source: str
) -> None:
    """Compares variables with what the network of these settings holds.

    Args:
      kind: 'generator', 'discriminator' or 'vgg19' (which has no settings).
      settings: Linen attributes of the network.
      variables: `{'params': ..., 'batch_stats': ...}` of arrays.
      source: where they come from, for the message.

    Raises:
      WeightsError: something is missing, left over or of another shape.
    """
    found = {name: tuple(leaf.shape) for name, leaf in flatten(variables)}
    module = vgg.VGG19() if kind == "vgg19" else network(kind, settings)
    side = _crop(found, settings) if kind == "discriminator" else 16
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    try:
        tree = jax.eval_shape(module.init, jax.random.key(0), image)
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error
    wanted = {name: leaf.shape for name, leaf in flatten(tree)}
    missing = [f"{name} {list(wanted[name])}" for name in wanted.keys() - found.keys()]
    surplus = [f"{name} {list(found[name])}" for name in found.keys() - wanted.keys()]
    other = [
        f"{name} {list(found[name])}, expected {list(wanted[name])}"
        for name in wanted.keys() & found.keys()
        if wanted[name] != found[name]
    ]
    refuse_mismatch(source, kind, missing, surplus, other)


def refuse_mismatch(
    source: str, kind: str, missing: list[str], surplus: list[str], other: list[str]
) -> None:
    """Raises a WeightsError that lists all differences, if there are any."""
    faults = {"missing": missing, "left over": surplus, "of another shape": other}
    listed = [f"{what}: {'; '.join(sorted(v))}" for what, v in faults.items() if v]
    if listed:
        raise WeightsError(f"{source} does not fit the {kind}. " + ". ".join(listed))


def as_float32(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Contiguous float32 NumPy copies of JAX or NumPy leaves."""
    return unflatten(
        {k: np.ascontiguousarray(v, np.float32) for k, v in flatten(variables)}
    )


def _crop(found: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> int:
    """The crop side that a discriminator's first dense layer was made for."""
    units = found.get("params/dense_0/kernel", (0,))[0]
    cells = units / (8 * settings.get("channels", Discriminator.channels))
    pooled = settings.get("head") == "pooled"
    return 96 if pooled or cells < 1 else 16 * math.isqrt(round(cells))
