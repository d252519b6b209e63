"""How a command ends after an error or a signal."""

import contextlib
import signal
import sys
from collections.abc import Iterator

import typer

from srgan_jax.console import notes


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns errors that the user can fix into one sentence and exit status 2."""
    try:
        yield
    except (OSError, ValueError) as error:
        notes.print(f"error: {error}")
        raise typer.Exit(2) from None


@contextlib.contextmanager
def clean_termination() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that unfinished files are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
