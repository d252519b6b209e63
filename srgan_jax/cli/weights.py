"""`srgan-jax weights list | fetch | show | convert`.

Figures go to standard output, everything else to standard error.
"""

import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srgan_jax.cli.errors import usage_errors
from srgan_jax.console import figures, notes

app = typer.Typer(
    help="Pretrained weights, and files of weights.", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Offline = Annotated[bool, typer.Option("--offline", help="Refuse to download.")]


@app.command("list", epilog="Example: srgan-jax weights list --json")
def list_(json: Json = False) -> None:
    """List the weights that have a name, with what is known of them."""
    from srgan_jax.weights.catalog import CATALOG

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
            _figures(record["scores"]),
        )
    figures().print(table)


@app.command(epilog="Example: srgan-jax weights fetch krasserm-srgan vgg19")
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    offline: Offline = False,
) -> None:
    """Download weights, where they are not in the cache, and print their paths."""
    with usage_errors():
        from srgan_jax.weights import store

        for name in names:
            typer.echo(store.fetch(name, offline=offline))


@app.command(epilog="Example: srgan-jax weights show runs/srgan/generator.safetensors")
def show(
    name_or_file: Annotated[str, typer.Argument(metavar="NAME_OR_FILE")],
    json: Json = False,
) -> None:
    """Show what weights are: settings, size, licence, where they come from."""
    with usage_errors():
        from srgan_jax.weights import files
        from srgan_jax.weights.catalog import CATALOG

        if name_or_file in CATALOG:
            record = _record(name_or_file)
        else:
            record = _contents(files.read(Path(name_or_file)))
            record["metadata"] = files.metadata(Path(name_or_file))
    if json:
        typer.echo(json_.dumps(record, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for field, value in record.items():
        table.add_row(field, _text(value))
    Console(highlight=False).print(table)


@app.command(
    epilog="Example: srgan-jax weights convert SRGAN_x4.pth.tar srgan.safetensors"
)
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC")],
    target: Annotated[Path, typer.Argument(metavar="DST")],
    ema: Annotated[
        bool, typer.Option(help="Take a checkpoint's moving average.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing DST.")] = False,
) -> None:
    """Convert weights of other projects to a file of ours, or ours to PyTorch's.

    Reads Lornatang/SRGAN-PyTorch (G, D), sgrvinod's tutorial (G, D), torchvision's
    VGG19, Keras's VGG19 and krasserm/super-resolution (G, D); writes .safetensors, or
    Lornatang's state dict where DST ends in .pth.
    """
    with usage_errors():
        from srgan_jax.weights import files

        if target.exists() and not overwrite:
            raise ValueError(f"{target} exists; give --overwrite to replace it")
        record = _contents(files.convert(source, target, ema=ema))
    notes.print(
        f"{target}: {record['kind']} of {record['parameters']:,} parameters, "
        f"{_figures(record['settings'])}"
    )


def _record(name: str) -> dict[str, Any]:
    """What the catalog says of a name."""
    from srgan_jax.weights import store
    from srgan_jax.weights.catalog import CATALOG

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
        "path": str(store.cache_dir() / entry.file),
        "carriers": [str(carrier) for carrier in entry.carriers],
        "sha256": entry.sha256,
        "settings": dict(entry.settings)
        or {"preprocessing": entry.preprocessing or "none"},
    }


def _contents(weights: Any) -> dict[str, Any]:
    from srgan_jax.weights import layout

    leaves = dict(layout.flatten(weights.variables["params"]))
    return {
        "kind": weights.kind,
        "parameters": sum(leaf.size for leaf in leaves.values()),
        "settings": weights.settings,
    }


def _text(value: Any) -> str:
    match value:
        case dict():
            return _figures(value)
        case list():
            return "\n".join(value)
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)


def _figures(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{k}: {_figures(v)}" if isinstance(v, dict) else f"{k} {v}"
        for k, v in values.items()
    )
