"""Distributed runs: real processes on one machine that train, stop and fail."""

import signal
import time

import numpy as np
import pytest
import tiny
from processes import PATIENCE, examples, generators, losses, saved, until

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("processes"),
    pytest.mark.timeout(4 * PATIENCE),  # for up to four runs on a busy machine
]

STEPS = 10  # of each stage
SETTINGS = (
    "--config.batch_norm=synchronised",
    f"--config.stages[0].steps={STEPS}",
    f"--config.stages[1].steps={STEPS}",
    # Adam ignores the size of a gradient. With this low learning rate, rounding errors
    # in gradients that are almost zero have little effect.
    "--config.stages[0].learning_rate=1e-5",
    "--config.stages[1].learning_rate=1e-5",
    "--config.checkpoint.every=1000",
    "--config.evaluation.every=1000",
)


@pytest.fixture(scope="module")
def shapes(start, folder, tmp_path_factory):
    """The same run in 2 processes with 2 devices, 1 with 4, and 1 with 1."""
    directory = tmp_path_factory.mktemp("runs")
    for processes, devices in ((2, 2), (1, 4), (1, 1)):
        workdir = directory / f"{processes}x{devices}"
        shape = {"processes": processes, "devices": devices}
        with start(workdir, folder, *SETTINGS, **shape) as running:
            for process in running:
                assert process.wait() == 0, process.said()
    return directory


def assert_alike(workdir, expected):
    """Examples must be identical, and losses and parameters equal up to rounding."""
    read = examples(workdir, 2 * STEPS)
    assert len(read) == 2 * STEPS * tiny.config("").batch_size
    assert read == examples(expected, 2 * STEPS)
    ours, theirs = losses(workdir), losses(expected)
    assert [line["step"] for line in ours] == list(range(1, 2 * STEPS + 1))
    for line, other in zip(ours, theirs, strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"step", "stage"}:
            assert line[name] == pytest.approx(other[name], rel=1e-4), (line, name)
    ours, theirs = generators(workdir), generators(expected)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_allclose(
            leaf, theirs[name], rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("other", ["2x2", "1x4"])
def test_several_devices_and_processes_train_like_one(shapes, other):
    assert_alike(shapes / other, shapes / "1x1")


def test_a_run_continues_with_another_number_of_processes(
    start, folder, shapes, tmp_path
):
    """4 processes, then 2, then 4. If one of them is told to stop, all of them stop."""
    workdir, reached = tmp_path / "run", 0
    for processes, devices, step in ((4, 1, 3), (2, 2, STEPS + 3), (4, 1, None)):
        shape = {"processes": processes, "devices": devices}
        if step is not None:
            shape["KILL"] = f"SIGTERM@{step}"
        with start(workdir, folder, *SETTINGS, **shape) as running:
            for process in running:
                assert process.wait() == (75 if step else 0), process.said()
        said = running[0].said()
        assert (f"resuming at step {reached} of" in said) == (reached > 0)
        if step:
            reached = saved(workdir)[-1]
            assert f"stopped at step {reached}; run the same command to resume" in said
    assert_alike(workdir, shapes / "1x1")


@pytest.mark.parametrize(("devices", "victim"), [(1, 1), (2, 1), (2, 0)])
def test_a_process_ends_when_another_was_killed(
    start, folder, tmp_path, devices, victim
):
    """If a collective fails, the survivor prints our message; else JAX aborts it.

    With several devices, a process may wait forever in a collective. JAX aborts it at
    once if the killed process was the first, which coordinates the others, and after
    the heartbeat timeout otherwise.
    """
    workdir = tmp_path / "run"
    endless = (*SETTINGS, "--config.stages[0].steps=1000000")
    with start(workdir, folder, *endless, processes=2, devices=devices) as running:
        until(lambda: len(losses(workdir)) >= 5, running[0])
        running[victim].send(signal.SIGKILL)
        killed = time.monotonic()
        survivor = running[1 - victim]
        assert survivor.wait() not in (0, 75)
        seconds = time.monotonic() - killed
    ours, of_jax = "error: another process of this run has ended", "another task died"
    assert ours in survivor.said() or of_jax in survivor.said()
    assert seconds < 120  # The default is 10, which is too short on a busy machine.


def test_an_error_on_one_host_ends_the_others(start, folder, tmp_path):
    with start(
        tmp_path / "run", folder, *SETTINGS, processes=2, FAIL_AT="4"
    ) as running:
        assert running[1].wait() == 1
        assert running[0].wait() not in (0, 75)
    assert running[1].said().endswith("error: the disk of this host is gone\n")
    assert "another" in running[0].said()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("config.seed=1", "configuration differs"),
        ("workdir={}/another", "is not visible on all hosts"),
    ],
)
def test_processes_that_disagree_are_refused(start, folder, tmp_path, field, message):
    last = (f"--{field.format(tmp_path)}",)
    with start(tmp_path / "run", folder, processes=2, last=last) as running:
        assert running[1].wait() == 1
        assert running[0].wait() not in (0, 75)
    assert message in running[1].said()
