"""How a command ends when it cannot go on."""

import contextlib
import signal
import sys
from collections.abc import Iterator

import typer

from srgan_jax.console import notes


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """One sentence and exit status 2 for what the user can put right."""
    try:
        yield
    except (OSError, ValueError) as error:
        notes.print(f"error: {error}")
        raise typer.Exit(2) from None


@contextlib.contextmanager
def clean_termination() -> Iterator[None]:
    """Lets SIGTERM end the block as an exception, so that unfinished files go."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
