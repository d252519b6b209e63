"""The training state and the functions that update it."""

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
    """The state of a stage between two steps.

    Attributes:
      step: number of steps since the start of the run, over all stages.
      generator: the generator and its optimiser's moments.
      discriminator: the same for the discriminator; None in a stage without one.
      ema: exponential moving average of the generator's variables, batch statistics
        included. All scores and saved generators use it.
    """

    step: jax.Array
    generator: Network
    discriminator: Network | None
    ema: Variables


def create_network(
    variables: Variables, optimizer: optax.GradientTransformation
) -> Network:
    """Returns a network at the start of a stage, with zero moments."""
    params = variables["params"]
    return Network(params, variables.get("batch_stats", {}), optimizer.init(params))


def warmed_up_decay(decay: float, step: jax.Array) -> jax.Array:
    """The decay of the moving average: min(decay, (1 + t) / (10 + t)) at step t.

    A constant decay would keep the stage's first weights and batch statistics in the
    average for about 1 / (1 - decay) steps, longer than a short stage lasts. With the
    warm-up, the average covers about the last ninth of the steps until `decay` is
    reached.

    Args:
      decay: the decay after the warm-up.
      step: number of steps since the start of the stage.
    """
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))


def update_running_stats(before: Any, passes: list[Any], momentum: float) -> Any:
    """Updates running statistics with several batches, one after the other.

    Each batch changes them to momentum * statistics + (1 - momentum) * batch.

    Args:
      before: running statistics before the first batch.
      passes: for each batch, `before` updated with this batch alone.
      momentum: momentum of the batch normalisation.
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
    """Returns the network after one optimiser step, with new batch statistics."""
    updates, opt_state = optimizer.update(gradient, network.opt_state, network.params)
    params = optax.apply_updates(network.params, updates)
    return Network(params, stats, opt_state)
