"""Checkpoints are saved, restored and refused, also on a full disk."""

import json
import os
import resource
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from srgan_jax.training import parallel
from srgan_jax.training.checkpoint import CheckpointError, Checkpoints

pytestmark = [
    pytest.mark.usefixtures("collect_garbage"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def states():
    """Returns two states with different values, by step."""
    mesh = parallel.create_mesh()
    first = tiny.state(tiny.recipe())
    return {
        step: parallel.replicate(
            jax.tree.map(lambda leaf, step=step: leaf + step, first), mesh
        )
        for step in (1, 2, 3)
    }


def open_checkpoints(directory, keep=3):
    return Checkpoints(directory, keep, "photographs")


@pytest.fixture
def saved(tmp_path, states):
    """Returns a directory with the checkpoints of steps 1 and 2."""
    with open_checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, states[step], "pretrain", 0)
    return tmp_path


def restore(directory, states, step=None):
    abstract = parallel.abstract(states[1], parallel.create_mesh())
    with open_checkpoints(directory) as checkpoints:
        newest = checkpoints.latest_step()
        return newest, checkpoints.restore(step or newest, abstract)


def assert_same(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_the_restored_state_equals_the_saved_state(saved, states):
    newest, state = restore(saved, states)
    assert newest == 2
    assert_same(state, states[2])
    assert_same(restore(saved, states, step=1)[1], states[1])
    with open_checkpoints(saved) as checkpoints:
        abstract = parallel.abstract(states[1].ema, parallel.create_mesh())
        assert_same(checkpoints.restore_generator(2, abstract), states[2].ema)


def test_only_the_newest_checkpoints_are_kept(tmp_path, states):
    with open_checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, states[step], "pretrain", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def change_values(folder, change):
    """Changes all files of values, since only Orbax knows which of them it reads."""
    for path in (folder / "state" / "ocdbt.process_0" / "d").iterdir():
        change(path)


def flip_bits(path):
    content = bytearray(path.read_bytes())
    for at in range(50, len(content), 100):
        content[at] ^= 1
    path.write_bytes(content)


def shorten(path):
    os.truncate(path, 100)


def change_checksum(folder, item):
    path = folder / "stage" / "metadata"
    about = json.loads(path.read_text())
    about["checksums"][item] ^= 1
    path.write_text(json.dumps(about))


DAMAGE = {
    "bits of the values": lambda folder: change_values(folder, flip_bits),
    "the values": lambda folder: change_values(folder, Path.unlink),
    "most of the values": lambda folder: change_values(folder, shorten),
    "the index": lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
    "the description": lambda folder: (folder / "state" / "_METADATA").write_text("{"),
    "the stage": lambda folder: (folder / "stage" / "metadata").write_text("{"),
    # Orbax and its compression do not detect most bit errors in the values.
    "the state alone": lambda folder: change_checksum(folder, "state"),
    "the generator alone": lambda folder: change_checksum(folder, "generator"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_previous_one_loads(
    saved, states, damage, tmp_path_factory
):
    DAMAGE[damage](saved / "2")
    with pytest.raises(CheckpointError) as caught:
        restore(saved, states)
    assert str(saved / "2") in str(caught.value)
    assert "continue from step 1" in str(caught.value)
    (saved / "2").rename(tmp_path_factory.mktemp("away") / "2")
    newest, state = restore(saved, states)
    assert newest == 1
    assert_same(state, states[1])


def test_an_unfinished_checkpoint_is_ignored(saved, states):
    (saved / "2").rename(saved / "2.orbax-checkpoint-tmp")
    newest, state = restore(saved, states)
    assert newest == 1
    assert_same(state, states[1])


@pytest.fixture
def room_for_small_files():
    """Simulates a full disk by limiting the size of files that this process writes."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_save_on_a_full_disk_is_reported_and_the_previous_one_loads(
    saved, states, room_for_small_files
):
    def save():
        with open_checkpoints(saved) as checkpoints:
            room_for_small_files(2_000)
            checkpoints.save(3, states[3], "pretrain", 0)
            for _ in range(6_000):
                checkpoints.check()  # The training loop does this at each step.
                time.sleep(0.01)

    with pytest.raises(CheckpointError) as caught:
        save()
    room_for_small_files(resource.RLIM_INFINITY)
    assert f"no checkpoint could be written to {saved}" in str(caught.value)
    assert "continue from step 2" in str(caught.value)
    newest, state = restore(saved, states)
    assert newest == 2
    assert_same(state, states[2])


def test_the_generator_alone_is_verified_by_its_own_checksum(saved, states):
    """The next stage restores only the generator."""
    change_checksum(saved / "2", "generator")
    change_checksum(saved / "1", "state")
    abstract = parallel.abstract(states[1].ema, parallel.create_mesh())
    with open_checkpoints(saved) as checkpoints:
        with pytest.raises(CheckpointError, match="'generator' has changed"):
            checkpoints.restore_generator(2, abstract)
        assert_same(checkpoints.restore_generator(1, abstract), states[1].ema)
