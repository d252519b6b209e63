"""Paths of local files and of files in buckets, and the atomic writing of both."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from srgan_jax import buckets
from srgan_jax.buckets import BucketPath

AnyPath = Path | BucketPath


def parse(path: str | os.PathLike[str]) -> AnyPath:
    """Makes a path from `gs://BUCKET/PATH`, or from a local path.

    Raises:
      ValueError: the path is of another scheme, or the libraries for buckets are not
        installed.
    """
    if isinstance(path, Path | BucketPath):
        return path
    text = os.fspath(path)
    if text.startswith(buckets.SCHEME):
        return buckets.parse(text)
    _refuse_scheme(text, "gs://BUCKET/PATH or a local path")
    return Path(text)


def parse_local(path: str | os.PathLike[str]) -> Path:
    """Makes a path from a local path.

    Raises:
      ValueError: the path is in a bucket.
    """
    _refuse_scheme(os.fspath(path), "a local path")
    return Path(path)


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yields a temporary file that replaces `path` if the block succeeds.

    The temporary file lies in the same folder, or in the system's temporary folder if
    `path` is in a bucket. It is removed if the block fails.

    Raises:
      OSError: the file cannot be written; the error names `path`.
    """
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory() as folder:
            unfinished = Path(folder, path.name)
            yield unfinished
            path.upload(unfinished)
        return
    # A short name, because that of `path` may already be as long as is allowed.
    unfinished = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:  # Python names no file if the disk is full
        if error.errno is None or error.filename not in (None, str(unfinished)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def local_copy(path: AnyPath) -> Iterator[Path]:
    """Yields a local file with the contents of `path`: itself, or a temporary copy.

    Raises:
      OSError: the file does not exist, or cannot be read.
    """
    if not isinstance(path, BucketPath):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        path.download(copy)
        yield copy


@contextlib.contextmanager
def reading(path: AnyPath) -> Iterator[BinaryIO]:
    """Opens a file for reading parts of it, such as an image's header.

    Raises:
      OSError: the file does not exist, or cannot be read.
    """
    opened = path.reading() if isinstance(path, BucketPath) else path.open("rb")
    with opened as file:
        yield file


def stamp(path: AnyPath) -> tuple[int, int]:
    """Returns two numbers that change with a file's contents; the second is its size.

    Raises:
      OSError: the file does not exist, or cannot be read.
    """
    if isinstance(path, BucketPath):
        return path.stamp or path.status()[:2]
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def _refuse_scheme(text: str, expected: str) -> None:
    scheme, separator, _ = text.partition("://")
    if separator and "/" not in scheme:
        raise ValueError(
            f"{text}: expected {expected}; mount the storage as a folder to use its "
            "files"
        )
