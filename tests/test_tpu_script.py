"""scripts/tpu.sh with a gcloud that records its calls and stands in for the hosts."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/tpu.sh"
SLICE = ("srgan", "us-west4-a", "v5litepod-16", "v2-alpha-tpuv5-lite", "REPOSITORY")
FLAGS = ("--workdir=gs://bucket/a run", "--config.stages.adversarial.content=l1 + mse")
STEPS = ["create", "describe", "install", "start", "follow", "delete"]
GCLOUD = f"""#!{sys.executable}
import json, pathlib, subprocess, sys
folder = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
command = next((a[10:] for a in arguments if a.startswith("--command=")), "")
if "git clone" in command:
    step = "install"
elif command:
    step = "start" if "train.py" in command else "follow"
else:
    step = arguments[3]
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps([step, *arguments]) + "\\n")
results = json.loads((folder / "results").read_text())
result = results.get(step, [0]).pop(0) if results.get(step) else 0
(folder / "results").write_text(json.dumps(results))
if step == "describe":
    print(result or "ACTIVE")
    sys.exit(result == 1)
if result == 0 and step in ("start", "follow"):
    result = subprocess.run(["bash", "-c", command], cwd=folder / "host").returncode
sys.exit(result)
"""
# Stands in for the hosts' Python: prints the training's flags and ends with a status.
PYTHON = """#!/bin/sh
printf '%s\\n' "$@"
read status < statuses
sed -i 1d statuses
exit $status
"""


@pytest.fixture
def cloud(tmp_path):
    """A folder with gcloud and the host's files."""
    host = tmp_path / "host/srgan_jax"
    (host / "venv/bin").mkdir(parents=True)
    for path, text in (
        (tmp_path / "gcloud", GCLOUD),
        (host / "venv/bin/python", PYTHON),
    ):
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return tmp_path


def call(cloud, *options, statuses=(0,), **results):
    """Runs the script; `results` are the exit statuses or states of a step's calls."""
    (cloud / "results").write_text(json.dumps(results))
    ended = "".join(f"{status}\n" for status in statuses)
    (cloud / "host/srgan_jax/statuses").write_text(ended)
    environment = os.environ | {"PATH": f"{cloud}:{os.environ['PATH']}"}
    return subprocess.run(
        [SCRIPT, *options, *SLICE, *FLAGS],
        env=environment | {"POLL_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def steps(cloud):
    path = cloud / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)[0] for line in lines]


def test_a_slice_is_created_used_and_deleted(cloud):
    done = call(cloud)
    assert done.returncode == 0, done.stderr
    assert steps(cloud) == STEPS
    assert done.stdout.splitlines()[-4:] == ["train.py", "--distributed", *FLAGS]
    assert "'queued-resources' 'create' 'srgan'" in done.stderr


def test_a_dry_run_prints_the_same_commands_and_runs_none(cloud):
    printed = call(cloud, "--dry-run").stderr
    assert steps(cloud) == []
    assert printed == call(cloud).stderr


@pytest.mark.parametrize("step", STEPS)
def test_a_failing_command_ends_with_what_is_still_billed(cloud, step):
    done = call(cloud, **{step: [1]})
    assert done.returncode == 1
    if step == "follow":  # the status of the training: the slice is deleted
        assert steps(cloud) == STEPS
    else:
        assert steps(cloud) == STEPS[: STEPS.index(step) + 1]
        assert (
            "delete it with: gcloud compute tpus queued-resources delete srgan"
            in (done.stderr.splitlines()[-1])
        )


def test_a_run_that_was_told_to_stop_is_started_again(cloud):
    done = call(cloud, statuses=(75, 0))
    assert done.returncode == 0
    assert steps(cloud) == [*STEPS[:5], "start", "follow", "delete"]


def test_a_preempted_slice_is_created_again(cloud):
    done = call(cloud, follow=[255], describe=["ACTIVE", "SUSPENDED"])
    assert done.returncode == 0
    assert steps(cloud) == [*STEPS[:5], "describe", "delete", *STEPS]


def test_a_broken_connection_is_resumed(cloud):
    done = call(cloud, follow=[255])
    assert done.returncode == 0
    assert steps(cloud) == [*STEPS[:5], "describe", "follow", "delete"]


def test_a_failed_training_deletes_the_slice_and_keeps_its_status(cloud):
    assert call(cloud, statuses=(3,)).returncode == 3
    assert steps(cloud)[-1] == "delete"


def test_the_slice_can_be_kept(cloud):
    done = call(cloud, "--keep")
    assert steps(cloud)[-1] == "follow"
    assert "delete it with" in done.stderr.splitlines()[-1]


def test_a_workdir_is_required(cloud, monkeypatch):
    monkeypatch.setitem(globals(), "FLAGS", ("--config=configs/srgan.py",))
    done = call(cloud)
    assert done.returncode == 2
    assert "give --workdir=gs://BUCKET/RUN" in done.stderr
    assert steps(cloud) == []
