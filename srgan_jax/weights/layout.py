"""What a network expects of a weight file: the names and shapes of its variables.

Every reader ends here: a file that lacks a tensor, has one too many, or has one of
another shape is refused with all of them listed.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19

NETWORKS: dict[str, type[nn.Module]] = {
    "generator": Generator,
    "discriminator": Discriminator,
    "vgg19": VGG19,
}
# Attributes that belong to a use of the weights, not to the weights.
EXECUTION = ("dtype", "axis_name", "layer", "parent", "name")


class WeightsError(ValueError):
    """Weights that cannot be had, read or believed; the message says what to do."""


class Weights(NamedTuple):
    """What a weight file holds.

    Attributes:
      kind: 'generator', 'discriminator' or 'vgg19'.
      settings: Linen attributes of the network; of VGG19 its `preprocessing`.
      variables: `{'params': ..., 'batch_stats': ...}` of float32 arrays.
    """

    kind: str
    settings: dict[str, Any]
    variables: dict[str, Any]


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
    """The network of these settings.

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


def expected(
    kind: str, settings: Mapping[str, Any], crop: int = 96
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's leaves.

    Args:
      kind: of network.
      settings: its Linen attributes.
      crop: side of the images for which a discriminator's dense head is made.

    Raises:
      WeightsError: a setting is unknown or has an impossible value.
    """
    module = network(kind, settings)

    def init() -> Any:  # with the key inside, since a key of its own starts a device
        return module.init(jax.random.key(0), jnp.zeros((1, crop, crop, 3)))

    try:
        tree = jax.eval_shape(init)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise WeightsError(f"the {kind}'s settings are impossible: {error}") from error
    return {name: leaf.shape for name, leaf in flatten(tree)}


def check(weights: Weights, source: str) -> Weights:
    """Compares variables with what the network of their settings holds.

    Args:
      weights: to be returned.
      source: where they come from, for the message.

    Raises:
      WeightsError: something is missing, left over or of another shape.
    """
    kind, settings, variables = weights
    found = {name: tuple(leaf.shape) for name, leaf in flatten(variables)}
    flat = found.get("params/dense_0/kernel")
    crop = crop_of(flat[0], settings) if flat else 96
    compare(found, expected(kind, settings, crop), f"{source} does not fit the {kind}")
    return weights


def compare(
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    failure: str,
) -> None:
    """Raises a WeightsError that lists all differences in names and shapes."""
    both = wanted.keys() & found.keys()
    faults = {
        "missing": [f"{k} {list(wanted[k])}" for k in wanted if k not in found],
        "left over": [f"{k} {list(found[k])}" for k in found if k not in wanted],
        "of another shape": [
            f"{k} {list(found[k])}, expected {list(wanted[k])}"
            for k in sorted(both)
            if wanted[k] != found[k]
        ],
    }
    listed = [
        f"{fault}: {'; '.join(names)}" for fault, names in faults.items() if names
    ]
    if listed:
        raise WeightsError(f"{failure}. {'. '.join(listed)}")


def crop_of(inputs: int, settings: Mapping[str, Any]) -> int:
    """The crop for which a discriminator's first dense layer of so many inputs is made.

    A pooled head takes any.
    """
    if settings.get("head") == "pooled":
        return 96
    return 16 * max(1, math.isqrt(inputs // (8 * settings.get("channels", 64))))
