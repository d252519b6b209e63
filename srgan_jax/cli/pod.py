"""`srgan-jax pod`: estimates the cost of a configuration on TPUs or GPUs.

Estimates go to standard output, everything else to standard error.
"""

import json as json_
from typing import Annotated, Literal

import typer

from srgan_jax.cli.errors import usage_errors
from srgan_jax.console import figures, notes


def pod(
    config: Annotated[
        str,
        typer.Option(metavar="FILE[:VARIANT]", help="Configuration, as for train.py."),
    ],
    topology: Annotated[
        str,
        typer.Option(
            help="v4, v5e, v5p or v6e, and a layout, such as v5e:16x16; or h100, h200, "
            "a100 or a6000, and a number of GPUs, such as h100:8."
        ),
    ],
    stage: Annotated[
        Literal["pretrain", "adversarial"] | None,
        typer.Option(help="Estimate this stage only."),
    ] = None,
    batch_per_chip: Annotated[
        int, typer.Option(min=1, help="HR crops per chip; replaces the batch size.")
    ] = 16,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Replaces the configuration's dtype."),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON list of one record per stage."),
    ] = False,
) -> None:
    """Estimate memory, time and exchanged bytes of a training on TPUs or GPUs.

    The compiler for TPUs (pip install 'srgan-jax[pod]') or GPUs (pip install
    'srgan-jax[cuda-aot]') compiles the real step of each stage, which takes minutes.
    Neither a TPU nor a GPU is needed.
    """
    with usage_errors():
        from srgan_jax.estimate import cuda, tpu
        from srgan_jax.estimate.step import read_config

        target = cuda if topology.partition(":")[0] in cuda.GPUS else tpu
        given = read_config(config, dtype)
        stages = [s for s in given.stages if stage in (None, s.name)]
        if not stages:
            names = ", ".join(s.name for s in given.stages)
            raise ValueError(f"{config} has no stage {stage}; it has {names}")
        records = []
        for chosen in stages:
            with notes.status(f"compiling {chosen.name} for {topology}"):
                record = target.estimate(given, chosen, topology, batch_per_chip)
            records.append(record)
    if json:
        typer.echo(json_.dumps(records, indent=2))
    else:
        for record in records:
            figures().print(*target.summary(record), sep="\n")
