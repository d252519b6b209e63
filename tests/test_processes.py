"""Several hosts: real processes over loopback, their examples, states and deaths."""

import os
import signal
import time

import jax
import numpy as np
import pytest
import tiny
from processes import examples, losses, started, until

from srgan_jax.training import report
from srgan_jax.weights import store

pytestmark = pytest.mark.skipif(
    "SRGAN_JAX_PROCESSES" not in os.environ,
    reason="starts and kills processes for minutes: set SRGAN_JAX_PROCESSES=1",
)

STEPS = 10  # of each stage
SETTINGS = (
    "--config.batch_norm=synchronised",
    f"--config.stages[0].steps={STEPS}",
    f"--config.stages[1].steps={STEPS}",
    # A rate at which Adam, to which a gradient's size is nothing, makes little of the
    # rounding of gradients that are all but zero.
    "--config.stages[0].learning_rate=1e-5",
    "--config.stages[1].learning_rate=1e-5",
    "--config.checkpoint.every=1000",
    "--config.evaluation.every=1000",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.photographs(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="module")
def shapes(folder, tmp_path_factory):
    """The same run as 2 processes with 2 devices, as 1 with 4, and as 1 with 1."""
    directory = tmp_path_factory.mktemp("runs")
    for processes, devices in ((2, 2), (1, 4), (1, 1)):
        workdir = directory / f"{processes}x{devices}"
        shape = {"processes": processes, "devices": devices}
        with started(workdir, folder, *SETTINGS, **shape) as running:
            for process in running:
                assert process.wait() == 0, process.said()
    return directory


def assert_alike(workdir, expected):
    """The same examples exactly; the same losses and parameters to rounding."""
    read = examples(workdir, 2 * STEPS)
    assert len(read) == 2 * STEPS * tiny.config("").batch_size
    assert read == examples(expected, 2 * STEPS)
    ours, theirs = losses(workdir), losses(expected)
    assert [line["step"] for line in ours] == list(range(1, 2 * STEPS + 1))
    for line, other in zip(ours, theirs, strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"step", "stage"}:
            assert line[name] == pytest.approx(other[name], rel=1e-4), (line, name)
    for stage in ("pretrain", "adversarial"):
        _, ours = store.load_generator(report.generator_file(workdir, stage))
        _, theirs = store.load_generator(report.generator_file(expected, stage))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("other", ["2x2", "1x4"])
def test_several_devices_and_processes_train_as_one(shapes, other):
    assert_alike(shapes / other, shapes / "1x1")


def test_checkpoints_go_from_two_processes_to_one_and_back(folder, shapes, tmp_path):
    """Each is told to stop in the middle; of two, one is told, and both stop."""
    workdir = tmp_path / "run"
    for processes, devices, reach in ((2, 2, 3), (1, 4, STEPS + 3), (2, 2, None)):
        shape = {"processes": processes, "devices": devices}
        with started(workdir, folder, *SETTINGS, **shape) as running:
            status = 0
            if reach is not None:
                until(lambda n=reach: len(losses(workdir)) >= n, running[0])
                running[-1].send(signal.SIGTERM)
                status = 75
            for process in running:
                assert process.wait() == status, process.said()
    assert_alike(workdir, shapes / "1x1")


def kill_one(folder, tmp_path, victim):
    """What the survivor of two processes says, and how soon it has ended."""
    workdir = tmp_path / "run"
    endless = "--config.stages[0].steps=1000000"
    with started(workdir, folder, endless, processes=2) as running:
        until(lambda: len(losses(workdir)) >= 5, running[0])
        running[victim].send(signal.SIGKILL)
        began = time.monotonic()
        survivor = running[1 - victim]
        assert survivor.wait() not in (0, 75)
        return survivor.said(), time.monotonic() - began


def test_a_process_ends_when_another_was_killed(folder, tmp_path):
    said, seconds = kill_one(folder, tmp_path, victim=1)
    assert "error: another process of this run has ended" in said
    assert "continue from the newest checkpoint" in said
    assert seconds < 60


def test_a_process_ends_when_the_first_was_killed(folder, tmp_path):
    """It held the rendezvous: JAX itself ends the others."""
    said, seconds = kill_one(folder, tmp_path, victim=0)
    assert "another task died" in said or "another process of this run" in said
    assert seconds < 60


def test_an_error_on_one_host_ends_the_others(folder, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    monkeypatch.setenv("FAIL_AT", "4@1")
    with started(workdir, folder, processes=2) as running:
        assert running[1].wait() == 1
        assert running[0].wait() not in (0, 75)
    assert "error: the disk of this host is gone" in running[1].said()
    assert "another" in running[0].said()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("config.seed=1", "configuration differs"),
        ("workdir={}/another", "not a directory that all hosts share"),
    ],
)
def test_processes_that_were_told_different_things_are_refused(
    folder, tmp_path, field, message
):
    last = (f"--{field.format(tmp_path)}",)
    with started(tmp_path / "run", folder, processes=2, last=last) as running:
        assert running[1].wait() == 1
        assert running[0].wait() != 0
    assert message in running[1].said()
