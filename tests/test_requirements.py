"""The requirements, resolved for machines that are not here."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1] / "pyproject.toml"

# Requirements that few people can build.
NATIVE = (
    *("h5py", "imagecodecs", "jaxlib", "numpy", "onnx", "pillow", "safetensors"),
    *("scikit-image", "scipy", "tensorflow", "tensorflow-cpu"),
)


@pytest.mark.resolve
@pytest.mark.parametrize("extra", [None, "export", "demo"])
@pytest.mark.parametrize(
    ("platform", "tensorflow"),
    [
        ("x86_64-manylinux_2_28", "tensorflow-cpu"),
        ("aarch64-manylinux_2_28", "tensorflow"),
        ("aarch64-apple-darwin", "tensorflow"),
        ("x86_64-pc-windows-msvc", "tensorflow-cpu"),
    ],
)
def test_requirements_have_wheels_everywhere(
    platform: str, tensorflow: str, extra: str | None
) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", str(PROJECT)]
    command += ["--python-platform", platform, "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--quiet"]
    command += [f"--only-binary={package}" for package in NATIVE]
    command += ["--extra", extra] if extra else []
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    packages = {line.split("==")[0] for line in run.stdout.splitlines()}
    assert packages & {"tensorflow", "tensorflow-cpu"} == {tensorflow}
    assert extra != "export" or "onnx" in packages
    assert extra != "demo" or "gradio" in packages
