"""`srgan-jax upscale`, pictures from files to files, and `srgan-jax export`.

Figures go to standard output, everything else to standard error.
"""

import json as json_
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import progress

from srgan_jax.console import notes, usage_errors

Offline = Annotated[bool, typer.Option("--offline", help="Refuse to download.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist.")
]


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Pictures, or folders of pictures."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the pictures, below which input folders are mirrored; "
            "for one picture, a file.",
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Catalog name or generator file; the best perceptual one of the "
            "catalog unless given.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side in pixels of what is computed at a time. Smaller takes less "
            "memory and more time; the result is the same.",
        ),
    ] = None,
    format: Annotated[
        Literal["png", "jpg", "webp", "tiff"] | None,
        typer.Option(help="Of the outputs; each input's own unless given."),
    ] = None,
    overwrite: Overwrite = False,
    max_pixels: Annotated[
        int,
        typer.Option(min=1, help="Refuse inputs with more pixels."),
    ] = 2**26,
    bfloat16: Annotated[
        bool,
        typer.Option(
            "--bfloat16", help="Compute in half precision, on devices that have it."
        ),
    ] = False,
    offline: Offline = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON.")
    ] = False,
) -> None:
    """Upscale pictures. Alpha, 16 bits, EXIF and colour profile are kept."""
    with usage_errors():
        import srgan_jax
        from srgan_jax.images.decode import ImageError
        from srgan_jax.inference import jobs
        from srgan_jax.weights.catalog import DEFAULT_GENERATOR

        weights = weights or DEFAULT_GENERATOR
        dtype = "bfloat16" if bfloat16 else "float32"
        upscaler = srgan_jax.load(weights, tile=tile, dtype=dtype, offline=offline)
    planned, failures = jobs.plan(inputs, out, f".{format}" if format else None)
    records: list[dict[str, Any]] = []
    with progress.Progress(console=notes, transient=True) as bar:
        pictures = bar.add_task("pictures", total=len(planned))
        windows = bar.add_task("")
        for job in planned:
            bar.reset(windows, description=job.source.name)
            start = time.perf_counter()
            try:
                picture = jobs.run(
                    job,
                    upscaler,
                    overwrite=overwrite,
                    max_pixels=max_pixels,
                    progress=lambda done, total: bar.update(
                        windows, completed=done, total=total
                    ),
                )
            except ImageError as error:
                failures.append(str(error))
            else:
                height, width = picture.pixels.shape[:2]
                seconds = round(time.perf_counter() - start, 3)
                records.append(
                    {
                        "input": str(job.source),
                        "output": str(job.target),
                        "width": width,
                        "height": height,
                        "seconds": seconds,
                    }
                )
            bar.advance(pictures)
    if json:
        done = {"weights": weights, "scale": upscaler.scale, "pictures": records}
        typer.echo(json_.dumps(done | {"failures": failures}, indent=2))
    for record in [] if json else records:
        size = f"{record['width']}x{record['height']}"
        notes.print(f"{record['output']}: {size} in {record['seconds']:.1f} s")
    for failure in failures:
        notes.print(f"left out: {failure}")
    if failures:
        raise typer.Exit(1)


def export(
    to: Annotated[
        Literal["stablehlo", "onnx"],
        typer.Option(help="StableHLO for JAX, XLA and IREE; ONNX for the others."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="As for upscale.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    offline: Offline = False,
) -> None:
    """Write a generator as one file for other runtimes, for pictures of any size.

    LR in [0, 1] to SR in [-1, 1], in float32; `[batch, h, w, 3]` in StableHLO and
    `[batch, 3, h, w]` in ONNX. The file carries the generator's settings.
    """
    with usage_errors():
        if out.exists() and not overwrite:
            raise ValueError(f"{out} exists; --overwrite replaces it")
        from srgan_jax.inference import export as exports
        from srgan_jax.weights import store
        from srgan_jax.weights.catalog import DEFAULT_GENERATOR

        generator = store.load_generator(weights or DEFAULT_GENERATOR, offline=offline)
        write = {"stablehlo": exports.to_stablehlo, "onnx": exports.to_onnx}[to]
        exports.save(out, write(*generator))
