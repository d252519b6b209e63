"""What the training loop costs beside the bare update, reading of data included.

    python benchmarks/loop.py [--source folder:PATH] [--stage adversarial] [--batch 16]

Runs a stage of the recipe by turns as `train.py` would (metrics, log, crops from the
source; no evaluation and no checkpoint falls into the steps that count) and as bare
updates of one batch in the host's memory, copied for each. What counts is the ratio
within a round. The loop's seconds are the mean of its own metrics. Needs
srgan-jax[parity], for what it shares with train_step.py.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from train_step import STAGES, batch_of, our_update, seconds

from configs import srgan
from srgan_jax.training import loop, runtime
from srgan_jax.training.resolve import resolve_config


def loop_rate(name: str, source: str, batch_size: int, steps: int) -> float:
    """Images a second by the metrics of a run."""
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
    run, _ = our_update(arguments.stage, batch_of(arguments.batch))
    seconds(run)
    records = []
    for _ in range(arguments.rounds):
        bare = arguments.batch / seconds(run, arguments.steps)
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
