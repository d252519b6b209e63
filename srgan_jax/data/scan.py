"""Reads the headers of many image files, shows progress and keeps an index.

The index stores each file's image size, file size and modification time (or generation,
in a bucket), so that the next start need not read the headers again. The caller chooses
its directory. The commands use the user's cache directory: runs in different work
directories share it, the folder of images may be read-only, and a lost index costs only
time. For a bucket it is the run's directory, where all hosts of a run find it.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from types import MappingProxyType
from typing import TypeVar

from rich import progress

from srgan_jax import console, paths
from srgan_jax.bucket_client import BucketError
from srgan_jax.buckets import BucketPath
from srgan_jax.data.source import SourceError
from srgan_jax.images import decode
from srgan_jax.images.decode import Header
from srgan_jax.images.image import ImageError
from srgan_jax.paths import AnyPath

logger = logging.getLogger(__name__)

LARGE = 1_000  # headers; reading fewer takes less than a second
SECONDS_BETWEEN_LINES = 5.0

T = TypeVar("T")
Found = Header | ImageError
# Modification time in ns or generation, bytes, height, width, whether JPEG.
Entry = list[int]


def headers(
    name: str,
    labels: Sequence[str],
    inspect: Callable[[int], Header],
    known: Mapping[int, Header] = MappingProxyType({}),
) -> list[Found]:
    """Reads the header of each image; returns an error for each unreadable one.

    For a large source, shows a progress bar on a terminal; elsewhere prints a line to
    standard error every few seconds.

    Args:
      name: name of the source, shown with the progress.
      labels: printable names of the images, for errors.
      inspect: function that reads the header of an image, given its index; called in
        parallel.
      known: headers by index that need not be read.
    """

    def attempt(index: int) -> Found:
        try:
            return inspect(index)
        except Exception as error:  # decoders raise exceptions of any type
            return decode.describe_error(labels[index], error)

    unknown = [index for index in range(len(labels)) if index not in known]
    with futures.ThreadPoolExecutor() as pool:
        results = _with_progress(pool.map(attempt, unknown), name, len(unknown))
        found = {**known, **dict(zip(unknown, results, strict=True))}
    return [found[index] for index in range(len(labels))]


def file_headers(
    name: str, files: Sequence[AnyPath], labels: Sequence[str], index: AnyPath | None
) -> list[Found]:
    """Reads the headers of files; those of unchanged files come from an index.

    Args:
      name: name of the source, shown with the progress.
      files: paths of the files.
      labels: names of the files, for the index and for errors.
      index: file of the index, see `index_path`; None for no index.
    """
    entries = {} if index is None else _read_index(index)
    known: dict[int, Header] = {}
    stamps: dict[int, Entry] = {}
    for number, (file, label) in enumerate(zip(files, labels, strict=True)):
        with contextlib.suppress(OSError):  # reading the header will report the error
            stamps[number] = list(paths.stamp(file))
        entry = entries.get(label)
        if entry and entry[:2] == stamps.get(number):
            height, width, jpeg = entry[2:]
            known[number] = Header(height, width, bool(jpeg))

    def inspect(number: int) -> Header:
        with paths.reading(files[number]) as file:
            return decode.read_header(file)

    found = headers(name, labels, inspect, known)
    if index is None:
        return found
    new = {
        labels[number]: [*stamps[number], *map(int, header)]
        for number, header in enumerate(found)
        if isinstance(header, Header) and number in stamps
    }
    in_bucket = any(isinstance(file, BucketPath) for file in files)
    if len(found) - len(known) >= LARGE or (in_bucket and new != entries):
        _write_index(index, new)
    return found


def read_listing(
    folder: BucketPath, index: AnyPath
) -> tuple[list[AnyPath], list[str], list[Found]]:
    """Reads files, labels and headers from the index that another host has written.

    Raises:
      SourceError: the index is missing or damaged.
    """
    entries = _read_index(index)
    if not entries:
        raise SourceError(
            f"{index}, the list of the images in {folder} that process 0 has written, "
            "is missing or damaged; choose a --workdir that all hosts see"
        )
    files, labels, found = list[AnyPath](), list[str](), list[Found]()
    for label, (generation, size, height, width, jpeg) in entries.items():
        file = folder / label
        files.append(dataclasses.replace(file, stamp=(generation, size)))
        labels.append(label)
        found.append(Header(height, width, bool(jpeg)))
    return files, labels, found


def index_path(directory: AnyPath | None, *folders: AnyPath) -> AnyPath | None:
    """The index file for these folders, or None if `directory` is None."""
    if directory is None:
        return None
    place = b"\0".join(os.fsencode(folder.absolute()) for folder in folders)
    return directory / f"{hashlib.sha256(place).hexdigest()[:16]}.json"


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
    last_line = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            console.notes.print(f"{name}: read {count:,} of {total:,} headers")


def _read_index(path: AnyPath) -> dict[str, Entry]:
    """Reads an index; returns an empty one if the file is missing or damaged."""
    try:
        entries = json.loads(path.read_text())
    except BucketError:
        raise  # the file may be intact
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


def _write_index(path: AnyPath, entries: dict[str, Entry]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with paths.replacing(path) as unfinished:
            unfinished.write_text(json.dumps(entries))
    except BucketError:
        raise  # the other hosts of the run wait for it
    except OSError as error:
        logger.warning(
            "cannot write the index; the next start reads all headers again: %s", error
        )
