"""`srgan-jax data preview | prepare`: shows training crops, prepares TFDS datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgan_jax import paths
from srgan_jax.cli.errors import usage_errors
from srgan_jax.console import notes

if TYPE_CHECKING:
    import numpy as np

CROPS, COLUMNS, GAP = 12, 3, 8  # layout of the sheet; the gap is in pixels

app = typer.Typer(help="Inspect the training data.", no_args_is_help=True)


@app.command(epilog="Example: srgan-jax data prepare tfds:div2k")
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="tfds:NAME", help="Dataset of TFDS to prepare.")
    ],
) -> None:
    """Download a TFDS dataset and prepare it in $TFDS_DATA_DIR, also in a bucket."""
    with usage_errors():
        from srgan_jax.data import records

        kind, _, argument = source.partition(":")
        name, _, split = argument.partition(":")
        if kind != "tfds" or not name:
            raise ValueError(f"{source} is not a dataset of TFDS; expected tfds:NAME")
        labels, _ = records.open_records(name, split or "train")
    notes.print(f"{source}: {len(labels):,} images are prepared")


@app.command(
    epilog="Example: srgan-jax data preview --config=configs/srgan.py "
    "--config.data.source=sample --config.data.degradation=photo -o crops.png",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def preview(
    context: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            metavar="FILE[:VARIANT]",
            help="Configuration, as for train.py; --config.field=value sets fields.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            parser=paths.parse_local,
            help="Image to write.",
        ),
    ],
) -> None:
    """Draw a run's first twelve examples: LR, with repeated pixels, beside HR."""
    with usage_errors():
        from srgan_jax.images import encode
        from srgan_jax.images.image import Image

        encode.format_of(output)
        batch = _first_examples(_read(config, context.args))
        encode.write(output, Image(_sheet(batch["lr"], batch["hr"])))
    notes.print(f"preview: {output}")


def _read(config: str, overrides: list[str]) -> Any:
    """Reads the configuration and applies the overrides.

    Raises:
      ValueError: there is no such file, or a field is unknown or of the wrong type.
    """
    from absl import flags
    from ml_collections import config_flags

    from srgan_jax.training import command_line

    values = flags.FlagValues()
    try:
        arguments = command_line.normalise(
            ["preview", f"--config={config}", *overrides]
        )
        config_flags.DEFINE_config_file(
            "config", flag_values=values, sys_argv=arguments
        )
        rest = values(arguments)
        if len(rest) > 1:
            raise ValueError(
                f"{rest[1]} is not an option; set fields with --config.field=value"
            )
        loaded: Any = values["config"].value
        _ = loaded.data  # the configuration is read at its first use
    except (flags.Error, AttributeError, LookupError, OSError, TypeError) as error:
        text = str(error.args[0] if error.args else error).strip()
        if "Traceback" in text:  # the last line of a configuration's trace says why
            text = text.splitlines()[-1]
        raise ValueError(" ".join(text.split())) from error
    return loaded


def _first_examples(config: Any) -> "dict[str, np.ndarray]":
    from srgan_jax.data import pipeline, sources

    settings, scale = config.data, config.generator.scale
    source = sources.open_source(
        settings.source, minimum_size=settings.crop, scale=scale
    )
    batches = pipeline.training_batches(
        source,
        batch_size=CROPS,
        crop=settings.crop,
        scale=scale,
        seed=config.seed,
        flips=settings.flips,
        rotations=settings.rotations,
        exposure=settings.exposure,
        graded=settings.graded,
        border=settings.border,
        degradation=settings.degradation,
        on_skip=lambda _, reason: notes.print(f"skipped: {reason}"),
    )
    return next(batches)


def _sheet(lr: "np.ndarray", hr: "np.ndarray") -> "np.ndarray":
    """Draws the examples in three columns, uint8 `[height, width, 3]`."""
    import numpy as np

    side = hr.shape[1]
    lr = lr.repeat(side // lr.shape[1], axis=1).repeat(side // lr.shape[2], axis=2)
    rows = -(-len(hr) // COLUMNS)
    width = 2 * side + GAP  # an example and the gap to the next one
    sheet = _blank(rows * (side + GAP) - GAP, COLUMNS * width - GAP)
    for index, images in enumerate(zip(lr, hr, strict=True)):
        row, column = divmod(index, COLUMNS)
        top, left = row * (side + GAP), column * width
        sheet[top : top + side, left : left + 2 * side] = np.hstack(images)
    return sheet


def _blank(height: int, width: int) -> "np.ndarray":
    import numpy as np

    return np.full((height, width, 3), 255, np.uint8)
