"""Figures, checked pixel by pixel, and tables."""

import csv
import io
import json
import math

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from srgan_jax.evaluation import benchmark, figures, output, tables
from srgan_jax.evaluation.scores import Result, Score


def _image(seed: int = 0, height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


RESULTS = [
    Result(
        "bicubic",
        "set",
        "standard",
        (
            Score("a", 20.0, 0.5, 0.25),
            Score("b", 30.0, 0.7, 0.75),
        ),
    ),
    Result("same", "set", "paper", (Score("a", math.inf, 1.0),)),
]


def test_a_comparison_shows_the_pixels_of_every_image(tmp_path):
    images = [_image(seed) for seed in range(4)]
    panels = [(f"panel {i}", image, "1 dB") for i, image in enumerate(images)]
    path = tmp_path / "figure.png"
    figures.comparison(panels, path, inset=figures.Region(10, 20, 8, 8))
    drawn = _read(path)
    assert drawn.shape[1] == figures.WIDTH
    column = (figures.WIDTH - 5 * figures.GAP) // 4
    red = (drawn == figures.FRAME).all(axis=2)
    for index, image in enumerate(images):
        left = figures.GAP + index * (column + figures.GAP)
        # Only the magnified region has a frame over the whole width.
        rows = np.flatnonzero(red[:, left : left + column].all(axis=1))
        assert rows[-1] - rows[0] + 1 == column
        inset = drawn[rows[0] : rows[-1] + 1, left : left + column]
        middle = ((np.arange(8) + 0.5) * column / 8).astype(int)
        expected = image[20:28, 10:18]
        np.testing.assert_array_equal(inset[middle][:, middle], expected)


def test_a_failed_comparison_leaves_no_partial_file(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_text("before")
    panels = [("a", _image(), ""), ("b", _image(1), "")]
    with monkeypatch.context() as patched:

        def broken(self, file, **options):
            file.write_text("half")
            raise OSError("disk full")

        patched.setattr(Image.Image, "save", broken)
        with pytest.raises(OSError, match="disk full"):
            figures.comparison(panels, path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_text() == "before"
    figures.comparison(panels, tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").exists()


@pytest.mark.parametrize("shape", [(40, 160), (160, 40), (8, 8), (700, 900)])
def test_a_comparison_takes_any_shape_and_long_labels(tmp_path, shape):
    image = np.full((*shape, 3), 128, np.uint8)
    panels = [("a label of a great many words " * 5, image, "x\ny\nz")] * 2
    figures.comparison(panels, tmp_path / "figure.png")
    assert _read(tmp_path / "figure.png").shape[1] == figures.WIDTH


def test_the_inset_lies_where_images_differ_most():
    first = _image()
    second = first.copy()
    second[5, 5] ^= 64
    second[40:45, 60:65] ^= 128
    region = figures.most_different([first, second, first], 16)
    assert region.width == region.height == 16
    assert region.x <= 60 <= 65 <= region.x + 16
    assert region.y <= 40 <= 45 <= region.y + 16


def test_panels_of_different_sizes_and_outside_regions_are_refused(tmp_path):
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match="panels of one size"):
        figures.comparison([("a", _image(), ""), ("b", _image(0, 8, 8), "")], path)
    for region in [(70, 0, 16, 16), (-1, 0, 4, 4), (0, 0, 0, 4), (0, 50, 5, 11)]:
        with pytest.raises(ValueError, match="not inside the image of 80x60 pixels"):
            figures.comparison(
                [("a", _image(), "")], path, inset=figures.Region(*region)
            )
    assert not path.exists()


def test_large_images_are_cropped_to_where_they_differ():
    small = {"a": _image(0), "b": _image(1)}
    kept = figures.crop_large(small)
    np.testing.assert_array_equal(kept["a"], small["a"])
    first = np.zeros((30, 1025, 3), np.uint8)
    second = first.copy()
    second[10:20, 900:910] = 255
    cut = figures.crop_large({"a": first, "b": second})
    assert cut["a"].shape == cut["b"].shape == (30, 30, 3)
    assert cut["b"].sum() == second.sum()
    assert cut["b"].base is None


def test_every_image_gets_its_own_files(tmp_path):
    images = {name: _image(i) for i, name in enumerate(["nearest", "bicubic", "x"])}
    images["original"] = _image(9)
    scores = (Score("0", 1.0, 1.0), Score("x/0", 2.0, 1.0), Score("1", 0.5, 1.0))
    names = [(dataset, s.image) for dataset in ("/a/HR", "b/HR") for s in scores]
    report = benchmark.Report(
        results=[
            Result("x", dataset, "paper", scores) for dataset in ("/a/HR", "b/HR")
        ],
        kept=dict.fromkeys(names, images),
    )
    insets = figures.insets([], ["0=0,0,8,8", "x/0=0,0,8,8"])
    output.write(report, tmp_path, subject="x", insets=insets)
    drawn = [
        str(file.relative_to(tmp_path)) for file in tmp_path.glob("comp*/**/*.png")
    ]
    drawn += [file.name for file in tmp_path.glob("comparison*.png")]
    assert sorted(drawn) == [
        "comparison-a-HR-0.png",
        "comparison-a-HR-x/0.png",
        "comparison-b-HR-0.png",
        "comparison-b-HR-x/0.png",
    ]
    worst, best = (
        [file.name for file in sorted((tmp_path / place).iterdir())]
        for place in ("worst", "best")
    )
    assert worst == ["01-a-HR-1.png", "02-b-HR-1.png", "03-a-HR-0.png"]
    assert best == ["01-b-HR-x-0.png", "02-a-HR-x-0.png", "03-b-HR-0.png"]


def test_tables_name_protocol_and_network():
    text = tables.markdown(RESULTS, "alex")
    assert text.splitlines() == [
        "| Dataset | Protocol | Weights | Images | PSNR (dB) | SSIM | LPIPS (alex) |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| set | standard | bicubic | 2 | 25.00 | 0.6000 | 0.5000 |",
        "| set | paper | same | 1 | inf | 1.0000 | - |",
    ]
    assert "LPIPS" not in tables.markdown(RESULTS)
    console = Console(file=io.StringIO(), width=120)
    console.print(tables.terminal(RESULTS, "alex"))
    for cell in ("set", "standard", "bicubic", "25.00", "0.6000", "LPIPS (alex)"):
        assert cell in console.file.getvalue()


def test_csv_and_json_hold_every_image(tmp_path):
    tables.write(RESULTS, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found[0] == {
        "weights": "bicubic",
        "dataset": "set",
        "protocol": "standard",
        "psnr": 25.0,
        "ssim": pytest.approx(0.6),
        "lpips": 0.5,
        "images": 2,
        "per_image": [
            {"image": "a", "psnr": 20.0, "ssim": 0.5, "lpips": 0.25},
            {"image": "b", "psnr": 30.0, "ssim": 0.7, "lpips": 0.75},
        ],
    }
    assert found[1]["psnr"] is None  # JSON has no infinity
    assert found[1]["lpips"] is None
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert [row["image"] for row in rows] == ["a", "b", "mean", "a", "mean"]
    assert float(rows[2]["psnr"]) == 25.0
    assert {row["protocol"] for row in rows} == {"standard", "paper"}
    assert "| set | standard |" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.parametrize(
    ("weights", "label"),
    [
        ("runs/srgan/generator.safetensors", "srgan"),
        ("runs/srgan/generator-best.safetensors", "srgan best"),
        ("blend-0.8.safetensors", "blend-0.8"),
        ("krasserm-srgan", "krasserm-srgan"),
        ("SRGAN (authors)", "SRGAN (authors)"),
    ],
)
def test_generators_of_several_runs_have_different_labels(weights, label):
    assert output._label(weights) == label
