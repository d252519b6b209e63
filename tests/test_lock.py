"""The lock allows only one run at a time in a directory."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from srgan_jax.training import lock
from srgan_jax.training.lock import Lock, LockError


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.05)
    monkeypatch.setattr(lock, "STALE_AFTER", 0.6)


@pytest.fixture
def said():
    return []


def write(workdir, pid, host=None, age=0.0):
    path = workdir / lock.NAME
    path.write_text(json.dumps({"host": host or socket.gethostname(), "pid": pid}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_lock_is_held_refreshed_and_released(tmp_path, said):
    path = tmp_path / lock.NAME
    with Lock(tmp_path, said.append):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        os.utime(path, (0, 0))
        time.sleep(0.3)
        assert time.time() - path.stat().st_mtime < 10
    assert list(tmp_path.iterdir()) == []
    assert said == []


def test_a_second_run_on_the_same_host_is_refused_at_once(tmp_path, said):
    other = os.getppid()
    path = write(tmp_path, other)
    with pytest.raises(LockError) as caught, Lock(tmp_path, said.append):
        pass
    assert str(caught.value) == (
        f"{tmp_path} is in use by process {other} on {socket.gethostname()}; "
        "stop that run or choose another --workdir"
    )
    assert path.exists()


def test_the_lock_of_a_dead_process_is_replaced_at_once(tmp_path, said):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    write(tmp_path, process.pid)
    began = time.monotonic()
    with Lock(tmp_path, said.append):
        assert time.monotonic() - began < 0.5
    assert said == []


def test_a_lock_of_another_host_is_replaced_once_it_is_stale(tmp_path, said):
    write(tmp_path, 1, host="elsewhere", age=0.1)
    began = time.monotonic()
    with Lock(tmp_path, said.append):
        assert time.monotonic() - began > 0.3
    assert "process 1 on elsewhere; waiting" in said[0]


def test_a_lock_that_another_host_refreshes_is_respected(tmp_path, said):
    path = write(tmp_path, 1, host="elsewhere", age=0.1)
    timer = threading.Timer(0.2, os.utime, (path,))
    timer.start()
    with pytest.raises(LockError, match="process 1 on elsewhere"):
        Lock(tmp_path, said.append).__enter__()
    timer.join(60)
    assert path.exists()


def test_a_lock_whose_time_lies_in_the_future_is_replaced(tmp_path, said):
    """The clock of the host that died was wrong, or that of this one is."""
    write(tmp_path, 1, host="elsewhere", age=-3600)
    with Lock(tmp_path, said.append):
        pass
    assert "process 1 on elsewhere; waiting" in said[0]


def test_a_storage_that_does_not_answer_does_not_hold_up_the_end(
    tmp_path, said, monkeypatch
):
    monkeypatch.setattr(lock, "EXIT_TIMEOUT", 0.1)
    begun, answer = threading.Event(), threading.Event()

    def touch(self, text):
        begun.set()
        return answer.wait(60)

    monkeypatch.setattr(lock._OnDisk, "touch", touch)
    began = time.monotonic()
    with Lock(tmp_path, said.append) as held:
        assert begun.wait(60)
    assert time.monotonic() - began < 30
    answer.set()
    held._thread.join(60)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}'])
def test_a_truncated_lock_is_replaced_once_it_is_stale(tmp_path, said, text):
    (tmp_path / lock.NAME).write_text(text)
    with Lock(tmp_path, said.append):
        pass
    assert "an unknown host" in said[0]


def test_a_run_whose_lock_was_taken_while_it_was_suspended_stops(tmp_path, said):
    """Two processes must not go on writing into one directory."""
    with Lock(tmp_path, said.append) as held:
        held.check()
        path = write(tmp_path, os.getppid())
        os.utime(path, (0, 0))
        time.sleep(0.3)
        with pytest.raises(LockError, match=f"another run took {tmp_path}"):
            held.check()
    assert path.stat().st_mtime == 0  # neither touched nor removed
