"""Console output of the commands: notes on standard error, tables on standard output.

Both print names and numbers verbatim: without markup, emoji or highlighting.
"""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

UNKNOWN_WIDTH = 140  # columns to assume where the output is not a terminal
notes = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def figures() -> Console:
    """Standard output for tables, which are not wrapped in a file or a pipe."""
    width = None if Console().is_terminal else UNKNOWN_WIDTH
    return Console(highlight=False, width=width)


def progress_bars() -> Progress:
    """Progress bars that vanish when they are done; shown on a terminal only."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )
