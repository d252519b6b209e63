"""`srgan-jax evaluate`: scores generators and other programs' images.

Scores go to standard output, everything else to standard error.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import progress

from srgan_jax import console, paths
from srgan_jax.cli.errors import usage_errors
from srgan_jax.console import notes


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FOLDER",
            help="Folder of HR images, or of *_HR and *_LR pairs. Repeatable.",
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_FILE", help="Catalog name or generator file. Repeatable."
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Images that another program made from the originals, matched by "
            "name. FOLDER may be a pattern such as FOLDER/*_SRGAN.png. Repeatable.",
        ),
    ] = None,
    lr_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of LR images, one for each --data. Repeatable.",
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="HR size over LR size. The default is the generators' scale, or 4.",
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="standard|paper|rgb|pyiqa",
            help="Protocol of PSNR and SSIM, 'standard' by default. Repeatable.",
        ),
    ] = None,
    lpips: Annotated[
        Literal["alex", "vgg"] | None,
        typer.Option(help="Measure LPIPS too, with this network."),
    ] = None,
    border: Annotated[
        Literal["mirrored", "clamped"],
        typer.Option(help="Border of the bicubic that makes LR and the row 'bicubic'."),
    ] = "mirrored",
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Print the difference of two rows' means with a 95 % interval.",
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="Print every step from the files to the scores of this one image.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=paths.parse_local,
            help="Folder for results.md, .csv and .json, results.html with a slider, "
            "the worst and best images and, with --lpips, the perception-distortion "
            "plot.",
        ),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE",
            help="Name of an image to draw side by side for all rows. Repeatable.",
        ),
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE=X,Y,WIDTH,HEIGHT",
            help="Like --figure, but magnifies this region instead of the one where "
            "the rows differ most. Repeatable.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Side in LR pixels of the tiles computed at a time."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Type in which the generators compute."),
    ] = "float32",
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="The same as --dtype bfloat16.")
    ] = False,
    padding: Annotated[
        Literal["zero", "symmetric"],
        typer.Option(
            help="What generators see beyond the borders of LR: zeros, as in training "
            "and in other programs, or its mirror image, as `upscale` uses."
        ),
    ] = "zero",
    offline: Annotated[
        bool, typer.Option("--offline", help="Forbid downloads.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON.")
    ] = False,
) -> None:
    """Score generators, other programs' images, nearest neighbour and bicubic.

    LR comes from the folders, or is made by MATLAB's bicubic. The protocols are those
    of the literature (`standard`), the SRGAN paper (`paper`), BasicSR (`rgb`) and pyiqa
    (`pyiqa`).
    """
    with usage_errors():
        from srgan_jax.evaluation import (
            benchmark,
            bootstrap,
            datasets,
            figures,
            metrics,
            output,
            rows,
            tables,
        )
        from srgan_jax.evaluation import explain as steps
        from srgan_jax.evaluation import lpips as distances

        insets = figures.insets(figure or [], regions or [])
        if explain is not None and (out or compare):
            raise ValueError("--explain only prints: leave out --out and --compare")
        if insets and out is None:
            raise ValueError("--figure and --regions need a folder: give --out")
        opened = datasets.open_datasets(data, lr_data or [])
        full_names = datasets.select(insets, opened)
        generators, scale = rows.load_generators(
            weights or [],
            scale=scale,
            tile=tile,
            dtype="bfloat16" if bfloat16 else dtype,
            padding=padding,
            offline=offline,
        )
        plan = benchmark.Benchmark(
            generators,
            scale,
            images=rows.match_images(images or [], opened, generators),
            protocols=[metrics.protocol_of(p) for p in protocol or ["standard"]],
            distance=distances.load(lpips, offline=offline) if lpips else None,
            border=border,
            keep=list(full_names.values()),
            extremes=output.EXTREMES if out else 0,
        )
        plan.check_rows(compare or ())
        if explain is not None:
            records = steps.explain(plan, datasets.find(explain, opened))
            typer.echo(tables.finite_json(records) if json else steps.text(records))
            return
        if out:
            output.prepare(out)
    note = f"padding of the generators: {padding}" if generators else ""
    total = sum(len(dataset.images) for dataset in opened)
    with progress.Progress(console=notes, transient=True) as bar:
        task = bar.add_task("evaluating", total=total)
        report = plan.run(opened, lambda: bar.advance(task))
    if json:
        typer.echo(tables.as_json(report.results), nl=False)
    else:
        console.figures().print(tables.terminal(report.results, lpips, note))
    for sentence in report.notes():
        notes.print(sentence)
    with usage_errors():  # such as too few images to compare, a region outside an image
        if out:
            output.write(
                report,
                out,
                subject=plan.subject,
                network=lpips,
                note=note,
                insets={full_names[name]: inset for name, inset in insets.items()},
                blends=rows.find_blends(weights or []),
            )
            notes.print(f"results: {out}")
        if compare:
            typer.echo(bootstrap.describe(report.results, *compare), err=json)
    if report.failures:
        notes.print(f"{len(report.failures)} of {total} images could not be scored")
        raise typer.Exit(1)
