"""Files as this package writes them: whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block succeeds.

    Raises:
      OSError: it cannot be written; names `path`.
    """
    # Short whatever the name, which may be as long as the file system allows.
    unfinished = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:  # where the disk is full, Python names no file
        if error.errno is None or error.filename not in (None, str(unfinished)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)
