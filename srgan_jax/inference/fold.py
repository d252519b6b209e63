"""Folds batch normalisation into convolutions, which saves work in inference."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from srgan_jax.models.layers import BatchNorm, Conv

Path = tuple[str, ...]


def fold(network: Any, variables: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Folds each batch normalisation into the convolution that precedes it.

    Args:
      network: a generator, with or without batch normalisation.
      variables: its 'params' and 'batch_stats'.

    Returns:
      The network, with `folded` set if it has batch normalisation, and its variables.
    """
    params = traverse_util.flatten_dict(dict(variables["params"]))
    stats = traverse_util.flatten_dict(dict(variables.get("batch_stats", {})))
    normalised = _normalised_convolutions(network, variables)
    for conv, norm, epsilon in normalised:
        kernel = np.asarray(params[(*conv, "kernel")], np.float64)
        bias = np.asarray(params.get((*conv, "bias"), 0.0), np.float64)
        scale, shift, mean, var = (
            np.asarray(leaves.pop((*norm, name)), np.float64)
            for leaves, name in (
                *((params, "scale"), (params, "bias")),
                *((stats, "mean"), (stats, "var")),
            )
        )
        gain = scale / np.sqrt(var + epsilon)
        params[(*conv, "kernel")] = np.float32(kernel * gain)
        params[(*conv, "bias")] = np.float32((bias - mean) * gain + shift)
    if normalised:
        network = network.clone(folded=True)
    return network, {"params": traverse_util.unflatten_dict(params)}


def _normalised_convolutions(
    network: nn.Module, variables: Mapping[str, Any]
) -> list[tuple[Path, Path, float]]:
    """Pairs each BatchNorm with the convolution that precedes it.

    The order comes from a call of the network, which is traced but not computed.

    Returns:
      The convolution's path, the BatchNorm's path and its epsilon for each pair.
    """
    found: list[tuple[Path, Path, float]] = []
    convolution: Path = ()

    def record(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        nonlocal convolution
        result = call(*arguments, **keywords)
        if isinstance(context.module, Conv):
            convolution = context.module.path
        elif isinstance(context.module, BatchNorm):
            module = context.module
            found.append((convolution, module.path, module.epsilon))
        return result

    with nn.intercept_methods(record):
        jax.eval_shape(network.apply, variables, jnp.zeros((1, 8, 8, 3)))
    return found
