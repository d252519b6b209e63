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
    packages = resolve(platform, extra)
    assert packages.keys() & {"tensorflow", "tensorflow-cpu"} == {tensorflow}
    assert extra is None or "onnx" in packages


@pytest.mark.resolve
@pytest.mark.parametrize(
    ("extra", "brings"),
    [
        ("cuda12", "jax-cuda12-plugin"),
        ("cuda13", "jax-cuda13-plugin"),
        ("tpu", "libtpu"),
        ("pod", "libtpu"),
        ("cuda-aot", "jax-cuda12-pjrt"),
    ],
)
def test_extras_for_accelerators_match_their_jaxlib(extra: str, brings: str) -> None:
    packages = resolve("x86_64-manylinux_2_31", extra)  # as libtpu requires
    assert brings in packages
    if brings != "libtpu":
        assert packages[brings] == packages["jaxlib"]
    libraries = {name for name in packages if name.startswith("nvidia-")}
    if extra == "cuda-aot":
        assert libraries == {"nvidia-cuda-nvcc-cu12"}


def resolve(platform: str, extra: str | None) -> dict[str, str]:
    """Returns the versions of all packages that would be installed."""
    command = [sys.executable, "-m", "uv", "pip", "compile", str(PROJECT)]
    command += ["--python-platform", platform, "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--quiet"]
    command += [f"--only-binary={package}" for package in NATIVE]
    command += ["--extra", extra] if extra else []
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = (line.partition(" ;")[0] for line in run.stdout.splitlines())
    pinned = (line.partition("==")[::2] for line in lines)
    return dict(pinned)
