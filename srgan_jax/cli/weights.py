"""`srgan-jax weights list | fetch | show | convert | export | blend`.

Results go to standard output, everything else to standard error.
"""

import json as json_
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from srgan_jax import paths
from srgan_jax.cli.errors import usage_errors
from srgan_jax.console import figures, notes
from srgan_jax.paths import AnyPath

app = typer.Typer(
    help="List, download, inspect, convert and blend weights.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Offline = Annotated[bool, typer.Option("--offline", help="Forbid downloads.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a file that exists.")
]


@app.command("list", epilog="Example: srgan-jax weights list --json")
def list_(json: Json = False) -> None:
    """List the weights of the catalog, which commands accept by name."""
    from srgan_jax.weights.catalog import CATALOG

    with usage_errors():
        records = [_record(name) for name in CATALOG]
    if json:
        typer.echo(json_.dumps(records, indent=2))
        return
    table = Table("name", "kind", "scale", "MB", "licence", "cached", "scores")
    for record in records:
        table.add_row(
            record["name"],
            record["kind"],
            f"x{record['scale']}" if "scale" in record else "",
            f"{record['size'] / 1e6:.0f}",
            record["licence"],
            "yes" if record["cached"] else "no",
            _joined(record["scores"]),
        )
    figures().print(table)


@app.command(epilog="Example: srgan-jax weights fetch krasserm-srgan vgg19")
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    offline: Offline = False,
) -> None:
    """Download weights that are not cached yet, and print the paths of all."""
    with usage_errors():
        from srgan_jax.weights import store

        for name in names:
            typer.echo(store.fetch(name, offline=offline))


@app.command(epilog="Example: srgan-jax weights show runs/srgan/generator.safetensors")
def show(
    name_or_file: Annotated[str, typer.Argument(metavar="NAME_OR_FILE")],
    json: Json = False,
) -> None:
    """Show the settings, size, licence and source of weights."""
    with usage_errors():
        from srgan_jax.weights import files
        from srgan_jax.weights.catalog import CATALOG

        path = paths.parse(name_or_file)
        if name_or_file not in CATALOG and (path.suffix or path.exists()):
            record = _contents(files.read(path)) | {"metadata": files.metadata(path)}
        else:
            record = _record(name_or_file)
    if json:
        typer.echo(json_.dumps(record, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for field, value in record.items():
        table.add_row(field, Text(_text(value)))  # not markup
    figures().print(table)


@app.command(
    epilog="Example: srgan-jax weights convert SRGAN_x4.pth.tar srgan.safetensors"
)
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC")],
    target: Annotated[str, typer.Argument(metavar="DST")],
    ema: Annotated[
        bool, typer.Option("--ema", help="Read a checkpoint's moving average.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="Type in which a .safetensors file stores numbers."),
    ] = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Convert weights of other projects to .safetensors, or ours to PyTorch's format.

    SRC may hold a generator of Lornatang/SRGAN-PyTorch, sgrvinod's tutorial,
    leftthomas/SRGAN or krasserm/super-resolution, a discriminator of these except
    leftthomas's, or VGG19 of torchvision or Keras. If DST ends in .pth, it is written
    as Lornatang's state dict.
    """
    with usage_errors():
        from srgan_jax.weights import files

        place = _target(target, overwrite)
        weights = files.convert(paths.parse(source), place, ema=ema, dtype=dtype)
    _report(place, weights.kind, weights.settings, weights.variables)


@app.command(epilog="Example: srgan-jax weights export runs/srgan --step 50000")
def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Directory of a training run.")
    ],
    step: Annotated[
        int | None, typer.Option(help="Step of the checkpoint; default: the newest.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write; default: RUN/generator-STEP.safetensors.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the averaged generator of a training run's checkpoint to a file."""
    with usage_errors():
        from srgan_jax.training import checkpoint
        from srgan_jax.weights import store

        checkpoint_name = "latest" if step is None else str(step)
        workdir = paths.parse(run)
        default = workdir / f"generator-{checkpoint_name}.safetensors"
        target = _target(out or default, overwrite, ".safetensors")
        settings, variables = checkpoint.load_generator(workdir, step)
        origin = {"run": workdir.resolve().name, "checkpoint": checkpoint_name}
        store.save_generator(target, settings, variables, **origin)
    _report(target, "generator", settings, variables)


@app.command(
    epilog="Example: srgan-jax weights blend krasserm-srresnet krasserm-srgan "
    "--alpha 0.8 -o blend.safetensors"
)
def blend(
    a: Annotated[str, typer.Argument(metavar="A", help="Catalog name or file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Catalog name or file.")],
    alpha: Annotated[float, typer.Option(help="Share of B, from 0 to 1.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="File to write.")
    ],
    overwrite: Overwrite = False,
    offline: Offline = False,
) -> None:
    """Interpolate between two generators: (1 - alpha) A + alpha B.

    If A is an SRResNet and B the SRGAN trained from it, a larger alpha gives a better
    LPIPS and a lower PSNR.
    """
    with usage_errors():
        from srgan_jax.weights import blend as blending
        from srgan_jax.weights import store

        target = _target(out, overwrite, ".safetensors")
        one, other = (store.load_generator(name, offline=offline) for name in (a, b))
        settings, variables = one[0], blending.blend(one, other, alpha)
        store.save_generator(target, settings, variables, blend=[a, b], alpha=alpha)
    _report(target, "generator", settings, variables)


def _target(file: str | AnyPath, overwrite: bool, suffix: str = "") -> AnyPath:
    """Returns the path of a file to write, and checks that it may be written."""
    target = paths.parse(file)
    if not target.name.endswith(suffix):
        raise ValueError(f"{target}: expected a name that ends in {suffix}")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; give --overwrite to replace it")
    return target


def _report(
    target: AnyPath,
    kind: str,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
) -> None:
    parameters = _parameters(variables)
    notes.print(f"{target}: {kind} of {parameters:,} parameters, {_joined(settings)}")


def _record(name: str) -> dict[str, Any]:
    """Returns what the catalog says about a name."""
    from srgan_jax.weights import store
    from srgan_jax.weights.catalog import CATALOG

    path = store.file_of(name)
    entry = CATALOG[name]
    scale = {"scale": entry.settings["scale"]} if "scale" in entry.settings else {}
    return {
        "name": name,
        "kind": entry.kind,
        "summary": entry.summary,
        **scale,
        "size": entry.size,
        "licence": entry.licence,
        "scores": {k: dict(v) for k, v in entry.scores.items()},
        "cached": store.is_cached(name),
        "path": str(path),
        "carriers": [str(m) for m in entry.mirrors] or ["this package"],
        "sha256": entry.sha256,
        "settings": dict(entry.settings)
        or {"preprocessing": entry.preprocessing or "none"},
    }


def _contents(weights: Any) -> dict[str, Any]:
    return {
        "kind": weights.kind,
        "parameters": _parameters(weights.variables),
        "settings": weights.settings,
    }


def _parameters(variables: Mapping[str, Any]) -> int:
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _text(value: Any) -> str:
    match value:
        case dict():
            return _joined(value)
        case list():
            return "\n".join(value)
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k}: {_joined(v)}" if isinstance(v, dict) else f"{k} {v}"
        for k, v in values.items()
    )
