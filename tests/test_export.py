"""Exported files in their runtimes, compared with the generator itself."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import tiny
from typer.testing import CliRunner

from srgan_jax.cli.main import app
from srgan_jax.inference import export
from srgan_jax.models import registry
from srgan_jax.models.generator import Generator
from srgan_jax.weights import store

VARIANTS: list[dict[str, Any]] = [
    {},
    {"scale": 2, "prelu": "per_channel", "conv_bias": True, "output": "tanh"},
    {"scale": 8, "output": "clip", "output_range": "unit", "input_range": "imagenet"},
    {"blocks": 0, "input_range": "byte"},
]


def network(**variant: Any) -> tuple[Generator, dict[str, Any]]:
    model = Generator(**{"blocks": 2, "channels": 8} | variant)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(1)

    def perturb(array: jax.Array) -> np.ndarray:
        noise = rng.uniform(0.1, 0.5, array.shape).astype(np.float32)
        return np.asarray(array) + (noise if array.ndim == 1 else 0)

    return model, jax.tree.map(perturb, variables)


def photographs() -> list[np.ndarray]:
    """LR in [0, 1] of two sizes, so that neither size can be fixed in the file."""
    astronaut = skimage.data.astronaut()[::4, ::4].astype(np.float32) / 255
    return [astronaut[None, 8:45, 30:71], np.stack([astronaut[:20, :33]] * 2)]


def run_onnx(model: bytes, lr: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (sr,) = session.run(["sr"], {"lr": lr.transpose(0, 3, 1, 2)})
    return sr.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_onnx_equals_the_generator(variant: dict[str, Any]) -> None:
    model, variables = network(**variant)
    exported = export.to_onnx(tiny.settings_of(model), variables)
    for lr in photographs():
        expected = np.asarray(jax.jit(model.apply)(variables, lr))
        np.testing.assert_allclose(run_onnx(exported, lr), expected, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
def test_stablehlo_equals_the_generator(variant: dict[str, Any]) -> None:
    model, variables = network(**variant)
    data = export.to_stablehlo(tiny.settings_of(model), variables)
    exported = jax.export.deserialize(bytearray(data))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for lr in photographs():
        expected = np.asarray(jax.jit(model.apply)(variables, lr))
        np.testing.assert_allclose(exported.call(lr), expected, atol=1e-5)


@pytest.mark.skipif(
    not store.is_cached("krasserm-srgan"), reason="needs krasserm-srgan in the cache"
)
def test_pretrained_weights_in_onnx_equal_the_generator() -> None:
    settings, variables = store.load_generator("krasserm-srgan")
    model = registry.create("generator", settings)
    lr = skimage.data.astronaut()[None, ::4, ::4].astype(np.float32) / 255
    expected = np.asarray(jax.jit(model.apply)(variables, lr))
    sr = run_onnx(export.to_onnx(settings, variables), lr)
    np.testing.assert_allclose(sr, expected, atol=1e-4)


def settings_in(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        properties = onnx.load(path).metadata_props
        return json.loads({p.key: p.value for p in properties}["settings"])
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    return json.loads(exported.fun_name)


@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
def test_the_command_writes_a_file_with_its_settings(to: str, tmp_path: Path) -> None:
    model, variables = network(scale=2)
    settings = tiny.settings_of(model)
    weights, out = tmp_path / "tiny.safetensors", tmp_path / f"tiny.{to}"
    store.save_generator(weights, settings, variables)
    command = ["export", "--weights", str(weights), "--to", to, "-o", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert settings_in(out) == settings
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
