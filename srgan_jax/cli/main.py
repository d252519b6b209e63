"""The command line `srgan-jax COMMAND`; each command is a thin layer over the API.

Commands import heavy modules only when they run, so `--help` answers at once. Results
go to standard output, everything else to standard error. Exit status: 0 if all is done,
1 if some inputs failed, 2 for wrong usage.
"""

from typing import Annotated

import typer

import srgan_jax
from srgan_jax.cli import data, weights
from srgan_jax.cli.demo import demo
from srgan_jax.cli.evaluate import evaluate
from srgan_jax.cli.export import export
from srgan_jax.cli.pod import pod
from srgan_jax.cli.upscale import upscale

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(srgan_jax.__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Photo-realistic single-image super-resolution (SRGAN) on JAX."""


app.command(epilog="Example: srgan-jax upscale holiday/ portrait.png -o upscaled")(
    upscale
)
app.command(
    epilog="Example: srgan-jax evaluate --weights krasserm-srresnet "
    "--weights krasserm-srgan --data Set5 --lpips alex --out results"
)(evaluate)
app.command(epilog="Example: srgan-jax demo --max-megapixels 2")(demo)
app.command(epilog="Example: srgan-jax export --to onnx -o srgan.onnx")(export)
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")
app.command(
    epilog="Example: srgan-jax pod --config=configs/srgan.py --topology=v5e:16x16"
)(pod)
