"""Atomic writing of files."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary file that replaces `path` if the block succeeds.

    The temporary file lies in the same folder. It is removed if the block fails.

    Raises:
      OSError: the file cannot be written; the error names `path`.
    """
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
