"""Estimates for GPUs; those marked `cuda` need the extra [cuda-aot]."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny
from test_estimate import tiny_config
from typer.testing import CliRunner

import srgan_jax
from srgan_jax import cuda_plugin
from srgan_jax.cli.main import app
from srgan_jax.estimate import cuda, hlo
from srgan_jax.estimate.cudnn import convolution
from srgan_jax.estimate.gpus import GPUS
from srgan_jax.estimate.step import PodError
from srgan_jax.inference import tiles, upscaler
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.models.generator import Generator
from srgan_jax.training import parallel, runtime

TEXT = """HloModule jit_step, is_scheduled=true

FileNames
1 "{package}/kernels/shuffled.py"

FunctionNames
1 "step"

FileLocations
1 {{file_name_id=1 function_name_id=1 line=26 end_line=26 column=1 end_column=2}}

StackFrames
1 {{file_location_id=1 parent_frame_id=1}}

%fused (p: f32[8]) -> f32[8] {{
  %p = f32[8]{{0}} parameter(0)
  ROOT %add.1 = f32[8]{{0}} add(%p, %p), metadata={{op_name="jit(step)/add" \
stack_frame_id=1}}
}}

%body (q: f32[8]) -> f32[8] {{
  %q = f32[8]{{0}} parameter(0)
  ROOT %loop_fusion = f32[8]{{0}} fusion(%q), kind=kLoop, calls=%fused, \
backend_config={{"reification_cost":[{{"exec_time_us":2,"name":""}},\
{{"exec_time_us":1,"name":"sol"}}]}}
}}

ENTRY %main (x: f32[2,4,6,3], k: f32[3,3,3,5], y: bf16[2,2,3,5]) -> f32[8] {{
  %x = f32[2,4,6,3]{{3,2,1,0}} parameter(0)
  %k = f32[5,3,3,3]{{3,2,1,0}} parameter(1)
  %y = bf16[2,2,3,5]{{3,2,1,0}} parameter(2)
  %z = bf16[5,3,3,3]{{3,2,1,0}} parameter(3)
  %conv = (f32[2,4,6,5]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%x, %k), \
window={{size=3x3 pad=1_1x1_1}}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward"
  %back = (bf16[2,4,6,3]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%y, %z), \
window={{size=3x3 stride=2x2 pad=1_1x1_1}}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convBackwardInput"
  %grad = (f32[5,3,3,3]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%x, %out), \
window={{size=3x3 pad=1_1x1_1}}, dim_labels=bf01_oi01->bf01, \
custom_call_target="__cudnn$convBackwardFilter", operand_precision={{highest,highest}}
  %out = f32[2,4,6,5]{{3,2,1,0}} get-tuple-element(%conv), index=0
  %named = f32[8]{{0}} fusion(%x), kind=kLoop, calls=%fused, \
metadata={{op_name="jit(step)/jvp(Generator)/block_3/mul" stack_frame_id=1}}, \
backend_config={{"reification_cost":[{{"exec_time_us":5.5e0,"name":""}}]}}
  ROOT %loop = f32[8]{{0}} while(%named), condition=%c, body=%body, \
backend_config={{"known_trip_count":{{"n":"3"}}}}
}}
"""
TEXT = TEXT.format(package=Path(srgan_jax.__file__).parent)


def test_convolutions_are_read_with_their_operations():
    every = [one for inside in hlo.instructions(TEXT).values() for one in inside]
    shapes = {one.name: one.shape for one in every}
    forward, back, grad = filter(None, (convolution(one, shapes) for one in every))
    assert forward == (
        *("forward", "NHWC", (3, 3, 3, 5), "TF32", 2 * 2 * 4 * 6 * 5 * 27),
        4 * (2 * 4 * 6 * 3 + 5 * 27 + 2 * 4 * 6 * 5),
    )
    assert back[:5] == (
        *("input gradient", "NHWC", (3, 3, 3, 5), "bfloat16"),
        2 * 2 * 2 * 3 * 5 * 27,  # at the positions of the strided output
    )
    assert grad.layout == "NCHW"
    assert grad.precision == "float32"
    text = 'custom_call_target="__cudnn$norm"'
    other = hlo.Instruction("norm", "f32[]", "custom-call", (), text)
    with pytest.raises(ValueError, match=r"__cudnn\$norm, not a convolution"):
        convolution(other, {})


def test_kernels_are_counted_with_their_modelled_times():
    costs = cuda.kernels_of(TEXT, GPUS["h100"])
    assert costs["kernels"] == 3 + 1 + 3  # the loop runs three times
    assert costs["convolutions"] == 3
    assert costs["conv_flops"] == sum(k["flops"] for k in costs["convolution_kinds"])
    assert costs["modelled_us_without_convolutions"] == 5.5 + 3 * 2
    assert costs["modelled_us"] > 5.5 + 3 * 2
    source = "srgan_jax/kernels/shuffled.py:26"
    assert costs["operations"] == [
        {"operation": name, "source": source, "count": n, "us": us, "share": us / 11.5}
        for name, n, us in (("add", 3, 6), ("jvp(Generator)/block_*/mul", 1, 5.5))
    ]


def test_a_record_is_shown_as_estimates():
    record = {
        **{"stage": "pretrain", "topology": "h100:1", "batch_per_chip": 16},
        **{"dtype": "float32", "source": "estimate by the CUDA compiler"},
        **{"memory_bytes": 3 * 2**30, "available_bytes": 80 * 2**30, "fits": True},
        **{"collectives": {}, "collective_bytes": 0},
        **cuda.kernels_of(TEXT, GPUS["h100"]),
    }
    json.dumps(record)
    lines = list(cuda.summary(record))
    assert "every figure is an estimate by the CUDA compiler" in lines[0]
    assert "3.00 GiB of 80 GiB per GPU, without cuDNN's workspaces: fits" in lines[1]
    assert [table.row_count for table in lines[-2:]] == [3, 2]


@pytest.mark.parametrize("topology", ["h100", "h100:0", "h100:9", "a100:2x2"])
def test_an_unknown_number_of_gpus_is_one_sentence(topology):
    arguments = ["--config=configs/srresnet.py", f"--topology={topology}"]
    result = CliRunner().invoke(app, ["pod", *arguments])
    assert result.exit_code == 2
    assert "expected a GPU (h100, h200, a100, a6000) and a number" in result.output


def test_the_missing_compiler_names_the_extra(monkeypatch):
    monkeypatch.setattr(cuda_plugin, "NAMES", ())
    with pytest.raises(PodError, match=r"pip install 'srgan-jax\[cuda-aot\]'"):
        cuda.open_topology("h100:1")


def test_the_plugin_is_hidden_where_there_is_no_driver(monkeypatch, tmp_path):
    (tmp_path / "fake_plugin.py").write_text("raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cuda_plugin, "NAMES", ("absent.plugin", "fake_plugin"))
    with monkeypatch.context() as patch:
        patch.setattr(cuda_plugin.ctypes, "CDLL", lambda name: name)
        cuda_plugin.hide_without_driver()
        assert "fake_plugin" not in sys.modules

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(cuda_plugin.ctypes, "CDLL", missing)
    try:
        cuda_plugin.hide_without_driver()
        assert isinstance(sys.modules["fake_plugin"], types.ModuleType)
        sys.modules["fake_plugin"].initialize()
    finally:
        sys.modules.pop("fake_plugin", None)


@pytest.mark.cuda
def test_the_compiler_changes_nothing_else():
    code = "import srgan_jax, jax; print(jax.devices())"
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.stdout == "[CpuDevice(id=0)]\n"
    assert run.stderr == ""


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", ["pretrain", "adversarial"])
def test_a_stage_compiles_for_gpus(stage, dtype):
    config = tiny_config(dtype)
    chosen = next(s for s in config.stages if s.name == stage)
    record = cuda.estimate(config, chosen, "h100:8", 2)
    assert record["chips"] == 8
    assert record["fits"]
    assert record["convolutions"] > 10
    assert record["conv_flops"] > 1e6
    assert record["collectives"]["all-reduce"] == (2 if stage == "adversarial" else 1)
    assert {kind["layout"] for kind in record["convolution_kinds"]} == {"NHWC"}
    precision = "TF32" if dtype == "float32" else "bfloat16"
    assert precision in {kind["precision"] for kind in record["convolution_kinds"]}
    parts = ("modelled_us_of_convolutions", "modelled_us_without_convolutions")
    assert all(record[part] > 0 for part in parts)
    assert len(list(cuda.summary(record))) == 9
    json.dumps(record)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_upscaler_compiles_for_a_gpu(dtype):
    network = Generator(blocks=1, channels=4)
    variables = tiny.initialise(network, 8)
    ours = Upscaler(tiny.settings_of(network), variables, dtype=dtype)
    gpu, mesh = cuda.open_topology("a100:1")

    def on_gpu(tree):
        return parallel.abstract(tree, mesh)

    plan = tiles.plan(100, 100, ours.halo, None)
    lowered = upscaler._upscale.lower(
        ours._network,
        *(ours._reaches, ours._border),
        on_gpu(ours._variables),
        *map(on_gpu, (np.zeros((1, *plan.sides, 3), np.uint8), np.zeros(2, np.int32))),
        *map(on_gpu, (np.zeros((plan.most_cells, 3), np.int32), np.int32(1))),
        cell=plan.cell,
    )
    costs = cuda.cost(lowered.compile(cuda.OPTIONS), gpu)
    assert costs["convolutions"] == 7  # each once: the loop over cells counts once


@pytest.mark.cuda
@pytest.mark.parametrize("content", ["", "version: 3 results {", "version: 1"])
def test_a_damaged_choice_of_kernels_is_recognised(content, tmp_path):
    (tmp_path / runtime.AUTOTUNING).write_text(content)
    code = f"""
import pathlib
import jax
from srgan_jax.estimate import cuda
from srgan_jax.training import parallel, runtime
folder = pathlib.Path({str(tmp_path)!r})
runtime.make_deterministic(folder)
_, mesh = cuda.open_topology("h100:1")
lowered = jax.jit(lambda x: x @ x).lower(parallel.abstract(jax.numpy.eye(8), mesh))
try:
    with runtime.device_errors(folder):
        lowered.compile()
except ValueError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert f"{tmp_path / runtime.AUTOTUNING} is damaged" in run.stdout, run.stderr
