"""The command line: `srgan-jax COMMAND`, each command a thin layer over the API.

Heavy modules are imported inside the commands, so that `--help` answers at once.
Figures go to standard output, everything else to standard error. Exit status: 0 done,
1 some inputs failed, 2 wrong usage.
"""

import json as json_
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import progress
from rich.console import Console

from srgan_jax import console as terminal
from srgan_jax.cli import export as cli_export
from srgan_jax.cli import upscale as cli_upscale
from srgan_jax.cli import weights as cli_weights
from srgan_jax.cli.errors import usage_errors
from srgan_jax.console import notes

app = typer.Typer(
    help="Photo-realistic single-image super-resolution (SRGAN) on JAX.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(cli_weights.app, name="weights")
app.command(epilog="Example: srgan-jax upscale holiday/ portrait.png -o upscaled")(
    cli_upscale.upscale
)
app.command(epilog="Example: srgan-jax export --to onnx -o srgan.onnx")(
    cli_export.export
)


@app.command(
    epilog="Example: srgan-jax evaluate --weights krasserm-srresnet "
    "--weights krasserm-srgan --data Set5 --lpips alex --out results"
)
def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder of HR images, or of *_HR and *_LR pairs. Repeatable."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_FILE", help="Catalog name or generator file. Repeatable."
        ),
    ] = None,
    lr_data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of LR images, one for each --data. Repeatable.",
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="standard|paper|rgb",
            help="How PSNR and SSIM are taken. Repeatable; 'standard' unless given.",
        ),
    ] = None,
    lpips: Annotated[
        Literal["alex", "vgg"] | None,
        typer.Option(help="Measure LPIPS too, with this network."),
    ] = None,
    border: Annotated[
        Literal["mirrored", "clamped"],
        typer.Option(help="Of the bicubic that makes LR and the row 'bicubic'."),
    ] = "mirrored",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for results.md, .csv, .json and the figures."
        ),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE", help="Image to draw side by side, by its name. Repeatable."
        ),
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE=X,Y,WIDTH,HEIGHT",
            help="As --figure, with this inset instead of where generators differ "
            "most. Repeatable.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON.")
    ] = False,
) -> None:
    """Score generators, nearest neighbour and bicubic on folders of images.

    LR comes from the folders, or is made by MATLAB's bicubic. `standard` is what the
    literature means, `paper` what the SRGAN paper means, `rgb` what BasicSR means.
    """
    with usage_errors():
        from srgan_jax.evaluation import benchmark, figures, metrics, tables
        from srgan_jax.evaluation import lpips as lpips_

        insets = figures.insets(figure or [], regions or [])
        if insets and out is None:
            raise ValueError("figures need a folder to go to: give --out")
        if out:
            out.mkdir(parents=True, exist_ok=True)
        datasets = benchmark.open_datasets(data, lr_data or [])
        benchmark.check_names(insets, datasets)
        generators, scale = benchmark.load_generators(weights or [])
        plan = benchmark.Benchmark(
            generators,
            scale,
            protocols=[metrics.protocol_of(p) for p in protocol or ["standard"]],
            distance=lpips_.load(lpips) if lpips else None,
            border=border,
            keep=insets,
        )
    total = sum(len(dataset.images) for dataset in datasets)
    with progress.Progress(console=notes, transient=True) as bar:
        task = bar.add_task("evaluating", total=total)
        report = plan.run(datasets, lambda: bar.advance(task))

    if json:
        typer.echo(tables.as_json(report.results), nl=False)
    else:
        terminal.figures().print(tables.terminal(report.results, lpips))
    spent = ", ".join(f"{part} {s:.1f} s" for part, s in report.seconds.items())
    notes.print(f"time: {spent}")
    if out:
        tables.write(report.results, out, lpips)
        with usage_errors():  # a region outside its image
            figures.write_comparisons(report, out, insets)
        notes.print(f"results: {out}")
    for failure in report.failures:
        notes.print(f"left out: {failure}")
    if report.failures:
        notes.print(f"{len(report.failures)} of {total} images could not be scored")
        raise typer.Exit(1)


@app.command(
    epilog="Example: srgan-jax pod --config=configs/srgan.py --topology=v5e:16x16"
)
def pod(
    config: Annotated[
        str, typer.Option(metavar="FILE[:VARIANT]", help="As train.py takes it.")
    ],
    topology: Annotated[
        str, typer.Option(help="v4, v5e, v5p or v6e and a layout, such as v5e:16x16.")
    ],
    stage: Annotated[
        Literal["pretrain", "adversarial"] | None,
        typer.Option(help="One stage; all unless given."),
    ] = None,
    batch_per_chip: Annotated[
        int, typer.Option(min=1, help="Crops a chip, instead of the global batch.")
    ] = 16,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Of the computation, instead of the config's."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print a list with one record a stage.")
    ] = False,
) -> None:
    """Compile a configuration for a TPU pod without one: does it fit, what it costs.

    The real step of each stage is compiled by the TPU compiler (extra: pip install
    'srgan-jax[pod]'); the figures are its estimates. Takes minutes a stage.
    """
    with usage_errors():
        from srgan_jax.estimate import tpu as pods

        given = pods.read_config(config)
        given.dtype = dtype or given.dtype
        stages = [s for s in given.stages if stage in (None, s.name)]
        if not stages:
            names = ", ".join(s.name for s in given.stages)
            raise ValueError(f"{config} has no stage {stage}; it has {names}")
        records = []
        for chosen in stages:
            with notes.status(f"compiling {chosen.name} for {topology}"):
                records.append(pods.estimate(given, chosen, topology, batch_per_chip))
    if json:
        typer.echo(json_.dumps(records, indent=2))
    else:
        for record in records:
            Console(highlight=False).print(*pods.summary(record), sep="\n")
