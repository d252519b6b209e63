"""`srgan-jax upscale`: images from files to files.

Figures go to standard output, everything else to standard error.
"""

import json as json_
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from srgan_jax.cli.errors import clean_termination, usage_errors
from srgan_jax.console import notes, progress_bars

if TYPE_CHECKING:
    from srgan_jax.images.encode import Settings
    from srgan_jax.inference.jobs import Batch
    from srgan_jax.inference.sizes import Size
    from srgan_jax.inference.upscaler import Upscaler

KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "avif": "AVIF", "tiff": "TIFF"}


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Images, folders of images, or - for one image."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER_OR_FILE",
            help="Folder for the images, below which input folders are mirrored; for "
            "one image, a file, or - for standard output.",
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
    scale: Annotated[
        float | None,
        typer.Option(help="Output over input, at most the network's, such as 2.5."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=1, help="In pixels; alone, it keeps the shape."),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(min=1, help="In pixels; alone, it keeps the shape."),
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(min=1, help="Longest side of an output in pixels."),
    ] = None,
    format: Annotated[
        Literal["png", "jpg", "webp", "avif", "tiff"] | None,
        typer.Option(help="Of the outputs; each input's own unless given."),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Of JPEG and WebP (95 unless given) and AVIF (90 unless given).",
        ),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep every sample, in WebP too.")
    ] = False,
    suffix: Annotated[
        str, typer.Option(help="Text between an output's name and its ending.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Count outputs that exist as done.")
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(min=1, help="Refuse inputs with more pixels."),
    ] = 2**26,
    padding: Annotated[
        Literal["symmetric", "zero"],
        typer.Option(
            help="What the network sees beyond the borders of an image: its mirror "
            "image, or zeros, which leave marks there."
        ),
    ] = "symmetric",
    bfloat16: Annotated[
        bool,
        typer.Option(
            "--bfloat16", help="Compute in half precision, on devices that have it."
        ),
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Refuse to download.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON.")
    ] = False,
) -> None:
    """Upscale images. Alpha, 16 bits, metadata and colours are kept."""
    with usage_errors():
        from srgan_jax.images.encode import Settings
        from srgan_jax.inference import jobs
        from srgan_jax.inference.sizes import Size
        from srgan_jax.weights.catalog import DEFAULT_GENERATOR

        size = Size(scale, width, height, max_side)
        settings = Settings(quality, lossless)
        kind = KINDS[format] if format else None
        _check(size, settings, kind, out, suffix)
        if overwrite and skip_existing:
            raise ValueError("--overwrite and --skip-existing contradict each other")
        if json and out == jobs.STANDARD:
            raise ValueError("--json and the image cannot share standard output")
        batch = jobs.prepare(
            inputs,
            out,
            kind=kind,
            suffix=suffix,
            overwrite=overwrite,
            skip_existing=skip_existing,
            max_pixels=max_pixels,
        )
        weights = weights or DEFAULT_GENERATOR
        upscaler = None
        if batch.jobs:
            import srgan_jax

            dtype = "bfloat16" if bfloat16 else "float32"
            upscaler = srgan_jax.load(
                weights, tile=tile, dtype=dtype, padding=padding, offline=offline
            )
    total = len(batch.jobs) + len(batch.failures)
    for failure in batch.failures:
        notes.print(f"left out: {failure}")
    if batch.skipped:
        notes.print(f"skipped, as they exist: {len(batch.skipped)}")
    records: list[dict[str, Any]] = []
    if upscaler:
        with clean_termination():
            records = _run(batch, upscaler, size, settings, max_pixels)
    if json:
        done = {
            "weights": weights,
            "scale": upscaler.scale if upscaler else None,
            "pictures": records,
            "skipped": [str(path) for path in batch.skipped],
            "failures": batch.failures,
        }
        typer.echo(json_.dumps(done, indent=2))
    if batch.failures:
        if total > 1:
            notes.print(f"{len(batch.failures)} of {total} could not be upscaled")
        raise typer.Exit(1)


def _check(
    size: "Size", settings: "Settings", kind: str | None, out: str, suffix: str
) -> None:
    """Refuses options that contradict each other."""
    from pathlib import Path

    from srgan_jax.images.formats import BY_SUFFIX, FORMATS

    sides = size.width is not None or size.height is not None
    if (size.scale is not None) + (size.max_side is not None) + sides > 1:
        raise ValueError("give one of --scale, --max-side, and --width with --height")
    if size.scale is not None and not 0 < size.scale < float("inf"):
        raise ValueError(f"--scale is {size.scale:g}; expected a positive number")
    if suffix and set(suffix) & set("/\\\0"):
        raise ValueError(f"--suffix is {suffix!r}; expected a part of a file's name")
    if settings.lossless and settings.quality is not None:
        raise ValueError("--lossless and --quality contradict each other")
    kind = kind or BY_SUFFIX.get(Path(out).suffix.lower())
    if kind and settings.quality is not None and not FORMATS[kind].lossy:
        raise ValueError(f"{kind} takes no --quality: it keeps every sample")
    if kind and settings.lossless and not FORMATS[kind].lossless:
        raise ValueError(f"{kind} is never lossless; choose png, webp or tiff")


def _run(
    batch: "Batch",
    upscaler: "Upscaler",
    size: "Size",
    settings: "Settings",
    max_pixels: int,
) -> list[dict[str, Any]]:
    """Does all jobs; a record for each that succeeds, a failure for each other."""
    from srgan_jax.images.image import ImageError
    from srgan_jax.inference import jobs

    records: dict[jobs.Job, dict[str, Any]] = {}
    with progress_bars() as bars:
        images = bars.add_task("images", total=len(batch.jobs))
        windows = bars.add_task("")
        results = jobs.run(
            batch.jobs,
            upscaler,
            size=size,
            settings=settings,
            max_pixels=max_pixels,
            progress=lambda name, done, total: bars.update(
                windows, description=name, completed=done, total=total
            ),
        )
        for number, (job, image, seconds) in enumerate(results, 1):
            bars.advance(images)
            if isinstance(image, ImageError):
                batch.failures.append(str(image))
                notes.print(f"left out: {image}")
                continue
            rows, columns = image.pixels.shape[:2]
            records[job] = {
                "input": str(job.source or jobs.STANDARD),
                "output": str(job.target or jobs.STANDARD),
                "width": columns,
                "height": rows,
                "seconds": round(seconds, 3),
                "notes": list(image.notes),
            }
            done = f"{columns}x{rows} in {seconds:.1f} s"
            notes.print(f"{number}/{len(batch.jobs)} {job.target_name}: {done}")
            if image.notes:
                notes.print(f"note: {job.source_name}: {'; '.join(image.notes)}")
    return [records[job] for job in batch.jobs if job in records]
