"""Tables of scores for terminals and in Markdown, CSV and JSON.

Every row names its protocol.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table

from srgan_jax.evaluation.scores import Result
from srgan_jax.paths import replacing


def terminal(
    results: Sequence[Result], lpips: str | None = None, note: str = ""
) -> Table:
    """Returns the mean scores as a table for a `rich` console.

    Args:
      results: the results; each becomes one row.
      lpips: the network of the LPIPS column; None leaves the column out.
      note: text beneath the table.
    """
    header, rows = mean_rows(results, lpips)
    table = Table(caption=note or None, caption_justify="left")
    for index, name in enumerate(header):
        justify: JustifyMethod = "left" if index < 3 else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(
    results: Sequence[Result], lpips: str | None = None, note: str = ""
) -> str:
    """Returns the mean scores as a Markdown table; see `terminal`."""
    header, rows = mean_rows(results, lpips)
    rule = ["---"] * 3 + ["---:"] * (len(header) - 3)
    table = "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows])
    return f"{table}\n{note}\n" if note else table


def as_csv(results: Sequence[Result]) -> str:
    """Returns CSV with a line for each image and one for the mean of each result."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "protocol", "weights", "image", "psnr", "ssim", "lpips"]
    )
    for result in results:
        for score in (*result.per_image, result.mean):
            row = dataclasses.astuple(score)
            writer.writerow([result.dataset, result.protocol, result.weights, *row])
    return text.getvalue()


def as_json(results: Sequence[Result]) -> str:
    """Returns the results as a JSON list; an infinite PSNR (equal images) is null."""
    records = [
        {
            "weights": result.weights,
            "dataset": result.dataset,
            "protocol": result.protocol,
            "psnr": result.mean.psnr,
            "ssim": result.mean.ssim,
            "lpips": result.mean.lpips,
            "images": len(result.per_image),
            "per_image": [dataclasses.asdict(score) for score in result.per_image],
        }
        for result in results
    ]
    return finite_json(records)


def finite_json(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns a JSON list in which numbers that are not finite are null."""
    finite = json.loads(json.dumps(records), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, ensure_ascii=False) + "\n"


def write(
    results: Sequence[Result],
    directory: str | os.PathLike[str],
    lpips: str | None = None,
    note: str = "",
) -> None:
    """Writes `results.md`, `results.csv` and `results.json` into a folder."""
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.md", markdown(results, lpips, note)),
        ("results.csv", as_csv(results)),
        ("results.json", as_json(results)),
    ):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def mean_rows(
    results: Sequence[Result], lpips: str | None
) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of the mean scores; see `terminal`."""
    header = ["Dataset", "Protocol", "Weights", "Images", "PSNR (dB)", "SSIM"]
    header += [f"LPIPS ({lpips})"] if lpips else []
    rows = []
    for result in results:
        mean = result.mean
        row = [result.dataset, result.protocol, result.weights]
        row += [str(len(result.per_image)), f"{mean.psnr:.2f}", f"{mean.ssim:.4f}"]
        if lpips:
            row.append("-" if mean.lpips is None else f"{mean.lpips:.4f}")
        rows.append(row)
    return header, rows
