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
import json, os, pathlib, signal, subprocess, sys
folder = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
command = next((a[10:] for a in arguments if a.startswith("--command=")), "")
if "git clone" in command:
    step = "install"
elif command:
    step = "start" if "train.py" in command else "follow"
    step = "logs" if "tail -n 20" in command else step
else:
    step = arguments[3]
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps([step, *arguments]) + "\\n")
results = json.loads((folder / "results").read_text())
result = results.get(step, [0]).pop(0) if results.get(step) else 0
(folder / "results").write_text(json.dumps(results))
if step == "install":  # the project is copied anew
    (folder / "host/srgan_jax/status").unlink(missing_ok=True)
if result == "SIGTERM":
    os.kill(os.getppid(), signal.SIGTERM)
    sys.exit(1)
if step == "describe":
    print(result or "ACTIVE")
    sys.exit(result == 1)
if result == 0 and step in ("start", "follow", "logs"):
    run = subprocess.run(["bash", "-c", command], cwd=folder / "host", timeout=30)
    result = run.returncode
sys.exit(result)
"""
# Stands in for the hosts' Python: prints the training's flags and ends with a status.
PYTHON = """#!/bin/sh
printf '%s\\n' "$TFDS_DATA_DIR" "$@"
read status < statuses
sed -i 1d statuses
[ "$status" = vanish ] && kill -KILL $PPID
exit ${status:-0}
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


def call(cloud, *options, statuses=(0,), environment=(), **results):
    """Runs the script; `results` are the exit statuses or states of a step's calls."""
    (cloud / "results").write_text(json.dumps(results))
    ended = "".join(f"{status}\n" for status in statuses)
    (cloud / "host/srgan_jax/statuses").write_text(ended)
    path = {"PATH": f"{cloud}:{os.environ['PATH']}", "POLL_SECONDS": "0"}
    return subprocess.run(
        [SCRIPT, *options, *SLICE, *FLAGS],
        env=os.environ | path | dict(environment),
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


@pytest.mark.parametrize("step", [step for step in STEPS if step != "follow"])
def test_a_failing_command_ends_with_what_is_still_billed(cloud, step):
    done = call(cloud, **{step: [1]})
    assert done.returncode == 1
    assert steps(cloud) == STEPS[: STEPS.index(step) + 1]
    last = done.stderr.splitlines()[-1]
    assert "delete it with: gcloud compute tpus queued-resources delete srgan" in last
    assert ("with --attach" in last) == (step == "delete")


def test_a_run_that_was_told_to_stop_is_started_again_on_its_host(cloud):
    done = call(cloud, statuses=(75, 75, 0))
    assert done.returncode == 0
    assert steps(cloud) == STEPS
    assert done.stdout.count("train.py") == 3


@pytest.mark.parametrize("failure", [1, 255])
def test_a_preempted_slice_is_created_again(cloud, failure):
    """gcloud ends with 255 if ssh fails, and with 1 if it finds no slice."""
    done = call(cloud, follow=[failure], describe=["ACTIVE", "SUSPENDED"])
    assert done.returncode == 0
    assert steps(cloud) == [*STEPS[:5], "describe", "delete", *STEPS]


@pytest.mark.parametrize("failure", [1, 255])
def test_a_broken_connection_is_resumed(cloud, failure):
    done = call(cloud, follow=[failure])
    assert done.returncode == 0
    assert steps(cloud) == [*STEPS[:5], "describe", "follow", "delete"]


def test_a_connection_that_always_breaks_ends_and_can_be_attached_to(cloud):
    done = call(cloud, follow=[255] * 20)
    assert done.returncode == 1
    assert steps(cloud).count("follow") == 10
    assert "follow the training with --attach" in done.stderr.splitlines()[-1]
    (cloud / "calls").unlink()
    done = call(cloud, "--attach")
    assert done.returncode == 0
    assert steps(cloud) == ["follow", "delete"]
    assert "train.py" in done.stdout


def test_a_training_that_has_vanished_is_started_again(cloud):
    """The worker was rebooted: nothing trains, and there is no status."""
    done = call(cloud, statuses=("vanish", 0))
    assert done.returncode == 0
    again = ["describe", "start", "follow"]
    assert steps(cloud) == [*STEPS[:5], *again, "delete"]


def test_a_slice_that_is_not_there_yet_is_waited_for(cloud):
    done = call(cloud, describe=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    assert done.returncode == 0
    assert "state: WAITING_FOR_RESOURCES\n" in done.stderr
    assert steps(cloud) == ["create", *["describe"] * 3, *STEPS[2:]]


def test_a_failed_training_shows_all_logs_and_keeps_its_status(cloud):
    done = call(cloud, statuses=(3,))
    assert done.returncode == 3
    assert steps(cloud) == [*STEPS[:5], "logs", "delete"]
    assert f": {FLAGS[0]}\n" in done.stdout


@pytest.mark.parametrize("step", ["create", "follow"])
def test_an_interrupted_script_says_what_is_still_billed(cloud, step):
    done = call(cloud, **{step: ["SIGTERM"]})
    assert done.returncode == 130
    assert steps(cloud)[-1] == step
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: interrupted; the slice srgan may still exist")
    assert ("with --attach" in last) == (step == "follow")


def test_the_environment_is_set_on_the_hosts(cloud):
    done = call(cloud, environment={"TFDS_DATA_DIR": "gs://bucket/a b"})
    assert done.stdout.splitlines()[-5] == "gs://bucket/a b"


def test_an_unknown_option_prints_the_usage(cloud):
    done = call(cloud, "--kep")
    assert done.returncode == 2
    assert "--keep     does not delete" in done.stderr
    assert steps(cloud) == []


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
