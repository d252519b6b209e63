"""Writes a benchmark's results: tables, plots, figures and a page with a slider."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from srgan_jax.evaluation import figures, page, plots, tables
from srgan_jax.evaluation.benchmark import Report, quality
from srgan_jax.evaluation.rows import BUILT_IN, Blend
from srgan_jax.evaluation.scores import Score
from srgan_jax.paths import replacing

EXTREMES = 10  # number of worst and of best images that are shown

Key = tuple[str, str]  # data set, image


def prepare(folder: Path) -> None:
    """Makes the folder for `write`, and finds out whether files can be written there.

    Raises:
      ValueError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"results cannot be written to {folder}: {error.strerror}"
        ) from error


def write(
    report: Report,
    directory: str | os.PathLike[str],
    *,
    subject: str,
    network: str | None = None,
    note: str = "",
    insets: Mapping[str, figures.Region | None] | None = None,
    blends: Mapping[str, Blend] | None = None,
) -> None:
    """Writes all results of a benchmark.

    `results.md`, `.csv` and `.json` are the tables. `results.html` has a before/after
    slider over the worst and best images; `worst/` and `best/` hold figures of them.
    `perception-distortion-SET.svg` is drawn if LPIPS was measured.

    Args:
      report: the report of a benchmark with `extremes`.
      directory: folder to write to, created if it is missing.
      subject: the row that ranks the images.
      network: the network of LPIPS, or None if it was not measured.
      note: text beneath the tables.
      insets: maps images that get their own figure to the magnified region; see
        `figures.insets`.
      blends: maps interpolated generators to the two they lie between; see
        `rows.find_blends`. The plot joins them with a line.

    Raises:
      ValueError: a region is not inside its image.
    """
    folder = Path(directory)
    tables.write(report.results, folder, network, note)
    if not report.results:
        return
    plotted = {} if network is None else _plots(report, network, blends or {})
    for dataset, plot in plotted.items():
        path = folder / f"perception-distortion-{_file_name(dataset)}.svg"
        with replacing(path) as unfinished:
            unfinished.write_text(plot, encoding="utf-8")
    ranked = _rank(report, subject)
    worst = ranked[: min(EXTREMES, -(-len(ranked) // 2))]
    best = ranked[::-1][: min(EXTREMES, len(ranked) // 2)]
    ranking = f"{'PSNR' if network is None else 'LPIPS'} of {subject}"
    sections = [
        ("", page.table(*tables.mean_rows(report.results, network))),
        *([("", page.paragraph(note))] if note else []),
        ("Images", _comparison(report, worst, best, ranking)),
    ]
    if plotted:
        sections += [("Perception and distortion", page.side_by_side(plotted.values()))]
    page.write(folder / "results.html", "Results", sections)
    for place, keys in (("worst", worst), ("best", best)):
        for number, key in enumerate(keys, 1):
            name = f"{number:02}-{_file_name('-'.join(key))}.png"
            _write_figure(report, key, folder / place / name, None)
    for dataset, image in report.kept:
        if insets and image in insets:
            # Sub-folders of the image are kept, so that every file name is unique.
            path = folder / f"comparison-{_file_name(dataset)}-{image}.png"
            _write_figure(report, (dataset, image), path, insets[image])


def _plots(report: Report, network: str, blends: Mapping[str, Blend]) -> dict[str, str]:
    """Draws a perception-distortion plot per data set, under the first protocol."""
    protocol = report.results[0].protocol
    drawn = {}
    for dataset in dict.fromkeys(result.dataset for result in report.results):
        points = {
            result.weights: plots.Point(
                _label(result.weights), result.mean.psnr, result.mean.lpips
            )
            for result in report.results
            if (result.dataset, result.protocol) == (dataset, protocol)
            and result.mean.lpips is not None
            and np.isfinite(result.mean.psnr)
        }
        if not points:  # flat images, which interpolation reconstructs exactly
            continue
        drawn[dataset] = plots.scatter(
            list(points.values()),
            x_label=f"PSNR (dB), {protocol}, {dataset}",
            y_label=f"LPIPS ({network})",
            lines=_interpolations(points, blends),
        )
    return drawn


def _interpolations(
    points: Mapping[str, plots.Point], blends: Mapping[str, Blend]
) -> list[list[plots.Point]]:
    """Returns a line per pair of generators, from one over the blends to the other."""
    lines = []
    for a, b in dict.fromkeys((blend.a, blend.b) for blend in blends.values()):
        alphas = {a: 0.0, b: 1.0}
        alphas |= {n: blend.alpha for n, blend in blends.items() if blend[:2] == (a, b)}
        names = sorted(alphas, key=lambda name: alphas[name])
        lines.append([points[name] for name in names if name in points])
    return lines


def _rank(report: Report, subject: str) -> list[Key]:
    """Returns the images ordered from the subject's worst score to its best."""
    protocol = report.results[0].protocol
    found = {
        (result.dataset, score.image): quality(score)
        for result in report.results
        if (result.weights, result.protocol) == (subject, protocol)
        for score in result.per_image
    }
    return sorted(found, key=lambda key: found[key])


def _comparison(
    report: Report, worst: Sequence[Key], best: Sequence[Key], ranking: str
) -> str:
    """Returns the slider's HTML; the images' names include their ranks."""
    names = {key: f"worst {i}: {' / '.join(key)}" for i, key in enumerate(worst, 1)}
    names |= {key: f"best {i}: {' / '.join(key)}" for i, key in enumerate(best, 1)}
    names |= {key: " / ".join(key) for key in report.kept if key not in names}
    images = {names[key]: report.kept[key] for key in names}
    captions = {
        (names[key], row): score.caption()
        for (key, row), score in _scores(report).items()
        if key in names
    }
    note = (
        f"Images are ranked by {ranking}. PSNR and SSIM beneath an image follow "
        f"protocol {report.results[0].protocol}. All scores were computed on whole, "
        "uncompressed images."
    )
    return page.comparison(images, captions) + page.paragraph(note)


def _write_figure(
    report: Report, key: Key, path: Path, inset: figures.Region | None
) -> None:
    """Writes a figure of bicubic, the rows that are not built in, and the original."""
    images, scores = report.kept[key], _scores(report)
    protocol = report.results[0].protocol
    panels = []
    for row in ("bicubic", *(row for row in images if row not in BUILT_IN)):
        score = scores.get((key, row))
        caption = score.caption() if score else f"PSNR / SSIM, {protocol}"
        panels.append((_label(row), images[row], caption))
    figures.comparison(panels, path, inset=inset)


def _scores(report: Report) -> dict[tuple[Key, str], Score]:
    """Returns the score of each image in each row under the first protocol."""
    protocol = report.results[0].protocol
    return {
        ((result.dataset, score.image), result.weights): score
        for result in report.results
        if result.protocol == protocol
        for score in result.per_image
    }


def _label(weights: str) -> str:
    """Returns the file's name, with the run's name if it is a run's generator."""
    path = Path(weights)
    name = path.name.removesuffix(".safetensors")
    if path.suffix and name.startswith("generator"):
        run = path.absolute().parent.name
        return f"{run} {name.removeprefix('generator').lstrip('-')}".rstrip()
    return name


def _file_name(text: str) -> str:
    """Replaces characters that file names should not contain."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")
