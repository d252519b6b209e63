"""A lock file that allows only one run at a time in a directory.

The file names the host and process that hold the lock. The holder updates the file's
time every few seconds. A lock is stale if its time is more than a minute old, or if its
process ran on this host and has ended. The clocks of hosts that share the directory
must agree to within half a minute. In a bucket, the lock is an object that is written,
replaced and deleted only in the generation that was read.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from srgan_jax.buckets import BucketPath
from srgan_jax.paths import AnyPath

NAME = "lock.json"
HEARTBEAT = 10.0  # seconds
STALE_AFTER = 60.0  # seconds
EXIT_TIMEOUT = 30.0  # seconds to wait for a heartbeat that storage holds up


class LockError(ValueError):
    """The directory is in use by another process, which the message names."""


class _Holder(NamedTuple):
    """The content of a lock file; host and pid are unknown while it is written."""

    text: str
    touched: float
    host: str
    pid: int

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_stale(self) -> bool:
        if time.time() - self.touched > STALE_AFTER:
            return True
        return self.is_here and not _is_running(self.pid)


class Lock:
    """A context manager that holds the lock of a directory.

    If another host holds the lock, entering waits until the lock proves stale or alive.

    Args:
      workdir: an existing directory.
      say: prints the reason for waiting.

    Raises:
      LockError: on entry, if another run holds the lock.
    """

    def __init__(self, workdir: AnyPath, say: Callable[[str], None]) -> None:
        self._workdir = workdir
        self._file: _LockFile
        if isinstance(workdir, BucketPath):
            self._file = _InBucket(workdir / NAME)
        else:
            self._file = _OnDisk(workdir / NAME)
        self._say = say
        self._text = json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "token": secrets.token_hex(6),
            }
        )
        self._released = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Lock":
        while not self._file.create(self._text):
            self._remove_stale()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join(EXIT_TIMEOUT)
        with contextlib.suppress(OSError):
            self._file.remove(self._text)

    def check(self) -> None:
        """Raises a LockError if another run took the lock, which had become stale."""
        if self._lost:
            raise LockError(
                f"another run took {self._workdir} while this process was "
                f"suspended for more than {STALE_AFTER:.0f} s; let that one go on"
            )

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                if not self._file.touch(self._text):
                    self._lost = True
                    return

    def _remove_stale(self) -> None:
        """Waits until the lock is stale and removes it.

        Raises:
          LockError: the holder is alive.
        """
        first = holder = self._read()
        if holder and not holder.is_stale and not holder.is_here:
            self._say(
                f"{self._workdir / NAME} is held by process {holder.pid} on "
                f"{holder.host}; waiting up to {STALE_AFTER:.0f} s to see whether it "
                "is still running"
            )
        ends = time.monotonic() + STALE_AFTER  # should the clocks disagree
        while first and holder and not holder.is_stale:
            if holder.is_here or holder.touched != first.touched:
                raise LockError(
                    f"{self._workdir} is in use by process {holder.pid} on "
                    f"{holder.host}; stop that run or choose another --workdir"
                )
            if time.monotonic() > ends:
                break
            time.sleep(min(HEARTBEAT / 10, 1))
            holder = self._read()
        if holder is not None:  # not released in the meantime
            self._file.remove(holder.text)

    def _read(self) -> _Holder | None:
        try:
            text, touched = self._file.read()
        except FileNotFoundError:
            return None
        try:
            content = json.loads(text)
            return _Holder(text, touched, content["host"], content["pid"])
        except (ValueError, TypeError, KeyError):
            return _Holder(text, touched, "an unknown host", 0)


class _LockFile(Protocol):
    def create(self, text: str) -> bool:
        """Creates the file; False if there is one already."""

    def read(self) -> tuple[str, float]:
        """Returns the text and the time of the last update."""

    def touch(self, text: str) -> bool:
        """Updates the file's time; False if its text is another."""

    def remove(self, text: str) -> None:
        """Deletes the file if it still has this text."""


class _OnDisk:
    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, text: str) -> bool:
        try:
            with self._path.open("x") as file:
                file.write(text)
        except FileExistsError:
            return False
        return True

    def read(self) -> tuple[str, float]:
        return self._path.read_text(), self._path.stat().st_mtime

    def touch(self, text: str) -> bool:
        if self._path.read_text() != text:
            return False
        os.utime(self._path)
        return True

    def remove(self, text: str) -> None:
        # Another process may have replaced the lock since it was read. So move it
        # aside, and delete it only if it is still the one that was read.
        aside = self._path.with_name(f".{NAME}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            if self._path.read_text() != text:
                return
            os.rename(self._path, aside)
            if aside.read_text() == text:
                aside.unlink()
            else:
                os.rename(aside, self._path)


class _InBucket:
    def __init__(self, path: BucketPath) -> None:
        self._path = path

    def create(self, text: str) -> bool:
        return self._replace(0, text)

    def read(self) -> tuple[str, float]:
        # In this order, an old text with a new time is possible, which counts as alive,
        # but never a new text with an old time.
        text = self._path.read_text()
        return text, self._path.status()[2]

    def touch(self, text: str) -> bool:
        generation, _, _ = self._path.status()
        return self._path.read_text() == text and self._replace(generation, text)

    def remove(self, text: str) -> None:
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            generation, _, _ = self._path.status()
            if self._path.read_text() == text:
                self._path.unlink(only=generation)

    def _replace(self, generation: int, text: str) -> bool:
        try:
            self._path.write_bytes(text.encode(), replacing=generation)
        except FileExistsError:
            # The answer to a first attempt may have been lost.
            return self._path.is_file() and self._path.read_text() == text
        return True


def _is_running(pid: int) -> bool:
    """True if another process of this host has this process id."""
    if pid == os.getpid():
        return False  # a restarted container may assign the same id again
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
