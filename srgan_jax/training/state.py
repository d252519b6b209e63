"""What training carries from step to step: plain records of arrays."""

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

    `step` counts from the start of the run, through all stages. `ema` holds the
    generator's exponential moving average, batch statistics included: every score and
    every saved generator is of these weights. `discriminator` is None in a stage
    without one.
    """

    step: jax.Array
    generator: Network
    discriminator: Network | None
    ema: Variables


def create_network(
    variables: Variables, optimizer: optax.GradientTransformation
) -> Network:
    """A network at the start of a stage, its optimiser's moments at zero."""
    params = variables["params"]
    return Network(params, variables["batch_stats"], optimizer.init(params))


def warmed_up_decay(decay: float, step: jax.Array) -> jax.Array:
    """min(decay, (1 + t) / (10 + t)) after `step` = t steps of the stage.

    An average that begins at the stage's first weights would keep them, and their batch
    statistics, for about 1 / (1 - decay) steps: longer than a short stage lasts. With
    the warm-up it covers about the last ninth of the steps until `decay` is reached.
    """
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))


def move_average(
    average: Variables, current: Variables, decay: float | jax.Array
) -> Variables:
    """The exponential moving average after `current`: it moves by 1 - decay."""
    return jax.tree.map(lambda a, c: a + (1.0 - decay) * (c - a), average, current)


def seen_in_turn(before: Any, passes: list[Any], momentum: float) -> Any:
    """Running statistics after several batches, from those after each one alone.

    momentum * statistics + (1 - momentum) * batch, for each batch in turn, where a
    single pass from `before` tells (1 - momentum) * batch.
    """
    stats = before
    for after in passes:
        stats = jax.tree.map(
            lambda s, b, a: momentum * s + (a - momentum * b), stats, before, after
        )
    return stats


def update(
    optimizer: optax.GradientTransformation, network: Network, gradient: Any, stats: Any
) -> Network:
    """One step of the optimiser."""
    updates, opt_state = optimizer.update(gradient, network.opt_state, network.params)
    params = optax.apply_updates(network.params, updates)
    return Network(params, stats, opt_state)
