"""Kills a run at random moments, resumes it each time, and compares the final results.

    python benchmarks/soak.py --kills 20 --seed 0 [--json]

train.py trains both stages of the tests' tiny configuration twice, in separate
processes. One run is uninterrupted. The other is stopped by SIGTERM or SIGKILL, at
random, while it starts or compiles, between two steps, or while it saves. All losses,
scores and leaves of the generators must be bit-identical. Exit status 1 means that they
are not, or that a process ended with an unexpected status.
"""

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The tests have the tiny configuration and the functions to start and inspect runs.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

STEPS_PER_KILL = 40  # about half a second of training
RESUME_ME = 75
LONGEST_START = 8.0  # seconds
PATIENCE = 600  # seconds


class Run:
    """A run of the tiny configuration in a directory."""

    def __init__(self, workdir: Path, folder: Path, steps: int) -> None:
        self.workdir = workdir
        self._folder = folder
        self._flags = [
            f"--config.stages[0].steps={steps // 2}",
            f"--config.stages[1].steps={steps - steps // 2}",
            "--config.checkpoint.every=10",
            f"--config.evaluation.every={steps // 8}",
        ]

    def started(self) -> Any:
        """Starts or resumes the run; a context manager that gives its one process."""
        import processes

        return processes.started(
            self.workdir,
            self._folder,
            *self._flags,
            cache=self._folder.with_name("compiled"),
            program=ROOT / "train.py",
        )

    def finish(self) -> None:
        with self.started() as (process,):
            if process.wait(3600):
                raise SystemExit(f"the run did not finish: {process.said()}")

    def step(self) -> int:
        """The last step in the metrics; an incomplete line does not count."""
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return json.loads(lines[-1])["step"] if lines else 0

    def complete(self) -> int:
        """The step of the newest complete checkpoint."""
        import processes

        return max(processes.saved(self.workdir), default=0)

    def saves(self, step: int) -> bool:
        """True if a checkpoint of this step or a later one is being written."""
        unfinished = (self.workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")
        return any(int(path.name.partition(".")[0]) >= step for path in unfinished)


def kill(run: Run, target: int, rng: random.Random) -> dict[str, Any]:
    """Starts or resumes a run and kills it; a record of that."""
    number = rng.choice([signal.SIGTERM, signal.SIGKILL])
    moment = rng.choice(["start", "step", "step", "save"])
    wait, delay = rng.uniform(0, LONGEST_START), rng.uniform(0, 0.05)
    resumed = run.complete()
    with run.started() as (process,):
        began = time.monotonic()
        # Before its first step, a process truncates the metrics at the checkpoint.
        conditions: dict[str, Callable[[], bool]] = {
            "start": lambda: (
                time.monotonic() > began + wait
                or run.step() >= resumed + STEPS_PER_KILL
            ),
            "step": lambda: "compiled" in process.said() and run.step() >= target,
            "save": lambda: run.saves(target),
        }
        while process.runs() and not conditions[moment]():
            if time.monotonic() > began + PATIENCE:
                raise SystemExit(f"nothing to kill in {PATIENCE} s: {process.said()}")
            time.sleep(0.001)
        time.sleep(delay)
        process.send(number)
        status, said = process.wait(PATIENCE), process.said()
    right = {RESUME_ME} if number == signal.SIGTERM else {-number}
    if not said:  # the signal ended Python before train.py installed its handlers
        right.add(-number)
    faults = [] if status in right else [f"ended with {status}: {said[-300:]}"]
    if resumed and "bicubic" in said and f"resuming at step {resumed} of" not in said:
        faults.append(f"did not resume at step {resumed}: {said[-300:]}")
    stopped = f"stopped at step {run.complete()}" in said
    if status == RESUME_ME and "compiled" in said and not stopped:
        faults.append(f"did not save where it stopped: {said[-300:]}")
    return {
        "signal": number.name,
        "at": moment,
        "resumed": resumed,
        "step": run.step(),
        "complete": run.complete(),
        "status": status,
        "faults": faults,
    }


def differences(ours: Path, expected: Path) -> list[str]:
    """Lists results that are not bit-identical in both runs."""
    import numpy as np
    import processes

    found = []
    for name in ("losses", "scores"):
        a, b = (getattr(processes, name)(workdir) for workdir in (ours, expected))
        if a != b:
            wrong = sum(x != y for x, y in itertools.zip_longest(a, b))
            found.append(f"{name}: {wrong} of {len(b)}")
    a, b = processes.generators(ours), processes.generators(expected)
    if a.keys() != b.keys():
        return [*found, "the generators' leaves"]
    return found + [name for name in b if not np.array_equal(a[name], b[name])]


def soak(directory: Path, kills: int, seed: int) -> dict[str, Any]:
    """Runs the comparison; prints one line per kill on standard error."""
    import processes
    import tiny

    folder = tiny.photographs(directory / "photographs")
    steps = STEPS_PER_KILL * (kills + 2)
    alone, run = (Run(directory / name, folder, steps) for name in ("alone", "killed"))
    alone.finish()
    rng = random.Random(seed)
    records = []
    for target in sorted(rng.randrange(STEPS_PER_KILL * kills) for _ in range(kills)):
        records.append(kill(run, target, rng))
        print(line(len(records), records[-1]), file=sys.stderr, flush=True)
    run.finish()
    different = differences(run.workdir, alone.workdir)
    same = not different and not any(record["faults"] for record in records)
    return {
        "kills": records,
        "steps": steps,
        "leaves": len(processes.generators(alone.workdir)),
        "losses": len(processes.losses(alone.workdir)),
        "different": different,
        "same": same,
    }


def line(number: int, record: dict[str, Any]) -> str:
    text = (
        f"{number:3d} {record['signal']} at a {record['at']:5s}: resumed at step "
        f"{record['resumed']:4d}, last step {record['step']:4d}, last checkpoint "
        f"{record['complete']:4d}, status {record['status']:3d}"
    )
    return "  ".join([text, *record["faults"]])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the record")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as directory:
        record = soak(Path(directory), arguments.kills, arguments.seed)
    if arguments.json:
        print(json.dumps(record))
    elif record["same"]:
        print(
            f"{len(record['kills'])} kills: the same bits in {record['losses']} steps' "
            f"losses, all scores and {record['leaves']} leaves of the generators"
        )
    else:
        print("\n".join(["differs from the uninterrupted run:", *record["different"]]))
    return 0 if record["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
