"""Static HTML pages with a before/after slider.

The results of `srgan-jax evaluate` and the report of a training run are such pages. A
page is one file that includes its images and needs no network.
"""

import base64
import io
import json
import os
import string
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srgan_jax.evaluation import figures, plots
from srgan_jax.paths import parse, replacing

QUALITY = 92  # WebP quality of the images inside a page

# The plots of a run's report: maps each axis label to {curve label: metric}.
PLOTS = {
    "content loss": {"content": "content"},
    "adversarial losses": {"G: -log D(SR)": "adversarial", "D": "discriminator"},
    "mean output of D": {"D(HR)": "d_hr", "D(SR)": "d_sr"},
    "PSNR (dB)": {"PSNR": "evaluation_psnr"},
    "SSIM": {"SSIM": "evaluation_ssim"},
    "LPIPS": {"LPIPS": "evaluation_lpips"},
}

Images = Mapping[str, Mapping[str, np.ndarray]]
Captions = Mapping[tuple[str, str], str]

COMPARISON = """<section class="comparison">
<div class="choices">
<label>Image <select class="image"></select></label>
<label>Left <select class="row-left"></select></label>
<label>Right <select class="row-right"></select></label>
<label>Zoom <select class="zoom"><option value="fit">fit</option>
<option value="1">1:1</option><option value="2">2:1</option>
<option value="4">4:1</option></select></label>
</div>
<div class="view"><div class="stage">
<img class="right" alt="right image" draggable="false">
<img class="left" alt="left image" draggable="false">
<div class="edge"></div></div></div>
<div class="under"><input type="range" class="position" min="0" max="100" step="0.5"
 aria-label="where the left image ends">
<div class="captions"><span class="of-left"></span><span class="of-right"></span></div>
</div>
<script type="application/json">$data</script>
</section>
"""


def write(
    path: str | os.PathLike[str], title: str, sections: Sequence[tuple[str, str]]
) -> None:
    """Writes a page.

    Args:
      path: the HTML file.
      title: title of the page, plain text.
      sections: heading (plain text, or empty for none) and HTML of each section.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    for heading, content in sections:
        body += [f"<h2>{escape(heading)}</h2>" if heading else "", content]
    template = string.Template(
        Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    )
    text = template.substitute(title=escape(title), body="\n".join(body))
    path = parse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def comparison(images: Images, captions: Captions | None = None) -> str:
    """Returns the HTML of a slider between any two rows of any image.

    Large images are cropped to the part where the rows differ most, see
    `figures.crop_large`.

    Args:
      images: maps image name to row to uint8 `[height, width, 3]`; all rows of an
        image have one size.
      captions: maps `(image, row)` to the text beneath it.
    """
    captions = captions or {}
    data = {
        name: {
            row: {
                "source": _data_uri(pixels),
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "caption": captions.get((name, row), ""),
            }
            for row, pixels in figures.crop_large(rows).items()
        }
        for name, rows in images.items()
    }
    note = (
        f"Images on this page are compressed (WebP, quality {QUALITY}). Images with a "
        f"side above {figures.LONGEST_SIDE} pixels are cropped to the part where the "
        "rows differ most."
    )
    text = json.dumps(data).replace("<", "\\u003c")  # a name may hold "</script>"
    return string.Template(COMPARISON).substitute(data=text) + paragraph(note)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns the HTML of a table of plain text; an empty header is left out."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n"
        for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def paragraph(text: str) -> str:
    """Returns the HTML of a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def side_by_side(drawings: Iterable[str]) -> str:
    """Returns the HTML of SVG plots, side by side where there is room."""
    drawn = "".join(f"<figure>{plot}</figure>" for plot in drawings)
    return f'<div class="plots">{drawn}</div>'


def run_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    metrics: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, str],
    images: Images,
) -> None:
    """Writes the report of a training run.

    Args:
      path: the HTML file.
      title: plain text, such as the run's name.
      metrics: the lines of `metrics.jsonl`, in the order of steps.
      summary: the content of `summary.json`.
      config: the run's configuration, nested or flat.
      environment: facts on the machine and software, such as versions and devices.
      images: maps image name to row (`bicubic`, `SRResNet`, ..., `original`) to pixels.
    """
    scores = [
        [
            name,
            _number(values.get("psnr"), 2),
            *(_number(values.get(score), 4) for score in ("ssim", "lpips")),
        ]
        for name, values in summary.get("scores", {}).items()
    ]
    protocol = f"{summary.get('source', '')}, protocol {summary.get('protocol', '')}"
    fields = table([], _flat(config))
    sections = [
        (
            "Scores",
            table(["", "PSNR (dB)", "SSIM", "LPIPS"], scores) + paragraph(protocol),
        ),
        ("Comparison", comparison(images) if images else paragraph("no images")),
        ("Training", side_by_side(_training_plots(metrics))),
        ("Environment", table([], list(environment.items()))),
        (
            "Configuration",
            f"<details><summary>all fields</summary>{fields}</details>",
        ),
    ]
    write(path, title, sections)


def _training_plots(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """Draws losses, D's outputs and scores over the steps of each stage."""
    plotted = [name for names in PLOTS.values() for name in names.values()]
    stages: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in metrics:
        curves = stages.setdefault(line["stage"], {name: [] for name in plotted})
        for name in plotted:
            if line.get(name) is not None:  # JSON has no infinity
                curves[name].append((line["step"], line[name]))
    drawn = []
    for stage, curves in stages.items():
        for y_label, names in PLOTS.items():
            series = {label: curves[name] for label, name in names.items()}
            if any(series.values()):
                x_label = f"step ({stage})"
                drawn.append(plots.curves(series, x_label=x_label, y_label=y_label))
    return drawn


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns the fields of a nested configuration by their dotted names."""
    fields: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, Mapping):
            fields += _flat(value, f"{prefix}{name}.")
        else:
            fields.append((f"{prefix}{name}", str(value)))
    return fields


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _data_uri(pixels: np.ndarray) -> str:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "webp", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
