"""Measures how many training crops per second the input pipeline produces.

    python benchmarks/input_pipeline.py --source=folder:PATH [--json]

Prints the rate and the CPU time per crop, which depends less on other programs on the
machine. Images in formats other than JPEG are decoded once and kept in memory; to
measure them as in a long run, let `--warm-up` cover an epoch.
"""

import argparse
import json
import os
import resource
import time

from srgan_jax.data import pipeline, sources


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(arguments: argparse.Namespace) -> dict[str, str | int | float]:
    """Opens the source, warms up and counts crops for some seconds."""
    source = sources.open_source(
        arguments.source, minimum_size=arguments.crop, scale=arguments.scale
    )
    batches = pipeline.training_batches(
        source,
        batch_size=arguments.batch_size,
        crop=arguments.crop,
        scale=arguments.scale,
        seed=0,
        flips=arguments.flips,
        rotations=arguments.rotations,
        degradation=arguments.degradation,
    )
    start = time.perf_counter()
    next(batches)
    first = time.perf_counter() - start
    for _ in range(arguments.warm_up):
        next(batches)
    crops, start, processor = 0, time.perf_counter(), processor_seconds()
    while (elapsed := time.perf_counter() - start) < arguments.seconds:
        crops += len(next(batches)["hr"])
    return {
        "source": arguments.source,
        "photographs": len(source),
        "crop": arguments.crop,
        "scale": arguments.scale,
        "processors": os.cpu_count() or 1,
        "seconds_to_first_batch": round(first, 2),
        "crops_per_second": round(crops / elapsed, 1),
        "processor_milliseconds_per_crop": round(
            1e3 * (processor_seconds() - processor) / crops, 3
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", default="sample", help="folder:PATH, pairs:HR,LR or tfds:NAME"
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--rotations", action="store_true")
    parser.add_argument(
        "--degradation", default="bicubic", choices=("bicubic", "photo")
    )
    parser.add_argument("--warm-up", type=int, default=20, help="batches")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    figures = measure(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):32} {value}")


if __name__ == "__main__":
    main()
