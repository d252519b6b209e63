"""`srgan-jax evaluate`: its output, its files and its exit status."""

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
    """Returns a generator's file with random weights."""
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
    for name in ("results.md", "results.html"):
        assert "padding of the generators: zero" in (out / name).read_text()
    assert "padding of the generators: zero" in done.stdout
    files = [file for file in out.glob("**/*") if file.is_file()]
    assert sorted(str(file.relative_to(out)) for file in files) == [
        "best/01-set-b.png",
        "comparison-set-a.png",
        "comparison-set-b.png",
        "results.csv",
        "results.html",
        "results.json",
        "results.md",
        "worst/01-set-a.png",
    ]


def test_a_broken_image_is_reported_and_the_status_is_1(folder):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:100])
    done = _run("--data", folder, "--json")
    assert done.exit_code == 1
    assert f"left out: {folder / 'broken.png'}" in done.stderr
    assert "1 of 3 images" in done.stderr
    assert {result["images"] for result in json.loads(done.stdout)} == {2}


def test_lpips_is_measured_with_the_chosen_network(folder, monkeypatch):
    monkeypatch.setattr(lpips, "load", lambda network, offline: lambda x, y: 0.25)
    done = _run("--data", folder, "--lpips", "vgg", "--json")
    assert {result["lpips"] for result in json.loads(done.stdout)} == {0.25}


def _write_images(folder, out, name):
    """Writes darkened originals in place of another program's outputs."""
    out.mkdir()
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            dimmed = np.asarray(image) // 2
        Image.fromarray(dimmed).save(out / name.format(path.stem))


def test_images_of_another_program_become_a_row(folder, tmp_path):
    _write_images(folder, tmp_path / "theirs", "{}_SRGAN.png")
    done = _run(
        *("--data", f"folder:{folder}", "--images", f"SRGAN={tmp_path / 'theirs'}"),
        *("--protocol", "rgb", "--json"),
    )
    assert done.exit_code == 0, done.stderr
    *_, row = json.loads(done.stdout)
    assert row["weights"] == "SRGAN"
    expected = []
    for name in ("a", "b"):
        with Image.open(folder / f"{name}.png") as image:
            hr = np.asarray(image)
        expected.append(metrics.psnr(hr // 2, hr, protocol="rgb", scale=4))
    assert [score["psnr"] for score in row["per_image"]] == pytest.approx(expected)
    (tmp_path / "theirs" / "b_SRGAN.png").unlink()
    done = _run("--data", folder, "--images", f"SRGAN={tmp_path / 'theirs'}")
    assert done.exit_code == 2
    assert "no image named 'b_SRGAN'" in done.stderr


def test_the_documented_command_scores_the_authors_images(tmp_path, monkeypatch):
    """Runs the command of docs/reproduction.md on images with the authors' names."""
    rng = np.random.default_rng(0)
    for dataset, names in {"Set5": ["baby", "bird"], "Set14": ["baboon"]}.items():
        (tmp_path / dataset / "HR").mkdir(parents=True)
        (tmp_path / "authors" / dataset).mkdir(parents=True)
        for name in names:
            coarse = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
            hr = resize.imresize(coarse, 4)
            Image.fromarray(hr).save(tmp_path / dataset / "HR" / f"{name}.png")
            for method, change in {"SRResNet-MSE": 4, "SRGAN-VGG54": 9}.items():
                sr = np.minimum(hr, 255 - change) + np.uint8(change)
                file = tmp_path / "authors" / dataset / f"{name}_{method}.png"
                Image.fromarray(sr).save(file)
    monkeypatch.chdir(tmp_path)
    done = _run(
        *("--data", "Set5/HR", "--data", "Set14/HR", "--protocol", "paper", "--json"),
        *("--images", "SRResNet=authors/*/*_SRResNet-MSE.png"),
        *("--images", "SRGAN=authors/*/*_SRGAN-VGG54.png"),
    )
    assert done.exit_code == 0, done.stderr
    table = {(r["dataset"], r["weights"]): r for r in json.loads(done.stdout)}
    for dataset, count in (("Set5", 2), ("Set14", 1)):
        worse, better = table[dataset, "SRGAN"], table[dataset, "SRResNet"]
        assert worse["images"] == better["images"] == count
        # Luma shifts by 9 and 4 levels of 219/255, except where white is clipped.
        assert worse["psnr"] == pytest.approx(30.3, abs=0.7)
        assert better["psnr"] == pytest.approx(37.4, abs=0.9)


def test_comparison_says_whether_the_difference_is_significant(folder, tmp_path):
    _write_images(folder, tmp_path / "dim", "{}.png")
    arguments = ["--data", folder, "--images", f"dim={tmp_path / 'dim'}"]
    done = _run(*arguments, "--compare", "bicubic", "dim")
    assert done.exit_code == 0, done.stderr
    assert "set, standard: bicubic minus dim, mean of 2 images" in done.stdout
    assert "PSNR  +" in done.stdout
    done = _run(*arguments, "--compare", "bicubic", "dim", "--json")
    json.loads(done.stdout)
    assert "bicubic minus dim" in done.stderr
    done = _run(*arguments, "--compare", "bicubic", "dimm")
    assert done.exit_code == 2
    assert "choose from nearest, bicubic, dim" in done.stderr
    (folder / "a.png").unlink()
    out = tmp_path / "out"
    done = _run(*arguments, "--compare", "bicubic", "dim", "--out", out)
    assert done.exit_code == 2
    assert "at least two" in done.stderr
    assert (out / "results.html").exists()


def test_explained_scores_equal_those_of_the_table(folder):
    arguments = ["--data", folder, "--protocol", "standard", "--protocol", "pyiqa"]
    records = json.loads(_run(*arguments, "--explain", "a", "--json").stdout)
    table = json.loads(_run(*arguments, "--json").stdout)
    assert [(r["protocol"], r["row"]) for r in records] == [
        (r["protocol"], r["weights"]) for r in table
    ]
    for record, result in zip(records, table, strict=True):
        (psnr,) = (v for k, v in record.items() if k.startswith("PSNR"))
        (ssim,) = (v for k, v in record.items() if k.startswith("SSIM"))
        assert psnr == result["per_image"][0]["psnr"]
        assert ssim == result["per_image"][0]["ssim"]
        assert psnr == pytest.approx(10 * np.log10(255**2 / record["MSE"]))
    text = _run(*arguments, "--explain", "a").stdout
    assert "crop: 4 pixels on each side: 56x40 are compared" in text
    assert "64x48" in text
    done = _run(*arguments, "--explain", "c")
    assert done.exit_code == 2
    assert "expected one of a, b" in done.stderr


def test_tile_dtype_and_padding_reach_the_generator(folder, weights):
    arguments = ["--data", folder, "--weights", weights, "--json"]
    rows = {
        options: json.loads(_run(*arguments, *options).stdout)[-1]["psnr"]
        for options in [
            (),
            ("--tile", 8),
            ("--dtype", "bfloat16"),
            ("--bfloat16",),
            ("--scale", 4),
            ("--padding", "zero"),
            ("--padding", "symmetric"),
        ]
    }
    assert rows["--tile", 8] == pytest.approx(rows[()], abs=1e-3)
    assert rows["--dtype", "bfloat16"] == rows["--bfloat16",]
    assert rows["--scale", 4] == rows["--padding", "zero"] == rows[()]
    assert rows["--padding", "symmetric"] != rows[()]
    done = _run(*arguments, "--scale", 2)
    assert done.exit_code == 2
    assert "--scale is 2, but the generators are x4" in done.stderr


@pytest.mark.parametrize(
    "option", [("--weights", "krasserm-srgan"), ("--lpips", "alex")]
)
def test_offline_refuses_to_download(folder, tmp_path, monkeypatch, option):
    monkeypatch.setattr(store, "cache_dir", lambda: tmp_path / "empty")
    done = _run("--data", folder, "--offline", *option)
    assert done.exit_code == 2
    assert "offline" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "missing"], "no folder 'missing'"),
        (["--data", "{folder}", "--lr-data", "a", "--lr-data", "b"], "one LR folder"),
        (["--data", "{folder}", "--weights", "srgann"], "srgann"),
        (
            ["--data", "{folder}", "--protocol", "y"],
            "choose from standard, paper, rgb, pyiqa",
        ),
        (["--data", "{folder}", "--figure", "a"], "give --out"),
        (["--data", "{folder}", "--figure", "c", "--out", "{folder}/o"], "a, b"),
        (["--data", "{folder}", "--regions", "a=1,2", "--out", "{folder}/o"], "a=1,2"),
        (["--data", "{folder}", "--out", "{folder}/a.png"], "cannot be written to"),
        (["--data", "{folder}", "--out", "/proc/self"], "cannot be written to"),
        (["--data", "{folder}", "--explain", "a", "--out", "{folder}/o"], "leave out"),
        (
            ["--data", "{folder}", "--explain", "a", "--compare", "bicubic", "nearest"],
            "leave out",
        ),
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


def test_a_region_outside_its_image_still_leaves_the_tables(folder, tmp_path):
    out = tmp_path / "out"
    done = _run("--data", folder, "--regions", "a=0,0,99,9", "--out", out)
    assert done.exit_code == 2
    assert "not inside the image of 64x48 pixels" in done.stderr
    assert "bicubic" in done.stdout
    assert (out / "results.md").exists()


def test_help_names_every_choice_and_answers_at_once():
    command = [sys.executable, "-m", "srgan_jax"]
    start = time.perf_counter()
    subprocess.run([*command, "--help"], check=True, capture_output=True)
    assert time.perf_counter() - start < 5  # It takes about 0.3 s on an idle machine.
    modules = (
        "import sys, srgan_jax.cli.main; "
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
