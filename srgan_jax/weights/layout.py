"""What a network expects of a weight file: the names and shapes of its variables.

Every reader of weights ends here. A file that lacks a tensor, has one too many or has
one of another shape is refused, and all such tensors are listed.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from srgan_jax.models import registry


class WeightsError(ValueError):
    """Weights that are missing, unreadable or fail validation.

    The message says what to do.
    """


class Weights(NamedTuple):
    """What a weight file holds.

    Attributes:
      kind: 'generator', 'discriminator' or 'vgg19'.
      settings: of the network, see `models.registry`; of VGG19 its `preprocessing`.
      variables: `{'params': ..., 'batch_stats': ...}` of float32 arrays.
    """

    kind: str
    settings: dict[str, Any]
    variables: dict[str, Any]


def expected(
    kind: str, settings: Mapping[str, Any], crop: int = 96
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's leaves.

    Args:
      kind: of network.
      settings: of the network, see `models.registry`.
      crop: side of the images for which a discriminator's dense head is made.

    Raises:
      WeightsError: a setting is unknown or has an impossible value.
    """

    def init() -> Any:  # makes the key inside, since a key outside starts a device
        module = registry.create(kind, settings)
        return module.init(jax.random.key(0), jnp.zeros((1, crop, crop, 3)))

    try:
        tree = jax.eval_shape(init)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise WeightsError(f"the {kind}'s settings are impossible: {error}") from error
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}


def check(weights: Weights, source: str) -> Weights:
    """Returns weights whose variables are those of the network of their settings.

    Args:
      weights: to check.
      source: where they come from, for the message.

    Raises:
      WeightsError: a variable is missing, left over or of another shape.
    """
    kind, settings, variables = weights
    leaves = flatten_dict(variables, sep="/")
    found = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    crop = 96
    if dense := found.get("params/dense_0/kernel"):
        expected(kind, settings)  # refuses settings that crop_of cannot compute with
        crop = crop_of(dense[0], settings)
    compare(found, expected(kind, settings, crop), f"{source} does not fit the {kind}")
    return weights


def compare(
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    failure: str,
) -> None:
    """Raises a WeightsError that lists all differences between names and shapes."""
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
    """The crop that a discriminator's first dense layer of so many inputs is made for.

    A pooled head takes any crop; 96 stands for it.
    """
    if settings.get("head") == "pooled":
        return 96
    return 16 * max(1, math.isqrt(inputs // (8 * settings.get("channels", 64))))
