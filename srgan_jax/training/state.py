"""What training carries from step to step: records of arrays."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

Variables = Mapping[str, Any]  # {"params": ..., "batch_stats": ...}


@flax.struct.dataclass
class Network:
    """A network under training: its variables and its optimiser's moments."""

    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> Variables:
        return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class TrainState:
    """The whole state of one stage.

    Attributes:
      step: counts from the start of the run, through all stages.
      generator: under training.
      discriminator: under training, or None in a stage without one.
      ema: exponential moving average of the generator, batch statistics included. Every
        score and every saved generator is of these weights.
    """

    step: jax.Array
    generator: Network
    discriminator: Network | None
    ema: Variables


def create_network(
    variables: Variables, optimizer: optax.GradientTransformation
) -> Network:
    """A network at the start of a stage: its optimiser's moments are zero."""
    params = variables["params"]
    return Network(params, variables.get("batch_stats", {}), optimizer.init(params))


def warmed_up_decay(decay: float, step: jax.Array) -> jax.Array:
    """min(decay, (1 + t) / (10 + t)) after `step` = t steps of the stage.

    Without a warm-up the average would keep the stage's first weights, and their batch
    statistics, for about 1 / (1 - decay) steps, which is longer than a short stage
    lasts. With it, the average covers about the last ninth of the steps until `decay`
    is reached.
    """
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))


def update_running_stats(before: Any, passes: list[Any], momentum: float) -> Any:
    """Running statistics after several batches, one after the other.

    Each batch moves them to momentum * statistics + (1 - momentum) * batch.

    Args:
      before: running statistics before the first batch.
      passes: for each batch, the running statistics after it alone, from `before`.
      momentum: of the batch normalisation.
    """
    stats = before
    for after in passes:
        stats = jax.tree.map(
            lambda s, b, a: momentum * s + (a - momentum * b), stats, before, after
        )
    return stats


def apply_gradient(
    optimizer: optax.GradientTransformation, network: Network, gradient: Any, stats: Any
) -> Network:
    """The network after one step of the optimiser, with new batch statistics."""
    updates, opt_state = optimizer.update(gradient, network.opt_state, network.params)
    params = optax.apply_updates(network.params, updates)
    return Network(params, stats, opt_state)
