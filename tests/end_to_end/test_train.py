"""The real command in a separate process: the quickstart, and wrong usage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from srgan_jax.weights import store

ROOT = Path(__file__).parents[2]


def train(*flags: str, timeout: float = 900) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "train.py", *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.end_to_end
def test_the_quickstart_works_with_a_tiny_setting(tmp_path):
    flags = [
        "--config=configs/srgan.py:quickstart",
        f"--workdir={tmp_path}",
        "--config.stages[0].steps=3",
        "--config.batch_size=2",
        "--config.data.crop=48",
        "--config.ema_decay=0",
    ]
    done = train(*flags)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["protocol"] == "standard"
    assert summary["steps"] == 3
    assert list(summary["scores"]) == ["bicubic", "start", "adversarial"]
    for scores in summary["scores"].values():
        assert set(scores) == {"psnr", "ssim", "lpips"}
    bicubic, start = summary["scores"]["bicubic"], summary["scores"]["start"]
    # The included SRResNet's score on the held-out photograph.
    assert bicubic["psnr"] == pytest.approx(26.83, abs=0.01)
    assert start["psnr"] == pytest.approx(30.24, abs=0.02)
    assert abs(summary["scores"]["adversarial"]["psnr"] - start["psnr"]) > 1e-3
    for name in ("start", "adversarial"):
        assert name in done.stdout
    settings, _ = store.load_generator(tmp_path / "generator.safetensors")
    assert settings["blocks"] == 16
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.width > 1000
    again = train(*flags)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=configs/srgan.py", "--config.batch_sise=2"], "batch_size"),
        (["--config=configs/srgan.py", "--config.data.crops=2"], "crop"),
        (["--config=configs/srgan.py", "--config.batch_size=many"], "batch_size"),
        (["--config=configs/srgan.py:vgg99"], "expected one of vgg54"),
        (["--config=configs/nothing.py"], "nothing.py"),
        ([], "--config=configs/srgan.py"),
        (["--confg=configs/srgan.py"], "config"),
        (["--config=configs/srgan.py", "--work_dir=x"], "workdir"),
        (["--config=configs/srgan.py", "--profile=3"], "START:STOP"),
        (["--config=configs/srgan.py", "--profile=5:5"], "START:STOP"),
        (["--config=configs/srgan.py", "--workdir=s3://b/run"], "mount the storage"),
        (["--config=configs/srgan.py", "config.batch_size=2"], "config.batch_size=2"),
        (["--config=configs/srgan.py", "--config.stages[2].steps=1"], "(adversarial)"),
        (["--config=configs/srgan.py", "--config.stages.pre.steps=1"], "pretrain"),
        (["--config=nothing.json"], "nothing.json"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(flags, message):
    done = train(*flags, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.batch_norm=group", "batch_norm is 'group'"),
        ("--config.data.source=folder:/nowhere", "/nowhere"),
        ("--config.init_from=krasserm-srresnt", "krasserm-srresnet"),
        ("--config.seed=-1", "seed is -1"),
        ("--config.stages.pretrain.learning_rate=nan", "learning_rate is nan"),
        ("--config.stages.adversarial.learning_rate=-1", "learning_rate is -1"),
    ],
)
def test_a_failed_start_says_why_and_leaves_no_directory(tmp_path, flag, message):
    workdir = tmp_path / "run"
    done = train("--config=configs/srgan.py", f"--workdir={workdir}", flag)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not workdir.exists()


@pytest.mark.end_to_end
def test_a_cache_in_a_bucket_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SRGAN_JAX_CACHE", "gs://bucket/cache")
    done = train("--config=configs/srgan.py", f"--workdir={tmp_path}/run", timeout=300)
    assert done.returncode == 1
    assert done.stderr == (
        "error: SRGAN_JAX_CACHE=gs://bucket/cache: expected a local path; mount the "
        "storage as a folder to use its files\n"
    )


@pytest.mark.end_to_end
def test_print_config_prints_json_that_is_a_configuration(tmp_path):
    fields = ["--config.stages.adversarial.steps=7", "--config.preset=krasserm"]
    override = "--config.generator.bn_epsilon=0.5"
    printed = train("--config=configs/srgan.py", *fields, override, "--print_config")
    assert printed.returncode == 0, printed.stderr
    config = json.loads(printed.stdout)
    assert config["stages"][1]["steps"] == 7
    assert config["generator"]["prelu"] == "per_channel"  # This value is the preset's.
    assert config["generator"]["bn_epsilon"] == 0.5
    path = tmp_path / "config.json"
    path.write_text(printed.stdout)
    again = train(f"--config={path}", "--print_config", "--config.batch_size=4")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == config | {"batch_size": 4}
    alone = train(f"--config={path}")
    assert alone.returncode == 1
    assert "give --workdir" in alone.stderr


@pytest.mark.end_to_end
def test_jax_s_flags_are_accepted():
    done = train("--config=configs/srgan.py", "--jax_debug_nans", "--print_config")
    assert done.returncode == 0, done.stderr
    wrong = train("--config=configs/srgan.py", "--jax_debug_nan=1", "--print_config")
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--profile=1:2", "PROCESS_COUNT=2 announces 2 processes; add --distributed"),
        ("--nodistributed", "there is no folder"),  # the next thing that is wrong
    ],
)
def test_a_process_of_several_must_be_told_to_train_alone(
    tmp_path, monkeypatch, flag, message
):
    monkeypatch.setenv("PROCESS_COUNT", "2")
    missing = f"--config.data.source=folder:{tmp_path}/missing"
    config = "--config=configs/srgan.py:mse"
    lpips = "--config.evaluation.lpips=none"
    done = train(config, missing, lpips, f"--workdir={tmp_path}/run", flag, timeout=300)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
