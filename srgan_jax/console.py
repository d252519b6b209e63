"""What the commands say beside their figures: notes and refusals, on standard error."""

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console

UNKNOWN_WIDTH = 140  # columns, where no terminal says how many there are
notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """One sentence and exit status 2 for what the user can put right."""
    try:
        yield
    except (OSError, ValueError) as error:
        notes.print(f"error: {error}")
        raise typer.Exit(2) from None


def figures() -> Console:
    """Standard output, for tables: not folded where it is a file or a pipe."""
    width = None if Console().is_terminal else UNKNOWN_WIDTH
    return Console(highlight=False, width=width)
