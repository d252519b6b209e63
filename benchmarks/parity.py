"""Trains the same networks here and in PyTorch and compares them after each step.

    python benchmarks/parity.py --steps 200 [--project sgrvinod] [--plot FILE] [--json]

Both start from the same weights and see the same crops. The first half of the steps
pre-trains SRResNet; the second half is adversarial (VGG54 with the catalog's VGG19).
Prints and plots the relative distances of losses and weights. Needs srgan-jax[parity].
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# The PyTorch reference is part of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))


def train(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a record per step: stage, losses and distances from PyTorch."""
    import jax
    import twins

    from srgan_jax.data import pipeline, sources

    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_enable_x64", arguments.double)
    source = sources.open_source(arguments.source, minimum_size=arguments.crop)
    batches = pipeline.training_batches(
        source, batch_size=arguments.batch_size, crop=arguments.crop, scale=4, seed=0
    )
    size = {
        "channels": arguments.channels,
        "blocks": arguments.blocks,
        "hidden": 16 * arguments.channels,
        "crop": arguments.crop,
    }
    pair = twins.Twins(arguments.project, double=arguments.double, size=size)
    layer = tuple(map(int, arguments.layer))
    records: list[dict[str, Any]] = []
    for stage in ("pretrain", "adversarial"):
        pair.start(stage, layer if stage == "adversarial" else None)
        for _ in range(arguments.steps // 2):
            losses = pair.step(next(batches))
            distances = {
                f"{k} loss": abs(ours / theirs - 1)
                for k, (ours, theirs) in losses.items()
            }
            record = {"step": len(records) + 1, "stage": stage}
            record |= {k: ours for k, (ours, _) in losses.items()}
            records.append(record | {"apart": distances | pair.apart()})
            print(line(records[-1]), file=sys.stderr, flush=True)
    return records


def line(record: dict[str, Any]) -> str:
    apart = "  ".join(f"{k} {v:.1e}" for k, v in record["apart"].items())
    return f"{record['step']:5d} {record['stage']:12s} {apart}"


def table(records: list[dict[str, Any]], rows: int = 10) -> str:
    """Returns a Markdown table of about `rows` evenly spaced steps."""
    names = [n for n in records[-1]["apart"] if "statistics" not in n]
    lines = [
        f"| step | stage | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    every = max(1, len(records) // rows)
    for record in records[every - 1 :: every]:
        cells = [
            f"{record['apart'][n]:.1e}" if n in record["apart"] else "" for n in names
        ]
        lines.append(f"| {record['step']} | {record['stage']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Plots the distances over the steps on a logarithmic scale."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharex=True, sharey=True)
    for axis, kind in zip(axes, ("loss", "parameters"), strict=True):
        names = [n for n in records[-1]["apart"] if n.endswith(kind)]
        for name in names:
            points = [(r["step"], r["apart"].get(name)) for r in records]
            axis.semilogy(*zip(*points, strict=True), label=name, linewidth=1)
        border = sum(r["stage"] == "pretrain" for r in records) + 0.5
        axis.axvline(border, color="grey", linewidth=0.8, linestyle=":")
        axis.set_xlabel("step; the adversarial stage begins at the dotted line")
        axis.set_title(f"{kind}: relative distance from PyTorch")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--project", choices=("lornatang", "sgrvinod"), default="lornatang"
    )
    parser.add_argument("--source", default="sample", help="as config.data.source")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop", type=int, default=48)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layer", default="54", choices=("22", "54"))
    parser.add_argument("--double", action="store_true", help="float64 on both sides")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true", help="print the records")
    arguments = parser.parse_args()
    records = train(arguments)
    print(json.dumps(records) if arguments.json else table(records))
    if arguments.plot:
        draw(records, arguments.plot)


if __name__ == "__main__":
    main()
