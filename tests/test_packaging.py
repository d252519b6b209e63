"""The wheel's content, and the version in the project's files."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import srgan_jax

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Returns the names in a wheel of the project plus one more file of weights."""
    project = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, project)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "srgan_jax", project / "srgan_jax", ignore=ignored)
    pretrained = project / "srgan_jax" / "weights" / "pretrained"
    pretrained.mkdir(exist_ok=True)
    (pretrained / "another.safetensors").write_bytes(b"weights")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    (archive,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(archive) as file:
        return set(file.namelist())


def test_wheel_holds_every_file_of_the_package(wheel: set[str]) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "srgan_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= wheel
    assert "srgan_jax/py.typed" in wheel
    assert "srgan_jax/weights/pretrained/another.safetensors" in wheel


def test_version_is_the_same_everywhere() -> None:
    versions = {
        file: re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)[1]
        for file, pattern in {
            "pyproject.toml": r'^version = "(.*)"$',
            "CITATION.cff": r"^version: (.*)$",
        }.items()
    }
    assert set(versions.values()) == {srgan_jax.__version__}


@pytest.mark.parametrize(
    "command",
    [["-m", "srgan_jax"], ["-c", "from srgan_jax.cli.main import app; app()"]],
)
def test_version_is_printed(command: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{srgan_jax.__version__}\n"
