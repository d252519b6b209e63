"""The command line: `srgan-jax COMMAND`, each command a thin layer over the API.

Heavy modules are imported inside the commands, so that `--help` answers at once.
Figures go to standard output, everything else to standard error. Exit status: 0 done,
1 some inputs failed, 2 wrong usage.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import progress
from rich.console import Console

if TYPE_CHECKING:
    from srgan_jax.evaluation.figures import Region

app = typer.Typer(
    help="Photo-realistic single-image super-resolution (SRGAN) on JAX.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@app.callback()
def main() -> None:
    """Keeps `evaluate` a command of its own while it is the only one."""


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
    with _usage_errors():
        from srgan_jax.evaluation import benchmark, figures, metrics, pairs
        from srgan_jax.evaluation import lpips as lpips_

        insets = _insets(figure or [], regions or [])
        if insets and out is None:
            raise ValueError("figures need a folder to go to: give --out")
        datasets = pairs.open_datasets(data, lr_data or [])
        known = {files.name for dataset in datasets for files in dataset.images}
        for name in insets:
            if name not in known:
                raise ValueError(f"there is no image '{name}' among {sorted(known)}")
        generators, scale = _generators(weights or [])
        plan = benchmark.Benchmark(
            generators,
            scale=scale,
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
        typer.echo(benchmark.as_json(report.results), nl=False)
    else:
        Console().print(figures.terminal_table(report.results, lpips))
    spent = ", ".join(f"{part} {s:.1f} s" for part, s in report.seconds.items())
    notes.print(f"time: {spent}")
    if out:
        figures.write_tables(report.results, out, lpips)
        with _usage_errors():  # a region outside its image
            figures.write_comparisons(report, out, insets)
        notes.print(f"results: {out}")
    for failure in report.failures:
        notes.print(f"left out: {failure}")
    if report.failures:
        notes.print(f"{len(report.failures)} of {total} images could not be scored")
        raise typer.Exit(1)


def _generators(names: list[str]) -> tuple[dict[str, Callable], int]:
    """Name to upscaling function, and the scale that all of them share."""
    from srgan_jax.evaluation import benchmark
    from srgan_jax.inference import upscaler
    from srgan_jax.weights import store

    generators = {
        name: upscaler.Upscaler(*store.load_generator(name))
        for name in names
        if name not in benchmark.BUILT_IN
    }
    scales = {name: generator.scale for name, generator in generators.items()}
    if len(set(scales.values())) > 1:
        raise ValueError(
            "generators of different scales cannot share a table: "
            + ", ".join(f"{name} is x{scale}" for name, scale in scales.items())
        )
    return dict(generators), next(iter(scales.values()), 4)


def _insets(figure: list[str], regions: list[str]) -> dict[str, "Region | None"]:
    """Image name to the region of its inset; None for the automatic choice."""
    from srgan_jax.evaluation.figures import Region

    insets: dict[str, Region | None] = dict.fromkeys(figure)
    for region in regions:
        name, _, corners = region.rpartition("=")
        try:
            insets[name] = Region(*map(int, corners.split(",")))
        except (TypeError, ValueError):
            raise ValueError(
                f"'{region}' is no region: expected IMAGE=X,Y,WIDTH,HEIGHT in pixels"
            ) from None
    return insets


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """One sentence and exit status 2 for what the user can put right."""
    try:
        yield
    except (OSError, ValueError) as error:
        notes.print(f"error: {error}")
        raise typer.Exit(2) from None
