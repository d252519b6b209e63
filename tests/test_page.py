"""Pages work in a real browser, without a network and without errors."""

import html
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest

from srgan_jax.evaluation import benchmark, output, page
from srgan_jax.evaluation.rows import Blend
from srgan_jax.evaluation.scores import Result, Score

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# This runs before and after the page's script and writes its results to the title.
WATCH = "<script>window.errors = []; onerror = (text) => errors.push(text);</script>"
OPERATE = """<script>
const box = document.querySelector(".comparison");
const part = (name) => box.querySelector("." + name);
const at = () => getComputedStyle(part("stage")).getPropertyValue("--at");
const found = {first: at()};
found.left = part("row-left").value;
found.right = part("row-right").value;
part("position").value = 20;
part("position").dispatchEvent(new Event("input"));
found.moved = at();
part("image").selectedIndex = 1;
part("image").dispatchEvent(new Event("change"));
part("row-right").value = "original";
part("row-right").dispatchEvent(new Event("change"));
found.caption = part("of-right").textContent;
const edges = part("stage").getBoundingClientRect();
part("stage").dispatchEvent(new PointerEvent("pointermove",
  {buttons: 1, clientX: edges.left + 0.75 * edges.width}));
found.dragged = at();
part("zoom").value = "4";
part("zoom").dispatchEvent(new Event("change"));
found.width = part("stage").style.width;
Promise.all([part("left").decode(), part("right").decode()]).then(() => {
  found.size = [part("right").naturalWidth, part("right").naturalHeight];
  found.fits = document.documentElement.scrollWidth <= innerWidth;
  found.errors = errors;
  document.title = JSON.stringify(found);
});
</script></body>"""


def _open(path, tmp_path):
    """Operates a copy of a page in the browser and returns the script's results."""
    if BROWSER is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    text = path.read_text()
    assert "http://" not in re.sub(r'xmlns="[^"]*"', "", text)
    assert "https://" not in text
    copy = tmp_path / "operated.html"
    copy.write_text(
        text.replace("<head>", f"<head>{WATCH}").replace("</body>", OPERATE)
    )
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900"),
        *("--virtual-time-budget=5000", copy.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    return json.loads(html.unescape(title[1]))


def _images(*rows):
    rng = np.random.default_rng(0)
    return {row: rng.integers(0, 256, (40, 60, 3), np.uint8) for row in rows}


def test_results_page_compares_any_two_rows(tmp_path):
    scores = tuple(
        Score(name, 20.0 + i, 0.5, 0.3 - 0.1 * i) for i, name in enumerate("ab")
    )
    rows = ("nearest", "bicubic", "mine </script>", "original")
    report = benchmark.Report(
        results=[Result(row, "set", "standard", scores) for row in rows[:3]],
        kept={("set", name): _images(*rows) for name in "ab"},
    )
    output.write(report, tmp_path, subject=rows[2], network="alex")
    found = _open(tmp_path / "results.html", tmp_path)
    assert found.pop("errors") == []
    assert found == {
        "first": "50%",
        "left": "bicubic",
        "right": "mine </script>",
        "moved": "20%",
        "caption": "original\n",
        "dragged": "75%",
        "width": "240px",
        "size": [60, 40],
        "fits": True,
    }


def test_report_of_a_run_opens(tmp_path):
    images = {name: _images("bicubic", "SRGAN", "original") for name in ("a", "b")}
    lines = [
        {"step": step, "stage": "adversarial", "content": 1 / step, "d_hr": 0.5}
        for step in range(1, 1000)
    ]
    lines.insert(9, {"step": 9, "stage": "adversarial", "evaluation_psnr": None})
    lines.insert(9, {"step": 9, "stage": "adversarial", "evaluation_lpips": 0.25})
    page.run_report(
        tmp_path / "report.html",
        title="a & b",
        metrics=lines,
        summary={"protocol": "paper", "source": "x", "scores": {"SRGAN": {"psnr": 9}}},
        config={"seed": 1, "stages": [{"name": "adversarial"}], "data": {"crop": 96}},
        environment={"jax": "0.10"},
        images=images,
    )
    assert _open(tmp_path / "report.html", tmp_path)["errors"] == []
    text = (tmp_path / "report.html").read_text()
    for words in (
        *("a &amp; b", "content loss", "mean output of D", "LPIPS", "9.00"),
        *("stages.0.name", "data.crop", "96", "jax"),
    ):
        assert words in text
    assert "evaluation_psnr" not in text


def test_a_run_without_scores_has_a_report(tmp_path):
    page.run_report(
        tmp_path / "report.html",
        title="run",
        metrics=[],
        summary={},
        config={},
        environment={},
        images={},
    )
    text = (tmp_path / "report.html").read_text()
    assert "Configuration" in text
    assert 'class="comparison"' not in text


def test_large_images_are_cropped():
    images = {"a": np.zeros((20, 17_000, 3), np.uint8)}
    assert '"width": 20' in page.comparison({"long": images})


def test_flat_images_have_results_but_no_plot(tmp_path):
    scores = (Score("0", math.inf, 1.0, 0.0),)
    report = benchmark.Report(
        results=[Result("bicubic", "set", "standard", scores)],
        kept={("set", "0"): _images("bicubic", "original")},
    )
    output.write(report, tmp_path, subject="bicubic", network="alex")
    assert (tmp_path / "results.html").exists()
    assert not list(tmp_path.glob("*.svg"))


def test_plot_joins_two_generators_and_their_blends_by_a_line(tmp_path):
    places = {"bicubic": (28, 0.34), "a": (32, 0.18), "m": (30, 0.11), "b": (29, 0.09)}
    report = benchmark.Report(
        results=[
            Result(name, "set", "standard", (Score("0", psnr, 0.5, lpips),))
            for name, (psnr, lpips) in places.items()
        ],
        kept={("set", "0"): _images("bicubic", *"amb", "original")},
    )
    blends = {"m": Blend("a", "b", 0.8)}
    output.write(report, tmp_path, subject="a", network="alex", blends=blends)
    plot = (tmp_path / "perception-distortion-set.svg").read_text()
    circles = {
        label: (float(x), float(y))
        for x, y, label in re.findall(
            r'<circle cx="([\d.]+)" cy="([\d.]+)".*?<text [^>]*>(\w+)</text>', plot
        )
    }
    assert circles.keys() == places.keys()
    assert circles["a"][0] > circles["bicubic"][0]  # PSNR grows to the right
    assert circles["a"][1] > circles["bicubic"][1]  # LPIPS grows upwards
    (line,) = re.findall(r'<polyline points="([^"]*)"', plot)
    corners = [tuple(map(float, corner.split(","))) for corner in line.split()]
    assert corners == [circles[name] for name in "amb"]
    output.write(report, tmp_path / "none", subject="a", network="alex")
    assert "polyline" not in next((tmp_path / "none").glob("*.svg")).read_text()
