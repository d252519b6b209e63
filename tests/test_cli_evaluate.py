"""`srgan-jax evaluate`: what it prints and writes, and how it ends."""

import json
import subprocess
import sys
import time
import typing

import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner

from srgan_jax.cli import main as cli
from srgan_jax.data import resize
from srgan_jax.evaluation import lpips, metrics
from srgan_jax.models import generator
from srgan_jax.weights import store


def _run(*arguments):
    return CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    for name, (height, width) in {"a": (48, 64), "b": (60, 40)}.items():
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        image = resize.imresize(coarse, 4)
        Image.fromarray(image).save(tmp_path / "set" / f"{name}.png")
    return tmp_path / "set"


@pytest.fixture
def weights(tmp_path):
    """A generator's file; its figures mean nothing."""
    network = generator.Generator(blocks=1, channels=4)
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), lr)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.01, np.float32), shapes)
    path = tmp_path / "run" / "generator.safetensors"
    path.parent.mkdir()
    store.save_generator(path, tiny.settings_of(network), variables)
    return path


def test_json_goes_to_standard_output_alone(folder, weights):
    done = _run(
        *("--data", folder, "--weights", weights, "--json"),
        *("--protocol", "standard", "--protocol", "paper"),
    )
    assert done.exit_code == 0
    results = json.loads(done.stdout)
    assert [(r["weights"], r["dataset"], r["protocol"]) for r in results] == [
        (name, "set", protocol)
        for protocol in ("standard", "paper")
        for name in ("nearest", "bicubic", str(weights))
    ]
    for result in results:
        assert set(result) == {
            *("weights", "dataset", "protocol", "psnr", "ssim", "lpips", "images"),
            "per_image",
        }
        assert result["images"] == len(result["per_image"]) == 2
        psnrs = [score["psnr"] for score in result["per_image"]]
        assert result["psnr"] == pytest.approx(np.mean(psnrs))
        assert result["lpips"] is None
    assert "time: generator" in done.stderr
    assert "metrics" in done.stderr


def test_tables_and_figures_are_written(folder, weights, tmp_path):
    out = tmp_path / "out"
    done = _run(
        *("--data", folder, "--weights", weights, "--out", out),
        *("--figure", "a", "--regions", "b=4,8,16,16"),
    )
    assert done.exit_code == 0, done.stderr
    assert "bicubic" in done.stdout
    assert "standard" in done.stdout
    assert sorted(file.name for file in out.iterdir()) == [
        "comparison-set-a.png",
        "comparison-set-b.png",
        "results.csv",
        "results.json",
        "results.md",
    ]


def test_broken_image_is_named_and_the_status_is_1(folder):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:100])
    done = _run("--data", folder, "--json")
    assert done.exit_code == 1
    assert f"left out: {folder / 'broken.png'}" in done.stderr
    assert "1 of 3 images" in done.stderr
    assert {result["images"] for result in json.loads(done.stdout)} == {2}


def test_lpips_of_the_catalog(folder, monkeypatch):
    monkeypatch.setattr(lpips, "load", lambda network: lambda x, y: 0.25)
    done = _run("--data", folder, "--lpips", "vgg", "--json")
    assert {result["lpips"] for result in json.loads(done.stdout)} == {0.25}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "missing"], "no folder 'missing'"),
        (["--data", "{folder}", "--lr-data", "a", "--lr-data", "b"], "one LR folder"),
        (["--data", "{folder}", "--weights", "srgann"], "srgann"),
        (["--data", "{folder}", "--protocol", "y"], "choose from standard, paper, rgb"),
        (["--data", "{folder}", "--figure", "a"], "give --out"),
        (["--data", "{folder}", "--figure", "c", "--out", "{folder}/o"], "a, b"),
        (["--data", "{folder}", "--regions", "a=1,2", "--out", "{folder}/o"], "a=1,2"),
        (["--data", "{folder}", "--border", "torn"], "mirrored"),
        ([], "--data"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(folder, arguments, sentence):
    done = _run(*(argument.format(folder=folder) for argument in arguments))
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_region_outside_its_image_costs_the_figure_alone(folder, tmp_path):
    out = tmp_path / "out"
    done = _run("--data", folder, "--regions", "a=0,0,99,9", "--out", out)
    assert done.exit_code == 2
    assert "not inside the image of 64x48 pixels" in done.stderr
    assert "bicubic" in done.stdout
    assert (out / "results.md").exists()


def test_help_names_every_choice_and_answers_at_once():
    command = [sys.executable, "-c", "from srgan_jax import cli; cli.app()"]
    start = time.perf_counter()
    subprocess.run([*command, "--help"], check=True, capture_output=True)
    assert time.perf_counter() - start < 5  # about 0.3 s on an idle machine
    modules = (
        "import sys, srgan_jax.cli; "
        "sys.exit(any(m in sys.modules for m in ('jax', 'tensorflow', 'matplotlib')))"
    )
    subprocess.run([sys.executable, "-c", modules], check=True)
    help_ = _run("--help").stdout
    assert "Example: srgan-jax evaluate" in help_
    for choice in (
        *metrics.PROTOCOLS,
        *lpips.NETWORKS,
        *typing.get_args(resize.Border),
    ):
        assert choice in help_
