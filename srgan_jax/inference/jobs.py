"""Which picture goes to which file, and doing it.

Refused, each in a sentence that names the file: inputs that do not exist, outputs that
exist, that are an input, or that two inputs would share. One refusal stops no other.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from srgan_jax.images import decode as pictures
from srgan_jax.images import encode as writing
from srgan_jax.images import picture as images
from srgan_jax.images.decode import ImageError
from srgan_jax.inference.upscaler import Upscaler


class Job(NamedTuple):
    """A picture to read and the file to write."""

    source: Path
    target: Path


def plan(
    inputs: Iterable[Path], out: Path, suffix: str | None
) -> tuple[list[Job], list[str]]:
    """Files and folders to jobs, and the reasons for what is left out.

    Args:
      inputs: files, and folders, which are mirrored below `out`.
      out: a folder; for a single file, a file if it has a picture's suffix.
      suffix: of the outputs, such as `.png`; None keeps each input's.
    """
    inputs, jobs, failures = list(inputs), [], []
    is_file = len(inputs) == 1 and out.suffix.lower() in images.FORMATS
    if is_file and not inputs[0].is_dir() and not out.is_dir():
        return _without_clashes([Job(inputs[0], out)], [])
    for path in inputs:
        if not path.is_dir():
            jobs.append(Job(path, _named(out / path.name, suffix)))
            continue
        try:
            found = pictures.find(path)
        except ValueError as error:
            failures.append(str(error))
            continue
        if path.absolute() in out.absolute().parents:  # an earlier call's output
            found = [
                f for f in found if not f.absolute().is_relative_to(out.absolute())
            ]
        jobs += [
            Job(file, _named(out / file.relative_to(path), suffix)) for file in found
        ]
    return _without_clashes(jobs, failures)


def run(
    job: Job,
    upscaler: Upscaler,
    *,
    overwrite: bool = False,
    max_pixels: int = images.MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> images.Picture:
    """Upscales one picture from file to file.

    Raises:
      ImageError: it cannot be read, or its result not written.
    """
    if job.target.exists() and not overwrite:
        raise ImageError(f"{job.target}: exists; --overwrite replaces it")
    picture = images.read(job.source, max_pixels)
    writing.check_output(job.target, picture, upscaler.scale)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        picture = images.upscale(picture, lambda image: upscaler(image, progress))
    except (OSError, MemoryError) as error:
        raise pictures.describe_error(str(job.target), error) from error
    writing.write(job.target, picture)
    return picture


def _named(target: Path, suffix: str | None) -> Path:
    known = target.suffix.lower() in images.FORMATS
    return target if known and suffix is None else target.with_suffix(suffix or ".png")


def _without_clashes(
    jobs: list[Job], failures: list[str]
) -> tuple[list[Job], list[str]]:
    sources = {os.path.realpath(job.source) for job in jobs}
    kept: dict[str, Job] = {}
    for job in jobs:
        target = os.path.realpath(job.target)
        if target in sources:
            failures.append(f"{job.source}: its output {job.target} is an input")
        elif target in kept:
            failures.append(
                f"{job.source}: its output {job.target} is that of "
                f"{kept[target].source} too"
            )
        else:
            kept[target] = job
    return list(kept.values()), failures
