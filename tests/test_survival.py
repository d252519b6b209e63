"""Real processes, killed: what they leave, and how the continued run ends."""

import os
import signal
import subprocess

import numpy as np
import pytest
import tiny
from processes import examples, losses, metrics, started, until

from srgan_jax.training import report
from srgan_jax.weights import store

pytestmark = pytest.mark.skipif(
    "SRGAN_JAX_PROCESSES" not in os.environ,
    reason="starts and kills processes for minutes: set SRGAN_JAX_PROCESSES=1",
)

STEPS = 30  # of each stage
SETTINGS = (
    f"--config.stages[0].steps={STEPS}",
    f"--config.stages[1].steps={STEPS}",
    "--config.checkpoint.every=7",
    "--config.evaluation.every=20",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.photographs(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    with started(workdir, folder, *SETTINGS) as (process,):
        assert process.wait() == 0, process.said()
    return workdir


def saving(workdir):
    """Checkpoints that are being written."""
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def saved(workdir):
    """Steps of the complete checkpoints."""
    names = (path.name for path in (workdir / "checkpoints").iterdir())
    return sorted(int(name) for name in names if name.isdecimal())


def terminate(workdir, folder, steps):
    """SIGTERM after so many steps: a checkpoint at once, and the right status."""
    with started(workdir, folder, *SETTINGS) as (process,):
        until(lambda: len(losses(workdir)) >= steps, process)
        process.send(signal.SIGTERM)
        assert process.wait() == 75, process.said()
    newest = saved(workdir)[-1]
    assert f"stopped at step {newest}; the same command resumes" in process.said()
    assert [line["step"] for line in losses(workdir)] == list(range(1, newest + 1))
    return newest


def kill_while_saving(workdir, folder, beyond):
    """SIGKILL with an unfinished checkpoint of a step beyond one; its path."""
    with started(workdir, folder, *SETTINGS) as (process,):
        while True:
            until(lambda: saving(workdir) and len(losses(workdir)) > beyond, process)
            process.send(signal.SIGSTOP)  # a save that is held cannot finish
            unfinished = saving(workdir)
            if unfinished:
                process.send(signal.SIGKILL)
                assert process.wait() == -signal.SIGKILL
                return unfinished[0]
            process.send(signal.SIGCONT)


def finish(workdir, folder):
    with started(workdir, folder, *SETTINGS) as (process,):
        assert process.wait() == 0, process.said()
    return process.said()


def test_a_run_killed_in_both_stages_ends_like_one_left_alone(
    folder, uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    first = terminate(workdir, folder, 4)
    assert 4 <= first < STEPS
    unfinished = kill_while_saving(workdir, folder, first)
    newest = saved(workdir)[-1]
    assert int(unfinished.name.partition(".")[0]) > newest
    second = terminate(workdir, folder, STEPS + 5)
    assert STEPS + 5 <= second < 2 * STEPS
    said = finish(workdir, folder)
    assert f"resuming at step {second} of {2 * STEPS}" in said
    assert_same_run(workdir, uninterrupted)


def assert_same_run(workdir, expected):
    """The same bits in every generator, every loss, every score, every example."""
    assert losses(workdir) == losses(expected)
    assert [line["step"] for line in losses(workdir)] == list(range(1, 2 * STEPS + 1))
    scores = [
        [line for line in metrics(each) if "evaluation_psnr" in line]
        for each in (workdir, expected)
    ]
    assert scores[0] == scores[1]
    assert [line["step"] for line in scores[0]] == [20, 30, 40, 60]
    assert examples(workdir, 2 * STEPS) == examples(expected, 2 * STEPS)
    for stage in ("pretrain", "adversarial", None):
        _, ours = store.load_generator(report.generator_file(workdir, stage))
        _, theirs = store.load_generator(report.generator_file(expected, stage))
        assert_same(ours, theirs)


def assert_same(ours, expected):
    import jax

    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own; its size can be changed."""
    mount = tmp_path / "disk"
    mount.mkdir()

    def resize(size, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"])]
        return subprocess.run(
            [*command, "tmpfs", str(mount)], capture_output=True, check=False
        )

    if os.geteuid() != 0 or resize("900k").returncode:
        pytest.skip("only root can mount a small file system")
    yield mount, lambda size: resize(size, "remount")
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_stops_the_run_and_with_room_it_goes_on(
    folder, uninterrupted, small_disk
):
    mount, resize = small_disk
    workdir = mount / "run"
    with started(workdir, folder, *SETTINGS) as (process,):
        assert process.wait() == 1, process.said()
    said = process.said()
    assert str(workdir) in said.strip().splitlines()[-1]
    newest = saved(workdir)[-1]
    resize("100m")
    assert f"resuming at step {newest} of" in finish(workdir, folder)
    assert_same_run(workdir, uninterrupted)


def test_a_photograph_that_vanishes_stops_the_run_with_its_name(tmp_path):
    """JPEG files are read again each time."""
    folder = tiny.photographs(tmp_path / "photographs")
    for path in folder.iterdir():
        with tiny.Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()
    workdir = tmp_path / "run"
    endless = "--config.stages[0].steps=1000000"
    with started(workdir, folder, endless) as (process,):
        until(lambda: len(losses(workdir)) >= 5, process)
        (folder / "3.jpg").unlink()
        assert process.wait() == 1, process.said()
    assert f"error: {folder / '3.jpg'}: No such file" in process.said()
    assert saved(workdir)[-1] >= 4
