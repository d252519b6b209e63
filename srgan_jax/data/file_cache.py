"""Keeps the files of a bucket on the local disk, so that each is fetched only once."""

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from srgan_jax.buckets import BucketPath
from srgan_jax.paths import replacing, stamp


class FileCache:
    """A folder of files that were read from a bucket; a new generation is a new file.

    It takes at most half of the space that would be free without it. Nothing is evicted
    during a run, since an epoch reads every file once, so any file is as useful on the
    disk as any other. When it is opened, files that the source no longer has are
    deleted, and the folders of other sources beside it, oldest first, if this source
    would not fit.

    Args:
      directory: the folder for this source; it is created.
      files: the files of the source.
    """

    def __init__(self, directory: Path, files: Sequence[BucketPath]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.touch()  # the newest among the folders beside it
        self._directory = directory
        self._lock = threading.Lock()
        known = {_name(file) for file in files}
        used = 0
        for kept, status in _listed(directory):
            if kept.name in known:
                used += status.st_size
            else:
                kept.unlink(missing_ok=True)
        needed = sum(stamp(file)[1] for file in files)
        others = [(s.st_mtime, p) for p, s in _listed(directory.parent)]
        for _, other in sorted(others):
            if self._largest(used) >= needed:
                break
            if other != directory:
                shutil.rmtree(other, ignore_errors=True)
        self._room = self._largest(used) - used

    def read(self, path: BucketPath) -> bytes:
        """Returns the contents of a file.

        Raises:
          OSError: the file is neither here nor in the bucket, or cannot be read.
        """
        _, size = stamp(path)
        kept = self._directory / _name(path)
        with contextlib.suppress(OSError):
            data = kept.read_bytes()
            if len(data) == size:  # a crash of the machine may have cut it off
                return data
        data = path.read_bytes()
        with self._lock:
            fits = len(data) <= self._room
            self._room -= len(data) if fits else 0
        if fits:
            with contextlib.suppress(OSError), replacing(kept) as unfinished:
                unfinished.write_bytes(data)
        return data

    def _largest(self, used: int) -> int:
        """Half of the space that would be free without the `used` bytes."""
        return (shutil.disk_usage(self._directory).free + used) // 2


def _listed(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # deleted by another process
            yield path, path.stat()


def _name(path: BucketPath) -> str:
    generation, _ = stamp(path)
    return hashlib.sha256(f"{path}#{generation}".encode()).hexdigest()
