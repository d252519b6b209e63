"""`srgan-jax export`: writes a generator as one file for other runtimes."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from srgan_jax import paths
from srgan_jax.cli.errors import clean_termination, usage_errors


def export(
    to: Annotated[
        Literal["stablehlo", "onnx"],
        typer.Option(help="StableHLO for JAX, XLA and IREE; ONNX for other runtimes."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", parser=paths.parse_local, help="File to write."),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Catalog name or generator file; the default is that of `upscale`.",
        ),
    ] = None,
    padding: Annotated[
        Literal["symmetric", "zero"],
        typer.Option(help="Beyond the borders of an image, as for upscale."),
    ] = "symmetric",
    height: Annotated[
        int | None,
        typer.Option(min=1, help="Of the images, in pixels; any unless given."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=1, help="Of the images, in pixels; any unless given."),
    ] = None,
    fp16: Annotated[
        bool,
        typer.Option(
            "--fp16",
            help="Weights and computation in half precision, in ONNX; input and output "
            "stay float32.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Forbid downloads.")
    ] = False,
) -> None:
    """Write a generator as one file for other runtimes.

    The exported function maps RGB in [0, 1] to RGB in [0, 1], in float32. Images are
    `[batch, h, w, 3]` in StableHLO and `[batch, 3, h, w]` in ONNX. The file includes
    the generator's settings.
    """
    with usage_errors(), clean_termination():
        if out.exists() and not overwrite:
            raise ValueError(f"{out} exists; give --overwrite to replace it")
        if not out.parent.is_dir():
            raise ValueError(
                f"{out}: there is no folder {str(out.parent)!r}; create it first"
            )
        if fp16 and to != "onnx":
            raise ValueError("--fp16 needs --to onnx; leave it out for StableHLO")
        from srgan_jax.inference import export as exports
        from srgan_jax.weights import store
        from srgan_jax.weights.catalog import DEFAULT_GENERATOR

        generator = store.load_generator(weights or DEFAULT_GENERATOR, offline=offline)
        write = (
            partial(exports.to_onnx, fp16=fp16)
            if to == "onnx"
            else (exports.to_stablehlo)
        )
        exported = write(*generator, padding=padding, height=height, width=width)
        exports.save(out, exported)
