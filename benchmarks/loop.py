"""Measures the overhead of the training loop over bare steps, data loading included.

    python benchmarks/loop.py [--source folder:PATH] [--stage adversarial] [--batch 16]

A stage runs in turn as in `train.py` (crops from the source, metrics, log; without
evaluations and checkpoints in the measured steps) and as bare steps on one batch, which
is copied to the device for each step. The overhead is the ratio within a round. Rounds
are printed on standard error, and `--json` prints the median too. The loop's rate is
the harmonic mean of the rates in its metrics. Needs srgan-jax[parity], since it imports
train_step.py.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from train_step import STAGES, OurSteps, batch_of, seconds

from configs import srgan
from srgan_jax.training import loop, runtime
from srgan_jax.training.resolve import resolve_config


def loop_rate(name: str, source: str, batch_size: int, steps: int) -> float:
    """Returns images per second according to the metrics of a run."""
    config = srgan.get_config()
    config.batch_size = batch_size
    config.data.source = source
    config.stages = tuple(stage for stage in config.stages if stage.name == name)
    config.stages[0].update({"steps": steps, "decay_at": ()})
    config.evaluation.lpips = "none"
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        loop.train_and_evaluate(resolve_config(config), workdir)
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line).get("images_per_second") for line in lines]
    return statistics.harmonic_mean([rate for rate in rates if rate is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="sample")
    parser.add_argument("--stage", choices=STAGES, default=STAGES[0])
    parser.add_argument("--batch", type=int, default=srgan.get_config().batch_size)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="on standard output")
    arguments = parser.parse_args()
    runtime.reuse_memory()
    run = OurSteps(arguments.stage, batch_of(arguments.batch)).run
    seconds(run)
    records = []
    for _ in range(arguments.rounds):
        durations = [seconds(run) for _ in range(arguments.steps)]
        bare = arguments.batch / statistics.mean(durations)
        looped = loop_rate(
            arguments.stage, arguments.source, arguments.batch, arguments.steps
        )
        records.append({"bare": bare, "loop": looped, "overhead": bare / looped - 1})
        print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    overhead = statistics.median(record["overhead"] for record in records)
    if arguments.json:
        print(json.dumps({"overhead": overhead, "records": records}))


if __name__ == "__main__":
    main()
