"""Estimates for TPUs; some need the TPU compiler, which is part of libtpu."""

import importlib.util
import json
from pathlib import Path

import jax
import pytest
from typer.testing import CliRunner

import srgan_jax
from configs import srgan
from srgan_jax.cli.main import app
from srgan_jax.estimate import hlo, tpu
from srgan_jax.estimate.step import PodError, read_config
from srgan_jax.training.resolve import resolve_config

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [pod] is missing"
)
TEXT = """HloModule jit_step

FileNames
1 "{package}/training/steps.py"
2 "<string>"

FunctionNames
1 "step"

FileLocations
1 {{file_name_id=1 function_name_id=1 line=78 end_line=79 column=1 end_column=2}}
2 {{file_name_id=2 function_name_id=1 line=5 end_line=5 column=1 end_column=2}}

StackFrames
1 {{file_location_id=1 parent_frame_id=1}}
2 {{file_location_id=2 parent_frame_id=2}}

ENTRY %main {{
  %a = f32[8]{{0}} fusion(%x), metadata={{op_name="jit(step)/shard_map/block_0/mul" \
stack_frame_id=1}}, backend_config={{"estimated_cycles":"10"}}
  %b = f32[8]{{0}} fusion(%x), metadata={{op_name="jit(step)/shard_map/block_12/mul" \
stack_frame_id=2}}, backend_config={{"estimated_cycles":"20"}}
  %c = f32[8]{{0}} fusion(%x), metadata={{op_name="jit(step)/add" \
stack_frame_id=2}}, backend_config={{"estimated_cycles":"5"}}
  %d = (f32[3,64]{{1,0}}, bf16[]{{:T(128)}}) all-reduce(%a, %b), channel_id=1
  %e = f32[4]{{0}} all-gather-start(%a), channel_id=2
}}
"""


@pytest.fixture
def text():
    return TEXT.format(package=Path(srgan_jax.__file__).parent)


def test_cycles_are_summed_over_blocks_by_source_line(text):
    assert hlo.cycles_by_operation(text) == {
        ("block_*/mul", "srgan_jax/training/steps.py:78"): 30,
        ("add", "srgan_jax/training/steps.py:78"): 5,
    }


def test_collectives_are_listed_with_their_bytes(text):
    expected = [("all-reduce", 4 * 3 * 64 + 2), ("all-gather", 16)]
    assert list(hlo.collectives_of(text)) == expected


def tiny_config(dtype="float32"):
    config = srgan.get_config()
    config.dtype = dtype
    config.generator.update(blocks=1, channels=4)
    config.discriminator.update(channels=4, hidden=8)
    config.data.crop = 32
    for stage in config.stages:
        stage.content = "mse"
    return resolve_config(config)


@needs_libtpu
@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_compiles_for_a_pod(stage):
    config = tiny_config()
    record = tpu.estimate(config, config.stages[stage], "v5e:2x2", 2)
    assert record["chips"] == 4
    assert record["stage"] == ("pretrain", "adversarial")[stage]
    assert record["fits"]
    assert 0 < record["memory_bytes"] < record["available_bytes"]
    assert record["flops"] > 1e6
    assert 0 < record["utilisation"] < 1
    assert record["collectives"]["all-reduce"] >= 1
    shares = [row["share"] for row in record["operations"]]
    assert len(shares) == tpu.SHOWN_OPERATIONS
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1
    assert any(
        "training/steps.py" in r["source"] or "models/" in r["source"]
        for r in record["operations"]
    )
    json.dumps(record)
    assert len(list(tpu.summary(record))) == 7


@needs_libtpu
def test_a_step_that_runs_out_of_memory_does_not_fit(monkeypatch):
    def out_of_memory(*_):
        message = "RESOURCE_EXHAUSTED: (20.50G) exceeds available HBM (15.75G)"
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(tpu, "compile_stage", out_of_memory)
    config = tiny_config()
    record = tpu.estimate(config, config.stages[0], "v5e:2x2", 2048)
    assert record["fits"] is False
    assert record["memory_bytes"] == 20.5 * 2**30
    assert record["estimated_cycles"] is None
    assert "20.50 GiB of 16 GiB per chip: does not fit" in list(tpu.summary(record))[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v3:2x2"], "expected a TPU (v4, v5e, v5p, v6e)"),
        pytest.param(["--topology", "v5e:3x3"], "such as v5e:2x2", marks=needs_libtpu),
        (["--topology", "v5e:2x2", "--stage", "adversarial"], "it has pretrain"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, message):
    result = CliRunner().invoke(
        app, ["pod", "--config=configs/srresnet.py", *arguments]
    )
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("given", [[], ["--dtype=bfloat16"]])
def test_options_override_the_configuration(given, monkeypatch):
    def estimate(config, stage, topology, batch_per_chip):
        return {"dtype": config.dtype, "stage": stage.name, "batch": batch_per_chip}

    monkeypatch.setattr(tpu, "estimate", estimate)
    options = ["--config=configs/srgan.py", "--topology=v5e:2x2", "--json", *given]
    result = CliRunner().invoke(app, ["pod", *options, "--batch-per-chip=3"])
    dtype = "bfloat16" if given else "float32"
    assert json.loads(result.stdout) == [
        {"dtype": dtype, "stage": stage, "batch": 3}
        for stage in ("pretrain", "adversarial")
    ]


def test_missing_configuration_is_named():
    with pytest.raises(PodError, match="there is no file nowhere"):
        read_config("nowhere.py:vgg54")
