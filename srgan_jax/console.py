"""Consoles of the commands: notes on standard error, figures on standard output.

Both print names and numbers as they are: no markup, no emoji, no highlighting.
"""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

UNKNOWN_WIDTH = 140  # columns, where no terminal says how many there are
notes = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def figures() -> Console:
    """Standard output, for tables: not folded where it is a file or a pipe."""
    width = None if Console().is_terminal else UNKNOWN_WIDTH
    return Console(highlight=False, width=width)


def progress_bars() -> Progress:
    """Bars that vanish at their end, on a terminal; nothing elsewhere."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )
