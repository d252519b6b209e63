"""What a deterministic run sets for XLA, and what the user learns of XLA's errors."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from srgan_jax import paths
from srgan_jax.training import runtime


def test_a_deterministic_run_keeps_its_choice_of_kernels(tmp_path, monkeypatch):
    workdir = tmp_path / "a run"
    choice = f"='{workdir / runtime.AUTOTUNING}'"
    dump, load = (
        f"--xla_gpu_{option}" + choice
        for option in ("dump_autotune_results_to", "load_autotune_results_from")
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    runtime.make_deterministic(workdir)
    given, exclude, *others = os.environ["XLA_FLAGS"].split(" --")
    assert given == "--xla_dump_to=x"
    assert exclude == "xla_gpu_exclude_nondeterministic_ops=true"
    assert [f"--{flag}" for flag in others] == [dump]
    (workdir / runtime.AUTOTUNING).touch()
    monkeypatch.setenv("XLA_FLAGS", "")
    runtime.make_deterministic(workdir)
    assert os.environ["XLA_FLAGS"].endswith(f" {dump} {load}")


def test_xla_knows_the_options_of_a_deterministic_run(tmp_path):
    code = f"""
import os, pathlib
from srgan_jax.training import runtime
folder = pathlib.Path({str(tmp_path)!r}, "a run")
folder.mkdir()
(folder / runtime.AUTOTUNING).touch()
runtime.make_deterministic(folder)
import jax
print(jax.jit(lambda x: x + 1)(1))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (run.stdout, run.stderr) == ("2\n", "")


def test_a_deterministic_run_needs_a_local_directory():
    workdir = paths.parse("gs://bucket/run")
    with pytest.raises(ValueError, match=r"workdir is gs://bucket/run.*a file system"):
        runtime.make_deterministic(workdir)


def test_a_deterministic_run_sets_its_options_before_jax_starts(tmp_path):
    code = """
import runpy, sys
from jax._src import xla_bridge
from srgan_jax.training import runtime
def end(workdir):
    sys.exit(11 if xla_bridge.backends_are_initialized() else 10)
runtime.make_deterministic = end
runpy.run_path("train.py", run_name="__main__")
"""
    arguments = "--config=configs/srgan.py", "--config.deterministic=True"
    command = [sys.executable, "-c", code, *arguments, f"--workdir={tmp_path / 'run'}"]
    root = Path(__file__).parents[1]
    run = subprocess.run(command, cwd=root, capture_output=True, timeout=600)
    assert run.returncode == 10


@pytest.mark.parametrize(
    ("error", "way_on"),
    [
        ("Failed to parse autotune results string.", "autotuning.txt .* move it away"),
        ("RESOURCE_EXHAUSTED: Out of memory.", "--config.accumulate"),
    ],
)
def test_errors_of_xla_become_one_sentence(error, way_on, tmp_path):
    with pytest.raises(ValueError, match=way_on), runtime.device_errors(tmp_path):
        raise jax.errors.JaxRuntimeError(error)


def test_other_errors_of_xla_pass(tmp_path):
    with pytest.raises(jax.errors.JaxRuntimeError), runtime.device_errors(tmp_path):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


def test_a_run_without_memory_ends_with_one_sentence(tmp_path):
    code = """
import runpy, jax
from srgan_jax.training import loop
def out_of_memory(*_, **__):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")
loop.train_and_evaluate = out_of_memory
runpy.run_path("train.py", run_name="__main__")
"""
    command = [sys.executable, "-c", code, "--config=configs/srgan.py"]
    command.append(f"--workdir={tmp_path / 'run'}")
    root = Path(__file__).parents[1]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert run.returncode == 1
    assert run.stderr.startswith("error: the device has too little memory")
    assert run.stderr.count("\n") == 1
