"""Real processes that train a tiny configuration, for tests that watch and kill."""

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

from srgan_jax.training import network_files
from srgan_jax.weights import store

TESTS = Path(__file__).parent
PATIENCE = 900  # seconds that a starved machine may take for what an idle one does in 5


class Process:
    """One process of a run; what it says goes to a file in the directory `cache`."""

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
        """The exit status; a process that hangs is an error."""
        return self._process.wait(timeout)

    def runs(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def stop(self) -> None:
        if self.runs():
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def started(
    workdir: Path,
    folder: Path,
    *flags: str,
    cache: Path,
    processes: int = 1,
    devices: int = 1,
    last: tuple[str, ...] = (),
    program: Path = TESTS / "recorded_train.py",
    **misfortunes: str,
) -> Iterator[list[Process]]:
    """Processes of one run; whatever happens, none of them stays.

    Args:
      workdir: of the run.
      folder: of its photographs.
      *flags: of train.py.
      cache: where one process finds what another has compiled.
      processes: how many.
      devices: of each.
      last: flags of the last process alone.
      program: train.py or what stands for it.
      **misfortunes: of the last process, see recorded_train.py.
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
                own, only = own | misfortunes, list(last)
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
    """Waits while the process lives; fails where it ends or takes too long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.runs(), process.said()
        assert time.monotonic() < end, process.said()
        time.sleep(0.01)


def saved(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdecimal())


def metrics(workdir: Path) -> list[dict]:
    """The lines of a run's metrics."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def losses(workdir: Path) -> list[dict]:
    """The metrics of each step, without what depends on the clock."""
    lines = [line for line in metrics(workdir) if "content" in line]
    return [
        {k: v for k, v in line.items() if k != "images_per_second"} for line in lines
    ]


def scores(workdir: Path) -> list[dict]:
    """The scores of each evaluation."""
    return [line for line in metrics(workdir) if "evaluation_psnr" in line]


def generators(workdir: Path) -> dict[str, np.ndarray]:
    """Every leaf of the generator of each stage and of the run."""
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
    """Digests of the examples by (step, place in the global batch).

    Whatever was read again, by whichever number of processes, must be the same.
    """
    read: dict[tuple[int, int], str] = {}
    for path in workdir.glob("examples-*.jsonl"):
        for line in path.read_text().split("\n")[:-1]:
            share = json.loads(line)
            if share["step"] >= steps:
                continue  # read ahead
            for place, digest in enumerate(share["digests"], start=share["first"]):
                assert read.setdefault((share["step"], place), digest) == digest
    return read
