"""Reads the headers of many image files, with progress and an index between starts.

The index holds what the headers said, by path, modification time and size. It lives in
a directory of the caller's choice. The commands choose the user's cache: runs in
different work directories share a folder of images, the folder itself may be read-only,
and a lost index costs nothing but time.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import TypeVar

from rich import progress

from srgan_jax import console, paths
from srgan_jax.data.source import printable
from srgan_jax.images import decode
from srgan_jax.images.decode import Header, ImageError

logger = logging.getLogger(__name__)

LARGE = 1_000  # headers: fewer are read again within a second
SECONDS_BETWEEN_LINES = 5.0

T = TypeVar("T")
Found = Header | ImageError
Entry = list[int]  # modification time in ns, bytes, height, width, whether JPEG


def headers(
    name: str, labels: Sequence[str], inspect: Callable[[int], Header]
) -> list[Found]:
    """Calls `inspect` for each index in parallel; errors are returned, not raised.

    Shows a progress bar on a terminal for a large source. Elsewhere prints a line to
    standard error every few seconds.
    """

    def attempt(index: int) -> Found:
        try:
            return inspect(index)
        except Exception as error:  # Pillow's plugins raise errors of any type
            return decode.describe_error(labels[index], error)

    with futures.ThreadPoolExecutor() as pool:
        results = pool.map(attempt, range(len(labels)))
        return list(_with_progress(results, name, len(labels)))


def file_headers(
    name: str, files: Sequence[Path], labels: Sequence[str], index_dir: Path | None
) -> list[Found]:
    """The headers of files; those of unchanged files come from the index.

    Args:
      name: of the source, for progress.
      files: absolute or relative paths.
      labels: printable names of the files for errors.
      index_dir: directory of indices, or None to keep none.
    """
    place = None if index_dir is None else index_dir / _index_name(files)
    known = {} if place is None else _read_index(place)
    stamps: dict[int, Entry] = {}

    def inspect(index: int) -> Header:
        status = os.stat(files[index])
        stamps[index] = [status.st_mtime_ns, status.st_size]
        entry = known.get(printable(files[index].absolute()))
        if entry and entry[:2] == stamps[index]:
            height, width, jpeg = entry[2:]
            return Header(height, width, bool(jpeg))
        with open(files[index], "rb") as file:
            return decode.read_header(file)

    found = headers(name, labels, inspect)
    entries = {
        printable(files[index].absolute()): [*stamps[index], *map(int, header)]
        for index, header in enumerate(found)
        if isinstance(header, Header)
    }
    changed = sum(known.get(path) != entry for path, entry in entries.items())
    if place is not None and changed >= LARGE:
        _write_index(place, entries)
    return found


def _with_progress(results: Iterable[T], name: str, total: int) -> Iterator[T]:
    if total >= LARGE and console.notes.is_terminal:
        yield from progress.track(
            results,
            f"reading the headers of {name}",
            total=total,
            console=console.notes,
            transient=True,
        )
        return
    told = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            console.notes.print(f"{name}: read {count:,} of {total:,} headers")


def _index_name(files: Sequence[Path]) -> str:
    """One index for each folder of images, whatever files come and go in it."""
    folder = os.path.commonpath([file.parent.absolute() for file in files])
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16] + ".json"


def _read_index(path: Path) -> dict[str, Entry]:
    """An index, empty if there is none or if it is damaged: it is then made anew."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, list)
        and len(entry) == 5
        and all(isinstance(number, int) for number in entry)
    }


def _write_index(path: Path, entries: dict[str, Entry]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with paths.replacing(path) as unfinished:
            unfinished.write_text(json.dumps(entries))
    except OSError as error:
        logger.warning("the next start reads all headers again: %s", error)
