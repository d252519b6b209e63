"""The seam between per-device steps and devices; nothing else in training knows them.

A step `(state, constants, batch) -> (state, metrics)` names the axis `steps.AXIS` and
is run over all devices of all hosts, `state` and `constants` replicated, the batch
divided. Two transforms give the same bits: `shard_map`, the default, and the literal
`pmap`, slower by its host time a step.
"""

import ctypes
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from srgan_jax.choices import one_of
from srgan_jax.training.steps import AXIS
from srgan_jax.weights import store

Step = Callable[[Any, Any, Any], tuple[Any, Any]]
TRANSFORMS = ("shard_map", "pmap")
# By default XLA gives convolutions to YNNPACK, in which the gradient at the kernel is
# slow; the first option leaves it what it is good at.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    ),
    "xla_cpu_prefer_vector_width": 512,  # 256 unless told, even where there is AVX-512
}
# glibc's M_MMAP_MAX: no block outside of the heap; M_TRIM_THRESHOLD: all of it is kept
KEEP_MEMORY = {-4: 0, -1: -1}
# A process that has not been heard of for so long is dead, and JAX ends all others.
HEARTBEAT_TIMEOUT = 60  # seconds


class DistributedError(ValueError):
    """Processes that cannot work together; the message says what each must be told."""


def create_mesh() -> Mesh:
    """One axis over all devices of all hosts."""
    axis_type = jax.sharding.AxisType.Auto
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(axis_type,))


def check(batch_size: int, transform: str) -> None:
    """Raises a ValueError where these devices cannot run such a step."""
    one_of("parallel.transform", transform, TRANSFORMS)
    if transform == "pmap" and jax.process_count() > 1:
        raise ValueError(
            "parallel.transform 'pmap' serves one process: the states it gives cannot "
            "be saved by several; use 'shard_map'"
        )
    if batch_size % jax.device_count():
        raise ValueError(
            f"batch_size {batch_size} is the global batch and does not divide over "
            f"{jax.device_count()} devices; choose a multiple of their number"
        )


def map_step(step: Step, mesh: Mesh, transform: str = "shard_map") -> Any:
    """Maps a per-device step over the mesh, to be lowered or called.

    `shard_map` donates the state, `pmap` cannot.
    """
    if transform == "pmap":
        in_axes = (None, None, 0)
        return jax.pmap(step, axis_name=AXIS, in_axes=in_axes, out_axes=None)
    sharded = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=P(),
        # under check_vma=True a pmean of gradients comes out n_devices times too large
        check_vma=False,
    )
    return jax.jit(sharded, donate_argnums=0)


def compile_step(mapped: Any, *arguments: Any) -> Step:
    """Compiles what `map_step` gave for arguments like these."""
    lowered = mapped.lower(*arguments)
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        print(f"{error}: steps will be slower than they could be", file=sys.stderr)
        return lowered.compile()


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts the same values on every device."""
    sharding = NamedSharding(mesh, P())

    def place(leaf: Any) -> jax.Array:
        # a copy, since a donated state must not share buffers with its source
        return jax.make_array_from_process_local_data(sharding, np.array(leaf))

    return jax.tree.map(place, tree)


def abstract(tree: Any, mesh: Mesh) -> Any:
    """Shapes, dtypes and replicated shardings of a tree: what a restore is told."""
    sharding = NamedSharding(mesh, P())

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, tree)


def abstract_batch(batch_size: int, sizes: dict[str, int], mesh: Mesh) -> Any:
    """Shapes, dtypes and shardings of a global batch: `sizes` are of its crops."""
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


def initialize_distributed() -> None:
    """Joins the other processes; call before anything else uses JAX.

    On a TPU pod, under Slurm and under Open MPI their address, number and index are
    known; elsewhere they come from COORDINATOR_ADDRESS, PROCESS_COUNT and
    PROCESS_INDEX.

    Raises:
      DistributedError: they are neither known nor given.
    """
    address = os.environ.get("COORDINATOR_ADDRESS")
    given: dict[str, Any] = {}
    try:
        if address is not None:
            count, index = (
                int(os.environ[name]) for name in ("PROCESS_COUNT", "PROCESS_INDEX")
            )
            given = {"num_processes": count, "process_id": index}
            # JAX ends the process if the others do not come within five minutes
            print(f"process {index} of {count}: joining {address}", file=sys.stderr)
        jax.distributed.initialize(
            address, **given, heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT
        )
    except (KeyError, ValueError) as error:
        raise DistributedError(
            "--distributed needs to know the other processes: on a TPU pod, under "
            "Slurm and under Open MPI it does; elsewhere set COORDINATOR_ADDRESS "
            "(HOST:PORT of process 0, free there), PROCESS_COUNT and PROCESS_INDEX "
            f"(from 0) in the environment of each ({error})"
        ) from error


def check_agreement(**values: str) -> None:
    """Raises a DistributedError where processes have different values of a name."""
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(value.encode()).digest() for value in values.values()]
    own = np.stack([np.frombuffer(digest, np.uint8) for digest in digests])
    all_processes = multihost_utils.process_allgather(own)
    for i, name in enumerate(values):
        if (all_processes[:, i] != own[i]).any():
            raise DistributedError(
                f"{name} differs between the processes: all need the same command, "
                "the same photographs and a --workdir that they share"
            )


def wait_for_all(occasion: str) -> None:
    """Returns once every process is here, however long that takes."""
    multihost_utils.sync_global_devices(occasion)


def reuse_memory() -> None:
    """Lets an update on a CPU take the memory of the one before, where glibc gives it.

    Call it before anything else uses JAX. Else what an update has computed in goes back
    to the system, which clears it page by page for the next. glibc can be told to keep
    the memory of the main thread, so updates are to run on the thread that asks for
    them, as they do where the process has one device and their batch is there already.
    The process does not shrink before it ends. Not for several processes: an update in
    which another was lost would say so by another kind of error.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    try:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    except AttributeError as error:  # a JAX without it
        print(f"{error}: on a CPU steps will be slower", file=sys.stderr)
        return
    if jax.default_backend() == "cpu":
        for option, value in KEEP_MEMORY.items():
            libc.mallopt(option, value)


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a resumed run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(store.cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
