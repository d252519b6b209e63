"""Maps per-device training steps over all devices of all hosts.

A step `(state, constants, batch) -> (state, metrics)` averages over the axis
`steps.AXIS`. `state` and `constants` are replicated, and the batch is split over the
devices. Two transforms give bit-identical results: `shard_map`, the default, and
`pmap`, which spends more time on the host in each step.
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
    """Creates a mesh with one axis over all devices of all hosts."""
    axis_type = jax.sharding.AxisType.Auto
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(axis_type,))


def check(batch_size: int, transform: str, accumulate: int = 1) -> None:
    """Raises a ValueError if the batch cannot be split over the devices of this run.

    Args:
      batch_size: global batch size, over all devices.
      transform: 'shard_map' or 'pmap'.
      accumulate: number of micro-batches on each device.
    """
    if transform == "pmap" and jax.process_count() > 1:
        raise ValueError(
            "parallel.transform 'pmap' supports one process only, since several "
            "processes cannot save the state that it returns; use 'shard_map'"
        )
    if batch_size % jax.device_count():
        raise ValueError(
            f"batch_size {batch_size} is the global batch size and not divisible by "
            f"the {jax.device_count()} devices; choose a multiple of their number"
        )
    if batch_size // jax.device_count() % accumulate:
        raise ValueError(
            f"accumulate {accumulate} does not divide the "
            f"{batch_size // jax.device_count()} examples of each device; "
            "choose a divisor"
        )


def map_step(step: Step, mesh: Mesh, transform: str = "shard_map") -> Any:
    """Maps a per-device step over the mesh; the result can be lowered or called.

    With `shard_map` the state is donated; with `pmap` it is not.
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
      batch_size: global batch size, over all devices.
      sizes: maps 'lr' and 'hr' to the side of the crops in pixels.
      mesh: mesh over all devices.
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
    """Sends this process's shares of the batches to its devices, one batch ahead."""
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
