"""Keeps the files of a bucket on the local disk, so that each is fetched only once."""

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from srgan_jax.buckets import BucketPath
from srgan_jax.paths import replacing, stamp


class FileCache:
    """A folder of files that were read from a bucket; a new generation is a new file.

    It grows by at most half of the space that is free when it is opened. Nothing is
    evicted from then on, since an epoch reads every file once, so any file is as useful
    on the disk as any other. The folders of other sources beside it are deleted, oldest
    first, if this source would not fit.

    Args:
      directory: the folder for this source; it is created.
      files: the files of the source.
    """

    def __init__(self, directory: Path, files: Sequence[BucketPath]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.touch()  # the newest among the folders beside it
        self._directory = directory
        self._lock = threading.Lock()
        needed = sum(stamp(file)[1] for file in files)
        others = [path for path in directory.parent.iterdir() if path != directory]
        for other in sorted(others, key=lambda path: path.stat().st_mtime):
            if self._free() >= needed:
                break
            shutil.rmtree(other, ignore_errors=True)
        self._room = self._free()

    def read(self, path: BucketPath) -> bytes:
        """Returns the contents of a file.

        Raises:
          OSError: the file is neither here nor in the bucket, or cannot be read.
        """
        generation, size = stamp(path)
        name = hashlib.sha256(f"{path}#{generation}".encode()).hexdigest()
        kept = self._directory / name
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

    def _free(self) -> int:
        return shutil.disk_usage(self._directory).free // 2
