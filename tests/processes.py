"""Runs a tiny configuration in real processes, which tests observe and kill."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from srgan_jax.paths import AnyPath
from srgan_jax.training import network_files
from srgan_jax.weights import store

TESTS = Path(__file__).parent
PATIENCE = 900  # Seconds; a busy machine may need this long for 5 seconds of work.


class Process:
    """One process of a run; its output goes to a file in the directory `cache`."""

    def __init__(
        self, program: Path, flags: list[str], cache: Path, variables: dict[str, str]
    ) -> None:
        cache.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(".stderr", dir=cache)
        self._said = Path(name)
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        with open(handle, "wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(program), *flags],
                env=os.environ | {"PYTHONPATH": path} | variables,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Returns the exit status; fails if the process hangs."""
        return self._process.wait(timeout)

    def runs(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def stop(self) -> None:
        if self.runs():
            self._process.kill()
            self._process.wait(PATIENCE)


@contextlib.contextmanager
def started(
    workdir: AnyPath,
    folder: AnyPath,
    *flags: str,
    cache: Path,
    processes: int = 1,
    devices: int = 1,
    last: tuple[str, ...] = (),
    program: Path = TESTS / "recorded_train.py",
    **faults: str,
) -> Iterator[list[Process]]:
    """Starts the processes of one run, and ends them when the block ends.

    Args:
      workdir: the run's directory.
      folder: the training images.
      *flags: flags of train.py.
      cache: directory of the compilation cache that the processes share.
      processes: number of processes.
      devices: number of simulated devices per process.
      last: additional flags of the last process.
      program: train.py or its replacement.
      **faults: faults of the last process, see recorded_train.py.
    """
    config = f"--config={TESTS / 'tiny.py'}:{folder}"
    flags = (config, f"--workdir={workdir}", *flags)
    variables = {"JAX_NUM_CPU_DEVICES": str(devices), "SRGAN_JAX_CACHE": str(cache)}
    if processes > 1:
        flags = (*flags, "--distributed")
        variables |= {
            "COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
            "PROCESS_COUNT": str(processes),
        }
    running: list[Process] = []
    try:
        for index in range(processes):
            own, only = {"PROCESS_INDEX": str(index)}, list[str]()
            if index == processes - 1:
                own, only = own | faults, list(last)
            running.append(Process(program, [*flags, *only], cache, variables | own))
        yield running
    finally:
        for process in running:
            process.stop()


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def until(condition: Callable[[], object], process: Process) -> None:
    """Waits for a condition; fails if the process ends or takes too long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.runs(), process.said()
        assert time.monotonic() < end, process.said()
        time.sleep(0.01)


def saved(workdir: Path) -> list[int]:
    """Returns the steps of the complete checkpoints."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdecimal())


def metrics(workdir: Path) -> list[dict]:
    """Returns the lines of a run's metrics."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def losses(workdir: Path) -> list[dict]:
    """Returns the metrics of each step, except those that depend on the clock."""
    lines = [line for line in metrics(workdir) if "content" in line]
    return [
        {k: v for k, v in line.items() if k != "images_per_second"} for line in lines
    ]


def scores(workdir: Path) -> list[dict]:
    """Returns the scores of each evaluation."""
    return [line for line in metrics(workdir) if "evaluation_psnr" in line]


def generators(workdir: Path) -> dict[str, np.ndarray]:
    """Returns all leaves of the generators of each stage and of the run."""
    leaves = {}
    for stage in ("pretrain", "adversarial", None):
        path = network_files.file_of(workdir, "generator", stage)
        _, variables = store.load_generator(str(path))
        for name, leaf in flatten(variables):
            leaves[f"{path.name}/{name}"] = leaf
    return leaves


def flatten(tree: dict, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, np.asarray(value)


def examples(workdir: Path, steps: int) -> dict[tuple[int, int], str]:
    """Returns digests of the examples by (step, position in the global batch).

    Examples that were read more than once, by any number of processes, must be equal.
    """
    read: dict[tuple[int, int], str] = {}
    for path in workdir.glob("examples-*.jsonl"):
        for line in path.read_text().split("\n")[:-1]:
            share = json.loads(line)
            if share["step"] >= steps:
                continue  # These were read ahead of training.
            for place, digest in enumerate(share["digests"], start=share["first"]):
                assert read.setdefault((share["step"], place), digest) == digest
    return read
