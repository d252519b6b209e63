"""benchmarks/gpu.py with tiny sizes on the CPU; needs srgan-jax[parity]."""

import os
import subprocess
import sys
from concurrent.futures import Future

import pytest

torch = pytest.importorskip("torch")

from benchmarks import gpu  # noqa: E402

SETTINGS = {"blocks": 1, "channels": 4}


class InThisProcess:
    """An executor that calls at once."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(
    ("work", "precision"), [("pretrain", "bfloat16"), ("upscaling", "TF32")]
)
def test_programs_run_on_the_cpu(work, precision):
    size = 4 if work == "pretrain" else 8
    for program in (gpu.OURS, "PyTorch"):
        gpu.prepare((program, precision), work, size, SETTINGS)
        assert gpu.take_turn(1) > 0


def test_pytorch_trains_both_networks():
    run = gpu.torch_training("adversarial", 1, True, False, SETTINGS)
    steps = run.__self__
    before = [next(m.parameters()).clone() for m in (steps.g, steps.d, steps.vgg)]
    run()
    after = [next(m.parameters()) for m in (steps.g, steps.d, steps.vgg)]
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [False, False, True]


def test_the_command_prints_a_table_and_says_what_cannot_run(monkeypatch, capsys):
    def prepare(key, *_):
        if key == ("PyTorch", "TF32"):
            raise MemoryError("no room")
        gpu._run = lambda: key

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    monkeypatch.setattr(gpu, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(gpu, "prepare", prepare)
    gpu.main(["--work", "pretrain", "upscaling", "--batches", "2", "--no-compile"])
    output, said = capsys.readouterr()
    assert "('PyTorch', 'TF32') cannot run: no room" in said
    assert f"PyTorch {torch.__version__}" in output
    lines = output.splitlines()[2:]
    assert lines[0] == "| program | pretrain, 2 crops | upscaling, 512x512 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        *("| here, TF32", "| PyTorch, TF32"),
        *("| here, bfloat16", "| PyTorch, bfloat16"),
    ]
    assert lines[3].endswith("| MemoryError | MemoryError |")
    assert lines[5].count("x") == 2  # ratios


def test_both_must_use_the_gpu(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    monkeypatch.setattr(gpu, "device", lambda: "cuda")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "JAX runs on cpu and PyTorch on cuda" in capsys.readouterr().err


def test_ratios_are_taken_within_a_round():
    theirs, ours = ("PyTorch", "TF32"), (gpu.OURS, "TF32")
    results = {ours: [1.0, 2.0, 4.0], theirs: [2.0, 5.0, 2.0]}
    assert gpu.cell(ours, results) == "2000.00 ms"
    assert gpu.cell(theirs, results) == "2000.00 ms, 2.00x"


def test_it_needs_no_tensorflow():
    code = "import benchmarks.gpu, sys; assert 'tensorflow' not in sys.modules"
    command = [sys.executable, "-c", code]
    root = os.path.dirname(os.path.dirname(gpu.__file__))
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600)
    assert run.returncode == 0, run.stderr
