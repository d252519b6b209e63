"""Real processes that train a tiny configuration, for tests that watch and kill."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PATIENCE = 600  # seconds that a busy machine may take for what an idle one does in 15


class Process:
    """One process of a run, its output in files beside the run's directory."""

    def __init__(
        self, workdir: Path, folder: Path, *flags: str, devices: int = 1, **variables
    ) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
            "JAX_NUM_CPU_DEVICES": str(devices),
            # what a process compiles, those after it find
            "SRGAN_JAX_CACHE": str(folder.parent / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        name = variables.get("PROCESS_INDEX", "0")
        self.errors = workdir.with_name(f"{workdir.name}-{name}.stderr")
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(TESTS / "recorded_train.py"),
                    f"--config={TESTS / 'tiny.py'}:{folder}",
                    f"--workdir={workdir}",
                    *flags,
                ],
                env=environment | variables,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status; a process that hangs is an error."""
        return self._process.wait(timeout)

    def runs(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        return self.errors.read_text(errors="replace")

    def stop(self) -> None:
        if self.runs():
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def started(
    workdir: Path,
    folder: Path,
    *flags: str,
    processes: int = 1,
    devices: int = 1,
    last: tuple[str, ...] = (),
) -> Iterator[list[Process]]:
    """Processes of one run; whatever happens, none of them stays.

    The last one is given the flags `last` as well.
    """
    variables: list[dict[str, str]] = [{}]
    if processes > 1:
        flags = ("--distributed", *flags)
        rendezvous = {
            "COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
            "PROCESS_COUNT": str(processes),
        }
        variables = [rendezvous | {"PROCESS_INDEX": str(i)} for i in range(processes)]
    running = []
    try:
        for each in variables:
            own = (*flags, *last) if each is variables[-1] else flags
            running.append(Process(workdir, folder, *own, devices=devices, **each))
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
        time.sleep(0.002)


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
