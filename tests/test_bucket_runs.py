"""Real processes that train in a bucket, are killed and resume, while requests fail.

A proxy between the processes and the storage server lets requests fail.
"""

import signal

import numpy as np
import pytest
import tiny
from bucket_server import SILENT, variables
from processes import examples, generators, losses, scores, until

from srgan_jax.training import checkpoint

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("buckets")]

STEPS = 6  # of each stage
SETTINGS = (
    f"--config.stages[0].steps={STEPS}",
    f"--config.stages[1].steps={STEPS}",
    "--config.checkpoint.every=4",
    "--config.evaluation.every=100",
)


@pytest.fixture
def photographs(tmp_path, bucket):
    """Returns the same images in a local folder and in a bucket."""
    folder = tiny.photographs(tmp_path / "photographs")
    for path in folder.iterdir():
        (bucket / "photographs" / path.name).upload(path)
    return folder, bucket / "photographs"


@pytest.fixture
def begin(start, tmp_path, bucket_proxy, monkeypatch):
    """Starts the processes of a run in a bucket."""
    folder = tmp_path / "read"
    folder.mkdir()
    monkeypatch.setenv("EXAMPLES", str(folder))
    return lambda *arguments, **options: start(
        *arguments, *SETTINGS, **variables(bucket_proxy.address) | options
    )


def fetch(run, folder):
    """Copies a run from the bucket, as it is, and returns the copy."""
    folder.mkdir()
    for file in run.files():
        target = folder / str(file.relative_to(run))
        target.parent.mkdir(parents=True, exist_ok=True)
        file.download(target)
    return folder


def committed(run):
    marks = [path for path in run.files() if path.name == checkpoint.COMMITTED]
    steps = [path.parent for path in marks]
    return sorted(
        int(path.name) for path in steps if path.parent == run / "checkpoints"
    )


def kill_all(running):
    for process in running:
        process.send(signal.SIGKILL)


def assert_same_run(workdir, read, expected):
    """Losses, scores, generators and examples must be bit-identical."""
    assert losses(workdir) == losses(expected)
    assert [line["step"] for line in losses(workdir)] == list(range(1, 2 * STEPS + 1))
    assert scores(workdir) == scores(expected)
    assert examples(read, 2 * STEPS) == examples(expected, 2 * STEPS)
    ours, theirs = generators(workdir), generators(expected)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


def test_two_processes_that_are_killed_end_like_a_local_run(
    begin, start, photographs, bucket, bucket_proxy, tmp_path
):
    local, remote = photographs
    expected, run = tmp_path / "expected", bucket / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EXAMPLES")
        with start(expected, local, *SETTINGS, processes=2) as running:
            for process in running:
                assert process.wait() == 0, process.said()

    # One process is killed, which leaves its lock; the other notices.
    with begin(run, remote, processes=2) as running:
        until(lambda: 4 in committed(run), running[0])
        running[0].send(signal.SIGKILL)
        assert running[1].wait() not in (0, 75), running[1].said()
    assert (run / "lock.json").exists()
    first = committed(run)[-1]
    assert first in (4, 6, 8)

    # Both are killed when all of the next checkpoint is written but its mark.
    following = {4: 6, 6: 8, 8: 12}[first]
    mark = rf"/{following}/commit_success.txt"
    with begin(run, remote, processes=2) as running:
        bucket_proxy.plan(mark, lambda: kill_all(running) or "lost", times=None)
        for process in running:
            assert process.wait() == -signal.SIGKILL, process.said()
    assert f"resuming at step {first} of {2 * STEPS}" in running[0].said()
    bucket_proxy.clear()
    assert any(str(following) in file.parts for file in run.files())
    assert committed(run)[-1] == first
    # What was said to be saved is there.
    steps = [line["step"] for line in losses(fetch(run, tmp_path / "killed"))]
    assert steps[:first] == list(range(1, first + 1))

    # Every 100th request fails, in all ways in turn.
    bucket_proxy.plan_every(100)
    with begin(run, remote, processes=2) as running:
        for process in running:
            assert process.wait() == 0, process.said()
    assert f"resuming at step {first} of {2 * STEPS}" in running[0].said()
    assert len({kind for kind, _ in bucket_proxy.failed}) == 5
    bucket_proxy.clear()
    finished = fetch(run, tmp_path / "finished")
    assert_same_run(finished, tmp_path / "read", expected)
    names = {path.name for path in finished.iterdir()}
    assert {path.name for path in expected.iterdir() if "." in path.name} - {
        *(path.name for path in expected.glob("examples-*")),
        *(path.name for path in expected.glob("events.*")),
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "lock.json" not in names
    assert not any(name.endswith(".part") for name in names)


def test_a_run_that_is_told_to_stop_saves_in_the_bucket(
    begin, photographs, bucket, tmp_path
):
    _, remote = photographs
    run = bucket / "run"
    with begin(run, remote, KILL="SIGTERM@1") as (process,):
        assert process.wait() == 75, process.said()
    (step,) = committed(run)
    assert process.said().endswith(
        f"stopped at step {step}; run the same command to resume\n"
    )
    lines = losses(fetch(run, tmp_path / "stopped"))
    assert [line["step"] for line in lines] == list(range(1, step + 1))
    assert not (run / "lock.json").exists()


def test_a_connection_that_goes_silent_is_given_up(
    begin, photographs, bucket_proxy, bucket
):
    _, remote = photographs
    run = bucket / "run"
    bucket_proxy.plan("POST /upload/.*/ocdbt", SILENT)  # by TensorStore
    bucket_proxy.plan("POST /upload/.*/stage/metadata", SILENT)  # by gcsfs
    with begin(run, remote, KILL="SIGTERM@1", SILENCE_SECONDS="2") as (process,):
        assert process.wait(120) == 75, process.said()
    silent = [request for fault, request in bucket_proxy.failed if fault == SILENT]
    assert len(silent) == 2
    assert len(committed(run)) == 1


def test_a_bucket_that_fails_for_long_ends_the_run_with_a_sentence(
    begin, photographs, bucket, bucket_proxy
):
    _, remote = photographs
    run = bucket / "run"
    with begin(run, remote, RETRY_SECONDS="3") as (process,):
        until(lambda: 4 in committed(run), process)
        bucket_proxy.plan("", 503, times=None)
        assert process.wait() == 1, process.said()
    bucket_proxy.clear()
    said = process.said()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: "), said
    assert str(run) in said.splitlines()[-1]
    assert 4 in committed(run)
