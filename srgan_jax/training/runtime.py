"""Process setup for training.

It covers the distributed start, agreement between processes, compiler options, memory,
the compilation cache and signals.
"""

import contextlib
import ctypes
import hashlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from srgan_jax.paths import AnyPath
from srgan_jax.weights import store

# By default XLA gives convolutions to YNNPACK, whose kernel gradient is slow. The first
# option restricts YNNPACK to dot products and reductions.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    ),
    "xla_cpu_prefer_vector_width": 512,  # the default is 256, even with AVX-512
}
# glibc's M_MMAP_MAX (allocate on the heap only) and M_TRIM_THRESHOLD (never shrink it)
KEEP_MEMORY = {-4: 0, -1: -1}
AUTOTUNING = "autotuning.txt"
# Environment variables that announce several processes, by a list with this separator
# or by a number. They are set on TPU slices on GKE, on several such slices, by Slurm's
# srun, by Open MPI, and by users of `initialize_distributed`.
ANNOUNCEMENTS = {
    "TPU_WORKER_HOSTNAMES": ",",
    "MEGASCALE_NUM_SLICES": None,
    "SLURM_STEP_NUM_TASKS": None,
    "OMPI_COMM_WORLD_SIZE": None,
    "PROCESS_COUNT": None,
}
# JAX ends all processes if one of them is silent for this long.
HEARTBEAT_TIMEOUT = 60  # seconds


class DistributedError(ValueError):
    """The processes cannot work together; the message says what to change."""


class StopRequest:
    """A context manager in which SIGTERM and SIGINT ask the run to save and stop.

    A second signal ends the process at once. All processes of a distributed run stop at
    the same step, whichever of them received the signal.
    """

    def __init__(self) -> None:
        self._requested = False
        self._distributed = jax.distributed.is_initialized()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            # In a distributed run JAX itself handles SIGTERM.
            if number != signal.SIGTERM or not self._distributed:
                self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def reached(self, step: int) -> bool:
        """True if the run has to stop after `step`; every process must call it."""
        if self._distributed:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        for handled in self._handlers:
            signal.signal(handled, signal.SIG_DFL)
        if self._distributed:
            os.kill(os.getpid(), signal.SIGTERM)


def initialize_distributed() -> None:
    """Joins the other processes; call it before anything else uses JAX.

    On a TPU pod, under Slurm and under Open MPI, JAX finds the coordinator's address,
    the number of processes and this process's index. Elsewhere they come from
    COORDINATOR_ADDRESS, PROCESS_COUNT and PROCESS_INDEX.

    Raises:
      DistributedError: JAX cannot find them and the variables are not set.
    """
    address = os.environ.get("COORDINATOR_ADDRESS")
    given: dict[str, Any] = {}
    try:
        if address is not None:
            count, index = (
                int(os.environ[name]) for name in ("PROCESS_COUNT", "PROCESS_INDEX")
            )
            given = {"num_processes": count, "process_id": index}
            # JAX ends the process if the others do not join within five minutes.
            print(f"process {index} of {count}: joining {address}", file=sys.stderr)
        jax.distributed.initialize(
            address, **given, heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT
        )
    except (KeyError, ValueError) as error:
        raise DistributedError(
            f"--distributed cannot find the other processes ({error}); outside of a "
            "TPU pod, Slurm and Open MPI, set COORDINATOR_ADDRESS (HOST:PORT of "
            "process 0, with a free port), PROCESS_COUNT and PROCESS_INDEX (from 0) in "
            "the environment of each process"
        ) from error


def check_alone(*, requested: bool) -> None:
    """Checks that this machine does not belong to a pod; for runs of one process.

    A forgotten --distributed would start one independent run on each host, or hang.
    This starts JAX, so XLA's options must have been set before.

    Args:
      requested: True if the user has asked for a run of one process
        (--nodistributed). Then the environment may announce others.

    Raises:
      DistributedError: the environment or the TPU's driver announces several processes.
    """
    for name, separator in () if requested else ANNOUNCEMENTS.items():
        text = os.environ.get(name, "")
        count = len(text.split(separator)) if separator else _whole_number(text)
        if count > 1:
            raise DistributedError(
                f"{name}={text} announces {count} processes; add --distributed to join "
                "them, or --nodistributed to train in this process alone"
            )
    # On Google Compute Engine the TPU's driver alone knows that there are other hosts.
    if jax.process_count() > 1:
        raise DistributedError(
            f"the TPU's driver announces {jax.process_count()} processes, and none of "
            "them can train alone; add --distributed to join them"
        )


def _whole_number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def check_agreement(**values: str) -> None:
    """Raises a DistributedError if a value differs between processes.

    Every process must call it.
    """
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(value.encode()).digest() for value in values.values()]
    own = np.stack([np.frombuffer(digest, np.uint8) for digest in digests])
    all_processes = multihost_utils.process_allgather(own)
    for i, name in enumerate(values):
        if (all_processes[:, i] != own[i]).any():
            raise DistributedError(
                f"the {name} differs between the processes; give all of them the same "
                "command, the same photographs and a --workdir that they share"
            )


def wait_for_all(occasion: str) -> None:
    """Waits, without a time limit, until every process has called it."""
    multihost_utils.sync_global_devices(occasion)


def compile_step(mapped: Any, *arguments: Any) -> Any:
    """Compiles the result of `parallel.map_step` for arguments of these shapes."""
    lowered = mapped.lower(*arguments)
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        print(f"{error}: training steps will be slower", file=sys.stderr)
        return lowered.compile()


def reuse_memory() -> None:
    """Stops glibc returning freed memory to the OS between steps.

    This avoids page faults in every step. It has an effect on a CPU only, and the
    process does not shrink before it ends. Call it before anything else uses JAX.

    glibc keeps the memory of the main thread only, so steps must run on the thread that
    calls them. This holds if the process has one device and the batch has arrived.
    Don't call it in a distributed run, where it changes the error that a step raises
    when another process is lost.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    try:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    except AttributeError as error:  # a version of JAX without this option
        print(f"{error}: training steps on a CPU will be slower", file=sys.stderr)
        return
    if jax.default_backend() == "cpu":
        for option, value in KEEP_MEMORY.items():
            libc.mallopt(option, value)


def make_deterministic(workdir: AnyPath) -> None:
    """Makes a run on a GPU compute the same bits each time it starts.

    XLA then takes no kernel whose sums depend on the order of threads. It measures at
    compile time which of the remaining kernels are fastest on this GPU, and their
    results differ by rounding; it keeps its choice in the run's directory and repeats
    it on a resume. Call it before anything else uses JAX. It has an effect on a GPU
    only.

    Args:
      workdir: the run's directory.

    Raises:
      ValueError: the directory is in a bucket, where XLA cannot write.
    """
    if not isinstance(workdir, Path):
        raise ValueError(
            f"deterministic is True and --workdir is {workdir}, but XLA keeps its "
            "choice of kernels in a local file; choose a --workdir on a file system"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    choice = workdir.absolute() / AUTOTUNING
    flags = ["--xla_gpu_exclude_nondeterministic_ops=true"]
    flags.append(f"--xla_gpu_dump_autotune_results_to='{choice}'")
    if choice.exists():
        flags.append(f"--xla_gpu_load_autotune_results_from='{choice}'")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])


@contextlib.contextmanager
def device_errors(workdir: AnyPath) -> Iterator[None]:
    """Turns XLA's errors that the user can mend into one sentence.

    Args:
      workdir: the run's directory.

    Raises:
      ValueError: the memory is too small, or XLA cannot use its file of
        `make_deterministic`.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "autotune results" in str(error):
            raise ValueError(
                f"{workdir / AUTOTUNING} is damaged, or another version of JAX wrote "
                "it; move it away and run the same command: XLA then chooses its "
                "kernels anew, so that the run differs by rounding from here on"
            ) from error
        if "RESOURCE_EXHAUSTED" in str(error):
            raise ValueError(
                "the device has too little memory for this step; give a smaller "
                "--config.batch_size, or split the batch with --config.accumulate; if "
                "the run has a checkpoint, add --allow_config_change"
            ) from error
        raise


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a resumed run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(store.cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def silence_libraries() -> None:
    """Stops libraries logging the traces of errors that we report in one sentence."""
    logging.getLogger().setLevel("WARNING")  # absl sets INFO
    # Orbax logs through the first two, and reads buckets with the other two.
    for name in ("absl", "asyncio", "gcsfs", "urllib3"):
        logging.getLogger(name).setLevel("CRITICAL")

    def ignore_closed_loop(raised: "sys.UnraisableHookArgs") -> None:
        """Ignores the writers that Orbax leaves behind when one of them fails."""
        if "Event loop is closed" not in str(raised.exc_value):
            sys.__unraisablehook__(raised)

    sys.unraisablehook = ignore_closed_loop
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
