"""`srgan-jax export`: writes a generator as one file for other runtimes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from srgan_jax.cli.errors import clean_termination, usage_errors


def export(
    to: Annotated[
        Literal["stablehlo", "onnx"],
        typer.Option(help="StableHLO for JAX, XLA and IREE; ONNX for other runtimes."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Catalog name or generator file; the default is that of `upscale`.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Forbid downloads.")
    ] = False,
) -> None:
    """Write a generator as one file for other runtimes, for images of any size.

    The exported function maps LR in [0, 1] to SR in [-1, 1], in float32. Images are
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
        from srgan_jax.inference import export as exports
        from srgan_jax.weights import store
        from srgan_jax.weights.catalog import DEFAULT_GENERATOR

        generator = store.load_generator(weights or DEFAULT_GENERATOR, offline=offline)
        write = {"stablehlo": exports.to_stablehlo, "onnx": exports.to_onnx}[to]
        exports.save(out, write(*generator))
