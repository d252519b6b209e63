"""`srgan-jax upscale`: upscales image files.

Results go to standard output, everything else to standard error.
"""

import json as json_
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from srgan_jax import paths
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
            metavar="INPUT...",
            help="Images, folders of images, or - for one image on standard input.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER_OR_FILE",
            help="Folder for the outputs, with the structure of the input folders. For "
            "one image also a file, or - for standard output.",
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Catalog name or generator file. The default is the catalog's best "
            "perceptual generator.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side in LR pixels of the tiles computed at a time. Smaller tiles "
            "take less memory and more time; the result is the same.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Output size over input size, at most the network's, such as 2.5."
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            min=1, help="Output width in pixels. Alone, it keeps the aspect ratio."
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            min=1, help="Output height in pixels. Alone, it keeps the aspect ratio."
        ),
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(min=1, help="Longest side of an output in pixels."),
    ] = None,
    format: Annotated[
        Literal["png", "jpg", "webp", "avif", "tiff"] | None,
        typer.Option(help="Output format. The default is each input's own format."),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Quality of JPEG and WebP (default 95) and AVIF (default 90).",
        ),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Compress without loss, in WebP too.")
    ] = False,
    suffix: Annotated[
        str, typer.Option(help="Text to add to output names before the extension.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip inputs whose output exists.")
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
            "--bfloat16", help="Compute in bfloat16, on devices that support it."
        ),
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Forbid downloads.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON record of the outputs.")
    ] = False,
) -> None:
    """Upscale images. Alpha, 16 bits, metadata and colours are kept."""
    with usage_errors():
        from srgan_jax.images.encode import Settings
        from srgan_jax.images.formats import FORMATS
        from srgan_jax.inference import jobs
        from srgan_jax.inference.sizes import Size
        from srgan_jax.weights.catalog import DEFAULT_GENERATOR

        for place in (*inputs, out):
            paths.parse_local(place)
        size = Size(scale, width, height, max_side)
        settings = Settings(quality, lossless)
        kind = KINDS[format] if format else None
        _check(size, settings, kind, out, suffix)
        if overwrite and skip_existing:
            raise ValueError(
                "--overwrite and --skip-existing contradict each other: give one"
            )
        if json and out == jobs.STANDARD:
            raise ValueError(
                "--json and the image cannot share standard output: give --out a file"
            )
        batch = jobs.prepare(
            inputs,
            out,
            kind=kind,
            suffix=suffix,
            overwrite=overwrite,
            skip_existing=skip_existing,
            max_pixels=max_pixels,
        )
        lossy = any(FORMATS[job.kind].lossy for job in batch.jobs)
        if quality is not None and batch.jobs and not lossy:
            raise ValueError("--quality is for JPEG, WebP and AVIF; choose a --format")
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
        notes.print(f"skipped {len(batch.skipped)} outputs that exist")
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
        raise ValueError(
            "--scale, --max-side and --width/--height contradict each other: give one"
        )
    if size.scale is not None and not 0 < size.scale < float("inf"):
        raise ValueError(f"--scale is {size.scale:g}; expected a positive number")
    if suffix and set(suffix) & set("/\\\0"):
        raise ValueError(f"--suffix is {suffix!r}; expected a part of a file's name")
    if settings.lossless and settings.quality is not None:
        raise ValueError("--lossless and --quality contradict each other: give one")
    kind = kind or BY_SUFFIX.get(Path(out).suffix.lower())
    if kind and settings.quality is not None and not FORMATS[kind].lossy:
        raise ValueError(f"{kind} is lossless and takes no --quality: leave it out")
    if kind and settings.lossless and not FORMATS[kind].lossless:
        raise ValueError(f"{kind} cannot be lossless; choose png, webp or tiff")


def _run(
    batch: "Batch",
    upscaler: "Upscaler",
    size: "Size",
    settings: "Settings",
    max_pixels: int,
) -> list[dict[str, Any]]:
    """Runs all jobs; returns a record of each that succeeds, notes other failures."""
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
