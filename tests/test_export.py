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
from srgan_jax.inference.upscaler import Upscaler
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
    (sr,) = session.run(["output"], {"input": lr.transpose(0, 3, 1, 2)})
    return sr.transpose(0, 2, 3, 1)


def expected(model: Generator, variables: dict[str, Any], lr: np.ndarray) -> np.ndarray:
    """The generator's SR in [0, 1]."""
    sr = np.asarray(jax.jit(model.apply)(variables, lr))
    return np.clip((sr + 1) / 2, 0, 1)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_onnx_equals_the_generator(variant: dict[str, Any]) -> None:
    model, variables = network(**variant)
    exported = export.to_onnx(tiny.settings_of(model), variables, padding="zero")
    for lr in photographs():
        sr = run_onnx(exported, lr)
        np.testing.assert_allclose(sr, expected(model, variables, lr), atol=5e-5)


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
def test_stablehlo_equals_the_generator(variant: dict[str, Any]) -> None:
    model, variables = network(**variant)
    data = export.to_stablehlo(tiny.settings_of(model), variables, padding="zero")
    exported = jax.export.deserialize(bytearray(data))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for lr in photographs():
        sr = exported.call(lr)
        np.testing.assert_allclose(sr, expected(model, variables, lr), atol=5e-6)


@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
@pytest.mark.parametrize("fixed", [False, True], ids=["any size", "fixed size"])
@pytest.mark.parametrize("size", [(1, 1), (3, 30), (21, 17)])
def test_mirrored_borders_are_the_upscalers(
    to: str, fixed: bool, size: tuple[int, int]
) -> None:
    """Also where the image is smaller than the border."""
    model, variables = network()
    settings = tiny.settings_of(model)
    lr = photographs()[0][0, 2 : 2 + size[0], 3 : 3 + size[1]]
    options = dict(zip(("height", "width"), size, strict=True)) if fixed else {}
    if to == "onnx":
        sr = run_onnx(export.to_onnx(settings, variables, **options), lr[None])
    else:
        data = export.to_stablehlo(settings, variables, **options)
        sr = jax.export.deserialize(bytearray(data)).call(lr[None])
    ours = Upscaler(settings, variables, padding="symmetric")
    np.testing.assert_allclose(sr[0], ours(lr), atol=5e-5)


def test_onnx_of_a_fixed_size_takes_no_other() -> None:
    model, variables = network()
    settings = tiny.settings_of(model)
    exported = export.to_onnx(settings, variables, height=24, width=32)
    value = onnx.load_from_string(exported).graph.output[0].type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in value.shape.dim]
    assert shape == ["batch", 3, 96, 128]
    with pytest.raises(Exception, match=r"(?i)invalid dimensions"):
        run_onnx(exported, np.zeros((1, 24, 33, 3), np.float32))


def test_half_precision_halves_the_file_and_stays_near() -> None:
    model, variables = network(channels=16)
    settings, (lr, _) = tiny.settings_of(model), photographs()
    full = export.to_onnx(settings, variables)
    half = export.to_onnx(settings, variables, fp16=True)
    assert len(half) < 0.65 * len(full)
    types = {i.data_type for i in onnx.load_from_string(half).graph.initializer}
    assert onnx.TensorProto.FLOAT not in types
    difference = np.abs(run_onnx(half, lr) - run_onnx(full, lr))
    assert 0 < difference.max() < 0.02


@pytest.mark.skipif(
    not store.is_cached("krasserm-srgan"), reason="needs krasserm-srgan in the cache"
)
@pytest.mark.parametrize("padding", ["zero", "symmetric"])
def test_pretrained_weights_in_onnx_equal_the_upscaler(padding: str) -> None:
    generator = store.load_generator("krasserm-srgan")
    image = skimage.data.astronaut()[100:350:4, 80:330:4]
    exported = export.to_onnx(*generator, padding=padding)
    sr = run_onnx(exported, image[None].astype(np.float32) / 255)[0]
    ours = Upscaler(*generator, padding=padding)(image)
    assert np.abs(np.rint(255 * sr) - ours).max() <= 1


def settings_in(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
        assert (metadata["scale"], metadata["padding"]) == ("2", "symmetric")
        return json.loads(metadata["settings"])
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


def test_command_names_the_file_whose_folder_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "nodir" / "g.onnx"
    result = CliRunner().invoke(app, ["export", "--to", "onnx", "-o", str(out)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {out}: there is no folder")
    assert ".part" not in result.stderr


def test_command_writes_half_precision_for_one_size(tmp_path: Path) -> None:
    model, variables = network(scale=2)
    weights, out = tmp_path / "tiny.safetensors", tmp_path / "tiny.onnx"
    store.save_generator(weights, tiny.settings_of(model), variables)
    command = ["export", "--weights", str(weights), "-o", str(out), "--fp16"]
    size = ["--height", "8", "--width", "9", "--padding", "zero"]
    result = CliRunner().invoke(app, [*command, *size, "--to", "onnx"])
    assert result.exit_code == 0, result.output
    assert run_onnx(out.read_bytes(), np.zeros((2, 8, 9, 3), np.float32)).shape == (
        *(2, 16, 18, 3),
    )
    refused = CliRunner().invoke(app, [*command, "--to", "stablehlo", "--overwrite"])
    assert refused.exit_code == 2
    assert "--fp16 needs --to onnx" in refused.stderr
