"""Scores, and the tables they are read in: terminal, Markdown, CSV and JSON.

Every row names its protocol. Files are written whole or not at all.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from rich.console import JustifyMethod
from rich.table import Table

from srgan_jax.paths import replacing


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one image; `lpips` is None where it was not asked for."""

    image: str
    psnr: float
    ssim: float
    lpips: float | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """Scores of one generator on one data set under one protocol."""

    weights: str
    dataset: str
    protocol: str
    per_image: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        """The mean over images of each score, as every paper takes it."""
        distances = [s.lpips for s in self.per_image if s.lpips is not None]
        return Score(
            image="mean",
            psnr=float(np.mean([score.psnr for score in self.per_image])),
            ssim=float(np.mean([score.ssim for score in self.per_image])),
            lpips=float(np.mean(distances)) if distances else None,
        )


def terminal(results: Sequence[Result], lpips: str | None = None) -> Table:
    """The mean scores for a `rich` console; `lpips` names the network behind LPIPS."""
    header, rows = _rows(results, lpips)
    table = Table()
    for index, name in enumerate(header):
        justify: JustifyMethod = "left" if index < 3 else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(results: Sequence[Result], lpips: str | None = None) -> str:
    """The mean scores as a Markdown table."""
    header, rows = _rows(results, lpips)
    rule = ["---"] * 3 + ["---:"] * (len(header) - 3)
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows])


def as_csv(results: Sequence[Result]) -> str:
    """Every image's scores, one line each, and after them the line of their mean."""
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
    """The results as a JSON list; an infinite PSNR (equal images) becomes null."""
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
    finite = json.loads(json.dumps(records), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, ensure_ascii=False) + "\n"


def write(
    results: Sequence[Result],
    directory: str | os.PathLike[str],
    lpips: str | None = None,
) -> None:
    """Writes `results.md`, `results.csv` and `results.json` into `directory`."""
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.md", markdown(results, lpips)),
        ("results.csv", as_csv(results)),
        ("results.json", as_json(results)),
    ):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _rows(
    results: Sequence[Result], lpips: str | None
) -> tuple[list[str], list[list[str]]]:
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
