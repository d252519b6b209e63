"""Checks the names and shapes of weights against the network of their settings.

All readers of weight files use this check. A file with missing, unexpected or
wrongly shaped tensors is refused, and the error lists all of them.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from srgan_jax.models import registry


class WeightsError(ValueError):
    """Weights are missing, unreadable or fail validation."""


class Weights(NamedTuple):
    """The contents of a weight file.

    Attributes:
      kind: 'generator', 'discriminator' or 'vgg19'.
      settings: the network's settings, see `models.registry`; for VGG19 only its
        `preprocessing`.
      variables: `{'params': ..., 'batch_stats': ...}` of float32 arrays.
    """

    kind: str
    settings: dict[str, Any]
    variables: dict[str, Any]


def expected(
    kind: str, settings: Mapping[str, Any], crop: int = 96
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's variables.

    Args:
      kind: 'generator', 'discriminator' or 'vgg19'.
      settings: the network's settings, see `models.registry`.
      crop: side of the images that a discriminator's dense head takes, in pixels.

    Raises:
      WeightsError: a setting is unknown or has an invalid value.
    """

    def init() -> Any:  # creates the key while tracing, so that no device is started
        module = registry.create(kind, settings)
        return module.init(jax.random.key(0), jnp.zeros((1, crop, crop, 3)))

    try:
        tree = jax.eval_shape(init)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise WeightsError(f"the {kind}'s settings are invalid: {error}") from error
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}


def check(weights: Weights, source: str) -> Weights:
    """Returns the weights if their variables fit the network of their settings.

    Args:
      weights: the weights to check.
      source: where they come from, for the error message.

    Raises:
      WeightsError: a variable is missing, unexpected or has another shape.
    """
    kind, settings, variables = weights
    leaves = flatten_dict(variables, sep="/")
    found = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    crop = 96
    if dense := found.get("params/dense_0/kernel"):
        expected(kind, settings)  # first refuses settings that crop_of cannot use
        crop = crop_of(dense[0], settings)
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
    """The crop size for which a discriminator's first dense layer has `inputs` inputs.

    Returns 96 for a pooled head, which accepts any crop.
    """
    if settings.get("head") == "pooled":
        return 96
    return 16 * max(1, math.isqrt(inputs // (8 * settings.get("channels", 64))))
