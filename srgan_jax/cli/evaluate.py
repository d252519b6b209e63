"""`srgan-jax evaluate`: scores generators on folders of images.

Figures go to standard output, everything else to standard error.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import progress

from srgan_jax import console
from srgan_jax.console import notes, usage_errors


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
        console.figures().print(tables.terminal(report.results, lpips))
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
