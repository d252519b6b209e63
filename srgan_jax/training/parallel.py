"""The seam between per-device steps and devices; nothing else in training knows them.

A step `(state, constants, batch) -> (state, metrics)` names the axis `steps.AXIS` and
runs on all devices of all hosts: `state` and `constants` are replicated, the batch is
divided. Two transforms give the same bits: `shard_map`, the default, and `pmap`, which
spends more time on the host in each step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from srgan_jax.training.steps import AXIS

Step = Callable[[Any, Any, Any], tuple[Any, Any]]
TRANSFORMS = ("shard_map", "pmap")


def create_mesh() -> Mesh:
    """One axis over all devices of all hosts."""
    axis_type = jax.sharding.AxisType.Auto
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(axis_type,))


def check(batch_size: int, transform: str, accumulate: int = 1) -> None:
    """Raises a ValueError if the devices of this run cannot share such a batch.

    Args:
      batch_size: of all devices together.
      transform: see `map_step`.
      accumulate: number of micro-batches on each device.
    """
    if transform == "pmap" and jax.process_count() > 1:
        raise ValueError(
            "parallel.transform 'pmap' supports one process only: several processes "
            "cannot save the state that it returns; use 'shard_map'"
        )
    if batch_size % jax.device_count():
        raise ValueError(
            f"batch_size {batch_size} is the global batch and does not divide over "
            f"{jax.device_count()} devices; choose a multiple of their number"
        )
    if batch_size // jax.device_count() % accumulate:
        raise ValueError(
            f"accumulate {accumulate} does not divide the {batch_size} // "
            f"{jax.device_count()} examples of a device; choose a divisor"
        )


def map_step(step: Step, mesh: Mesh, transform: str = "shard_map") -> Any:
    """Maps a per-device step over the mesh; the result can be lowered or called.

    `shard_map` donates the state; `pmap` cannot.
    """
    if transform == "pmap":
        in_axes = (None, None, 0)
        return jax.pmap(step, axis_name=AXIS, in_axes=in_axes, out_axes=None)
    sharded = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=P(),
        # With check_vma=True a pmean of gradients is n_devices times too large.
        check_vma=False,
    )
    return jax.jit(sharded, donate_argnums=0)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts the same values on every device."""
    sharding = NamedSharding(mesh, P())

    def place(leaf: Any) -> jax.Array:
        # A copy, because a donated state must not share buffers with its source.
        return jax.make_array_from_process_local_data(sharding, np.array(leaf))

    return jax.tree.map(place, tree)


def abstract(tree: Any, mesh: Mesh) -> Any:
    """Shapes, dtypes and replicated shardings of a tree, as a restore needs them."""
    sharding = NamedSharding(mesh, P())

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, tree)


def abstract_batch(batch_size: int, sizes: dict[str, int], mesh: Mesh) -> Any:
    """Shapes, dtypes and shardings of a global batch.

    Args:
      batch_size: of all devices together.
      sizes: side of the crops in pixels by name ('lr', 'hr').
      mesh: of all devices.
    """
    sharding = NamedSharding(mesh, P(AXIS))
    return {
        name: jax.ShapeDtypeStruct(
            (batch_size, size, size, 3), np.uint8, sharding=sharding
        )
        for name, size in sizes.items()
    }


def feed(
    batches: Iterator[dict[str, np.ndarray]], mesh: Mesh, transform: str = "shard_map"
) -> Iterator[dict[str, jax.Array]]:
    """Sends this process's shares of the global batches to its devices, one ahead."""
    sharding = NamedSharding(mesh, P(AXIS))
    local = jax.local_device_count()

    def place(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        if transform == "pmap":
            return {k: v.reshape(local, -1, *v.shape[1:]) for k, v in batch.items()}
        return {
            k: jax.make_array_from_process_local_data(sharding, v)
            for k, v in batch.items()
        }

    ahead = None
    for batch in batches:
        placed = place(batch)
        if ahead is not None:
            yield ahead
        ahead = placed
    if ahead is not None:
        yield ahead
