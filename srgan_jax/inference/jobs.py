"""Matches input images with output files, and upscales from file to file.

These are refused, with an error that names the file: inputs that do not exist or cannot
be read; outputs that exist, that are also an input, or that two inputs would share; and
sizes above the network's. A refused input does not stop the others.
"""

import dataclasses
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.data.resize import resize_to
from srgan_jax.images import decode, encode
from srgan_jax.images.formats import BY_SUFFIX, FORMATS, UNREAD, identify
from srgan_jax.images.image import Image, ImageError
from srgan_jax.inference.alpha import fill_hidden, resize_alpha
from srgan_jax.inference.sizes import Size
from srgan_jax.inference.upscaler import Upscaler

STANDARD = "-"  # standard input, standard output
SMALL = 256 * 256  # pixels of the largest image that waits for others of its size
TOGETHER = 2**20  # pixels that are upscaled together: 50 MB of 8 bits at a factor of 4
WAITING = 256  # images of all sizes together that wait: at most 50 MB of 8 bits


class Job(NamedTuple):
    """An image to read and a file to write.

    Attributes:
      source: the input file, or None for standard input.
      target: the output file, or None for standard output.
      kind: the output's format.
    """

    source: Path | None
    target: Path | None
    kind: str

    @property
    def source_name(self) -> str:
        """The input's name in messages."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        """The output's name in messages."""
        return "standard output" if self.target is None else str(self.target)


class Opened(NamedTuple):
    """An image that has been read.

    Attributes:
      job: the job that the image belongs to.
      image: the image as it was read.
      shape: height and width of the output.
      seconds: time spent on reading.
    """

    job: Job
    image: Image
    shape: tuple[int, int]
    seconds: float = 0.0


class Done(NamedTuple):
    """How a job ended.

    Attributes:
      job: the job.
      image: the image as it was written, or the reason why it was not.
      seconds: time spent on the job, with its share of the time of its group.
    """

    job: Job
    image: Image | ImageError
    seconds: float


@dataclasses.dataclass
class Batch:
    """The work of one call of the command.

    Attributes:
      jobs: jobs to run, each with a different output.
      skipped: existing outputs that are not computed again.
      failures: an error message for each input that is refused.
    """

    jobs: list[Job]
    skipped: list[Path]
    failures: list[str]


def prepare(
    inputs: Sequence[str],
    out: str,
    *,
    kind: str | None = None,
    suffix: str = "",
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int = decode.MAX_PIXELS,
) -> Batch:
    """Matches inputs with outputs, and checks both; reads only the inputs' headers.

    Args:
      inputs: files, folders (whose structure is mirrored below `out`), or `-`.
      out: a folder, `-`, or, for a single input, a file with an image suffix.
      kind: format of the outputs; None for the format of each input.
      suffix: text to insert before the suffix of each output's name.
      overwrite: replace existing outputs.
      skip_existing: skip inputs whose outputs exist.
      max_pixels: refuse inputs with more pixels.

    Raises:
      ValueError: the arguments contradict each other.
    """
    target = _single_target(inputs, out, kind, suffix)
    if target is not None:
        (source,) = inputs
        listed = [_single(source, target, kind)]
        failures: list[str] = []
    else:
        listed, failures = _listed(inputs, Path(out), kind, suffix)
    jobs, clashes = _without_clashes(listed)
    result = Batch([], [], failures + clashes)
    for job in jobs:
        try:
            if job.target and os.path.exists(job.target):
                if skip_existing:
                    result.skipped.append(job.target)
                    continue
                if not overwrite:
                    raise ImageError(f"{job.target}: exists; --overwrite replaces it")
            if job.source:
                decode.check(job.source, max_pixels)
            result.jobs.append(job)
        except ImageError as error:
            result.failures.append(str(error))
    return result


def run(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    *,
    size: Size,
    settings: encode.Settings = encode.DEFAULT,
    max_pixels: int = decode.MAX_PIXELS,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Done]:
    """Upscales images from file to file.

    Opaque RGB images of at most `SMALL` pixels wait until there are enough of equal
    size, which then go through one program together. Every other image is upscaled by
    itself, in the order of the jobs.

    Args:
      jobs: the inputs and their outputs.
      upscaler: the upscaler to apply.
      size: size of the outputs.
      settings: how to encode the outputs.
      max_pixels: refuse inputs with more pixels.
      progress: called with the name of an image, the number of its windows done and
        the number of all its windows.
    """
    waiting: dict[Any, list[Opened]] = {}
    for job in jobs:
        start = time.perf_counter()
        try:
            opened = _open(job, upscaler.scale, size, settings, max_pixels)
        except ImageError as error:
            yield Done(job, error, time.perf_counter() - start)
            continue
        opened = opened._replace(seconds=time.perf_counter() - start)
        pixels, alpha = opened.image.pixels, opened.image.alpha
        height, width = pixels.shape[:2]
        if height * width > SMALL or alpha is not None or pixels.ndim == 2:
            yield from _finish([opened], upscaler, settings, progress)
            continue
        key = pixels.shape, pixels.dtype
        waiting.setdefault(key, []).append(opened)
        if len(waiting[key]) * height * width >= TOGETHER:
            yield from _finish(waiting.pop(key), upscaler, settings, progress)
        if sum(map(len, waiting.values())) >= WAITING:
            largest = max(waiting, key=lambda key: len(waiting[key]))
            yield from _finish(waiting.pop(largest), upscaler, settings, progress)
    for group in waiting.values():
        yield from _finish(group, upscaler, settings, progress)


def _open(
    job: Job, scale: int, size: Size, settings: encode.Settings, max_pixels: int
) -> Opened:
    """Reads an image and checks that its output can be written.

    Raises:
      ImageError: the image cannot be read, or its output cannot be written.
    """
    if job.source is None:
        try:
            data = sys.stdin.buffer.read()
        except OSError as error:
            raise decode.describe_error(job.source_name, error) from error
        image = decode.decode_upright(data, job.source_name, max_pixels)
    else:
        image = decode.read(job.source, max_pixels)
    try:
        height, width = image.pixels.shape[:2]
        shape = size.of(height, width, scale)
    except ValueError as error:
        raise ImageError(f"{job.source_name}: {error}") from error
    has_alpha = image.alpha is not None
    encode.check_output(job.target_name, job.kind, shape, has_alpha, settings)
    if job.target:
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=job.target.parent):
                pass  # checked now, before the image is upscaled
        except OSError as error:
            raise decode.describe_error(job.target_name, error) from error
    return Opened(job, image, shape)


def _finish(
    group: Sequence[Opened],
    upscaler: Upscaler,
    settings: encode.Settings,
    progress: Callable[[str, int, int], None] | None,
) -> Iterator[Done]:
    """Upscales images of equal size together, and writes each."""
    start = time.perf_counter()
    report = progress and functools.partial(progress, group[0].job.source_name)
    results: Any = [None] * len(group)
    error: Exception | None = None
    if len(group) > 1:
        try:
            results = upscaler(np.stack([o.image.pixels for o in group]), report)
        except (MemoryError, RuntimeError) as failure:
            error = failure
    share = (time.perf_counter() - start) / len(group)
    for opened, result in zip(group, results, strict=True):
        start = time.perf_counter()

        def sr(pixels: np.ndarray, result: np.ndarray | None = result) -> np.ndarray:
            if error:
                raise error
            return upscaler(pixels, report) if result is None else result

        try:
            image: Image | ImageError = _write(opened, sr, settings)
        except ImageError as failure:
            image = failure
        seconds = opened.seconds + share + time.perf_counter() - start
        yield Done(opened.job, image, seconds)


def _write(
    opened: Opened,
    upscaler: Callable[[np.ndarray], np.ndarray],
    settings: encode.Settings,
) -> Image:
    """Upscales one image and writes it; its notes say what was lost.

    Raises:
      ImageError: it cannot be upscaled or written.
    """
    job, image, shape, _ = opened
    try:
        image = upscale(image, upscaler, shape)
    except (OSError, MemoryError) as error:
        raise decode.describe_error(job.target_name, error) from error
    except RuntimeError as error:  # raised by JAX, usually for lack of memory
        raise ImageError(
            f"{job.source_name}: the device could not upscale it; a smaller --tile "
            "takes less memory"
        ) from error
    if job.target:
        notes = encode.write(job.target, image, settings)
    else:
        data, notes = encode.encode(image, job.kind, job.target_name, settings)
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise decode.describe_error(job.target_name, error) from error
    return dataclasses.replace(image, notes=(*image.notes, *notes))


def upscale(
    image: Image,
    upscaler: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int] | None = None,
) -> Image:
    """Upscales colour with the upscaler, and alpha with bicubic interpolation.

    Where alpha is zero, the nearest visible colour first replaces the hidden colour,
    which would otherwise show at the edges.

    Args:
      image: the image.
      upscaler: function that upscales the image's pixels.
      shape: height and width of the result, to which MATLAB's bicubic resizes the
        upscaler's output; None for no resizing.
    """
    pixels, alpha = image.pixels, image.alpha
    if alpha is not None:
        pixels = fill_hidden(pixels, alpha)
    pixels = upscaler(pixels)
    if shape is not None and shape != pixels.shape[:2]:
        pixels = resize_to(pixels, *shape)
    if alpha is not None:
        alpha = resize_alpha(alpha, *pixels.shape[:2])
    return dataclasses.replace(image, pixels=pixels, alpha=alpha)


def _single_target(
    inputs: Sequence[str], out: str, kind: str | None, suffix: str
) -> str | None:
    """Returns `out` if it names a file or standard output, None for a folder."""
    if not out or not all(inputs):
        raise ValueError("an input or --out is empty; . is the current folder")
    for stream, used in (
        (sys.stdin, STANDARD in inputs),
        (sys.stdout, out == STANDARD),
    ):
        if used and stream is None:
            raise ValueError("standard input or output is closed; give a file")
    is_file = out == STANDARD or (
        Path(out).suffix.lower() in BY_SUFFIX
        and not out.endswith(os.sep)
        and not Path(out).is_dir()
    )
    if not is_file:
        if STANDARD in inputs:
            raise ValueError("standard input needs a file or - as --out, not a folder")
        named_unread = Path(out).suffix.lower() in UNREAD and out[-1] != os.sep
        if Path(out).is_file() or (named_unread and not Path(out).is_dir()):
            expected = ", ".join(BY_SUFFIX)
            raise ValueError(f"--out {out} is no folder and no image ({expected})")
        return None
    if len(inputs) > 1 or (inputs[0] != STANDARD and Path(inputs[0]).is_dir()):
        raise ValueError(
            f"--out {out} is one file, but there are several inputs; give a folder "
            f"(a new one as {out}{os.sep})"
        )
    if suffix:
        raise ValueError(
            f"--suffix has no effect, since --out {out} is one file; leave it out"
        )
    if out == STANDARD:
        if kind is None:
            raise ValueError("standard output needs --format; for example --format png")
    elif kind is not None and BY_SUFFIX[Path(out).suffix.lower()] != kind:
        raise ValueError(f"--out {out} contradicts --format; leave one of them out")
    return out


def _single(source: str, target: str, kind: str | None) -> Job:
    given = None if source == STANDARD else Path(source)
    if target == STANDARD:
        assert kind is not None
        return Job(given, None, kind)
    return Job(given, Path(target), encode.format_of(Path(target)))


def _listed(
    inputs: Iterable[str], out: Path, kind: str | None, suffix: str
) -> tuple[list[Job], list[str]]:
    """Makes a job for each image; also returns an error for each refused file."""
    jobs: list[Job] = []
    failures: list[str] = []
    for path in map(Path, inputs):
        if not path.is_dir():
            jobs.append(_job(path, out / path.name, kind, suffix))
            continue
        files = decode.scan(
            path,
            lambda error: failures.append(f"{error.filename}: {error.strerror}"),
        )
        if path.absolute() in out.absolute().parents:  # skip an earlier call's outputs
            files = [
                f for f in files if not f.absolute().is_relative_to(out.absolute())
            ]
        found = [file for file in files if file.suffix.lower() in BY_SUFFIX]
        unread = [file for file in files if file.suffix.lower() in UNREAD]
        for file in unread:
            failures.append(f"{file}: {UNREAD[file.suffix.lower()]} cannot be read")
        if not found and not unread:
            expected = ", ".join(BY_SUFFIX)
            failures.append(f"{path}: the folder holds no image ({expected})")
        inside = [_job(f, out / f.relative_to(path), kind, suffix) for f in found]
        if suffix:  # an earlier call's outputs may lie beside their inputs
            outputs = {os.path.realpath(job.target) for job in inside if job.target}
            inside = [
                j for j in inside if os.path.realpath(j.source_name) not in outputs
            ]
        jobs += inside
    return jobs, failures


def _job(source: Path, target: Path, kind: str | None, suffix: str) -> Job:
    """Makes the job of an input; `target` is its output in the input's own format."""
    own = BY_SUFFIX.get(target.suffix.lower())
    stem, ending = (target.stem, target.suffix) if own else (target.name, "")
    if kind is None:
        kind = own or _kind_by_contents(source) or "PNG"
    if own != kind:
        ending = FORMATS[kind].suffixes[0]
    return Job(source, target.with_name(f"{stem}{suffix}{ending}"), kind)


def _kind_by_contents(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            kind = identify(file.read(32))
    except OSError:  # `decode.check` will report it
        return None
    return kind if kind in FORMATS else None


def _without_clashes(jobs: list[Job]) -> tuple[list[Job], list[str]]:
    sources = {os.path.realpath(job.source) for job in jobs if job.source}
    kept: dict[str, Job] = {}
    failures = []
    for job in jobs:
        target = os.path.realpath(job.target) if job.target else STANDARD
        if target in sources:
            failures.append(
                f"{job.source}: its output {job.target} is also an input; choose "
                "another --out"
            )
        elif target in kept:
            failures.append(
                f"{job.source}: its output {job.target} is also that of "
                f"{kept[target].source}; upscale it in a call of its own"
            )
        else:
            kept[target] = job
    return list(kept.values()), failures
