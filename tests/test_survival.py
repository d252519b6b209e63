"""Killed processes: what they leave, and the result of the resumed run."""

import os
import signal
import subprocess

import numpy as np
import pytest
import tiny
from processes import examples, generators, losses, saved, scores, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("survival")]

STEPS = 12  # of each stage
SETTINGS = (
    f"--config.stages[0].steps={STEPS}",
    f"--config.stages[1].steps={STEPS}",
    "--config.checkpoint.every=5",
    "--config.evaluation.every=8",
)


@pytest.fixture(scope="module")
def uninterrupted(start, folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    with start(workdir, folder, *SETTINGS) as (process,):
        assert process.wait() == 0, process.said()
    return workdir


@pytest.fixture
def run(start, folder):
    """Starts or resumes a run with a fault; returns its status and output."""

    def run(workdir, **fault):
        before = saved(workdir)
        with start(workdir, folder, *SETTINGS, **fault) as (process,):
            status = process.wait()
        said = process.said()
        assert "Traceback" not in said
        resumes = f"resuming at step {before[-1]} of {2 * STEPS}" if before else ""
        assert resumes in said
        assert resumes or "resuming" not in said
        return status, said

    return run


def terminate(run, workdir, **when):
    """Sends SIGTERM; the run must save a checkpoint at once and end with status 75."""
    status, said = run(workdir, **when)
    assert status == 75, said
    newest = saved(workdir)[-1]
    assert said.endswith(f"stopped at step {newest}; run the same command to resume\n")
    assert [line["step"] for line in losses(workdir)] == list(range(1, newest + 1))
    return newest


def kill(run, workdir, **when):
    """Sends SIGKILL; the newest complete checkpoint must remain."""
    status, said = run(workdir, **when)
    assert status == -signal.SIGKILL, said
    return saved(workdir)[-1]


def finish(run, workdir):
    status, said = run(workdir)
    assert status == 0, said


def assert_same_run(workdir, expected):
    """Generators, losses, scores and examples must be bit-identical."""
    assert losses(workdir) == losses(expected)
    assert [line["step"] for line in losses(workdir)] == list(range(1, 2 * STEPS + 1))
    assert scores(workdir) == scores(expected)
    assert [line["step"] for line in scores(workdir)] == [8, 12, 16, 24]
    assert examples(workdir, 2 * STEPS) == examples(expected, 2 * STEPS)
    ours, theirs = generators(workdir), generators(expected)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


def test_a_run_that_is_killed_repeatedly_equals_an_uninterrupted_one(
    run, uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    compiling = {"TERMINATE_IN": "steps.pretrain_step"}
    assert terminate(run, workdir, **compiling) == 1
    assert kill(run, workdir, KILL="SIGKILL@8") in (1, 5)
    assert 5 < terminate(run, workdir, TERMINATE_IN="report.evaluate") < STEPS
    assert kill(run, workdir, KILL_SAVE=str(STEPS)) in (9, 10)
    assert list(
        (workdir / "checkpoints").glob(f"{STEPS}.*")
    )  # an incomplete checkpoint
    compiling = {"TERMINATE_IN": "steps.adversarial_step"}
    assert terminate(run, workdir, **compiling) == STEPS + 1
    assert STEPS < terminate(run, workdir, KILL=f"SIGTERM@{STEPS + 4}") <= STEPS + 5
    assert kill(run, workdir, KILL_SAVE="20") < 20
    finish(run, workdir)
    assert_same_run(workdir, uninterrupted)


def test_sigint_saves_and_a_second_sigint_ends_the_run_at_once(run, tmp_path):
    workdir = tmp_path / "run"
    newest = terminate(run, workdir, KILL="SIGINT@5")
    status, said = run(workdir, KILL=f"SIGINT+SIGINT@{newest + 3}")
    assert status == -signal.SIGINT, said
    assert newest in saved(workdir)
    assert "stopped at step" not in said


@pytest.mark.parametrize(
    ("room", "newest", "messages"),
    [
        ("1000@0", (0,), ["error: the log in {} cannot be written"]),
        (
            "20000@16",
            (12, 15),
            [
                "error: no checkpoint could be written to {}/ch",
                # TensorFlow writes its events at unpredictable times.
                "error: the log in {} cannot be written",
            ],
        ),
        # The largest file is written at the very end.
        ("100000@0", (24,), ["error: [Errno 27] File too large: '{}/comparison.png'"]),
    ],
)
def test_a_limited_file_size_stops_the_run_and_it_can_be_resumed(
    run, uninterrupted, tmp_path, room, newest, messages
):
    workdir = tmp_path / "run"
    status, said = run(workdir, ROOM=room)
    assert status == 1, said
    assert max(saved(workdir), default=0) in newest
    last = said.splitlines()[-1]
    assert any(last.startswith(message.format(workdir)) for message in messages)
    finish(run, workdir)
    assert_same_run(workdir, uninterrupted)


@pytest.fixture
def small_disk(tmp_path):
    """Returns a separate file system whose size can be changed."""
    mount = tmp_path / "disk"
    mount.mkdir()

    def resize(size, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"])]
        return subprocess.run(
            [*command, "tmpfs", str(mount)], capture_output=True, check=False
        )

    if os.geteuid() != 0 or resize("400k").returncode:
        pytest.skip("only root can mount a small file system")
    yield mount, lambda size: resize(size, "remount")
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_stops_the_run_and_it_can_be_resumed(
    run, uninterrupted, small_disk
):
    mount, resize = small_disk
    workdir = mount / "run"
    status, said = run(workdir)
    assert status == 1, said
    assert str(workdir) in said.splitlines()[-1]
    assert "No space left" in said.splitlines()[-1]
    assert saved(workdir)
    resize("100m")
    finish(run, workdir)
    assert_same_run(workdir, uninterrupted)


def test_a_deleted_photograph_stops_the_run_and_is_named(start, tmp_path):
    """JPEG files are read again for each crop."""
    folder = tiny.photographs(tmp_path / "photographs")
    for path in folder.iterdir():
        with tiny.Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()
    workdir = tmp_path / "run"
    endless = (*SETTINGS, "--config.stages[0].steps=1000000")
    with start(workdir, folder, *endless) as (process,):
        until(lambda: saved(workdir), process)
        (folder / "3.jpg").unlink()
        assert process.wait() == 1, process.said()
    said = process.said().splitlines()[-1]
    assert said.startswith(f"error: {folder / '3.jpg'}: No such file")
