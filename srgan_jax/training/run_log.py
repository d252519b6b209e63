"""A run's log: JSON lines, TensorBoard events, and a progress bar or plain lines.

Only process 0 writes. A resumed run continues its metrics file from the checkpoint's
step: lines of later steps are removed, since these steps will be trained again. If the
log cannot be written, the run stops. In a bucket, lines and events appear with the next
upload: before each checkpoint, and otherwise every half a minute.
"""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from srgan_jax import paths
from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.paths import AnyPath
from srgan_jax.training.staging import Staging

METRICS = "metrics.jsonl"
SECONDS_BETWEEN_LINES = 10.0
SCORE = "evaluation_psnr"  # a line of metrics.jsonl with this key holds scores
SHOWN = ("content", "adversarial", "discriminator", "d_hr", "d_sr", "images_per_second")


class LogError(OSError):
    """The log cannot be written."""


class RunLog:
    """A context manager that holds the log of one run.

    All methods that write raise a LogError if the disk is full or missing.
    """

    def __init__(
        self, workdir: AnyPath, *, first_step: int, last_step: int, active: bool
    ) -> None:
        self._active = active
        self._last_step = last_step
        self._said = time.monotonic()
        if not active:
            return
        self._workdir = workdir
        self._staging = Staging(workdir)
        path = self._staging.folder / METRICS
        self._tf = import_tensorflow()  # only for event files
        with self._writing():
            self._staging.fetch(METRICS)
            self._scores, damaged = _cut(path, first_step)
            self._lines = path.open("a")
            self._events = self._tf.summary.create_file_writer(
                str(self._staging.folder)
            )
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "", total=last_step, completed=first_step, figures=""
        )
        self._progress.start()
        if damaged:
            self.say(f"{workdir / METRICS}: removed {damaged} damaged lines")

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._active:
            self._progress.stop()
            # Don't let a failed last write mask the original exception.
            unfinished = (
                contextlib.suppress(LogError) if error else contextlib.nullcontext()
            )
            with contextlib.closing(self._staging), unfinished, self._writing():
                with contextlib.closing(self._events):
                    self._lines.close()
                self._staging.upload()

    def upload(self, *, if_due: bool = False) -> None:
        """Makes all that was written so far visible in a bucket.

        Args:
          if_due: do so only if some seconds have passed since the last time.
        """
        if not self._active or not self._staging.in_bucket:
            return
        if self._staging.is_due or not if_due:
            with self._writing():
                self._events.flush()
                self._staging.upload()

    def say(self, text: str) -> None:
        """Prints a line for the user."""
        if self._active:
            console = self._progress.console
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    def has_scores(self, step: int) -> bool:
        """True if the log holds scores of this step, also from before a resume."""
        return self._active and any(line["step"] == step for line in self._scores)

    def scores(self, stage: str, after: int = 0) -> list[dict[str, Any]]:
        """Returns a stage's evaluations after a step, as lines of metrics.jsonl."""
        return [
            line
            for line in self._scores
            if line["stage"] == stage and line["step"] > after
        ]

    def scalars(
        self, step: int, stage: str, values: dict[str, float], *, events: bool = True
    ) -> None:
        """Writes a line of metrics.jsonl and, with `events`, TensorBoard scalars.

        Values that are not finite, such as the PSNR of equal images, become null.
        """
        if not self._active:
            return
        line = {"step": step, "stage": stage} | finite(values)
        if SCORE in line:
            self._scores.append(line)
        with self._writing():
            self._lines.write(json.dumps(line, allow_nan=False) + "\n")
            self._lines.flush()
        if not events:
            return
        with self._writing(), self._events.as_default(step=step):
            for name, value in values.items():
                self._tf.summary.scalar(name, value)

    def show(self, step: int, stage: str, values: dict[str, float]) -> None:
        """Moves the progress bar, or prints a plain line every few seconds."""
        if not self._active:
            return
        figures = "  ".join(f"{k} {values[k]:.4g}" for k in SHOWN if k in values)
        if not self._progress.disable:
            self._progress.update(
                self._task, description=stage, completed=step, figures=figures
            )
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.say(f"{stage} {step}/{self._last_step}  {figures}")

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image, uint8 `[height, width, 3]`, for TensorBoard."""
        if self._active:
            with self._writing(), self._events.as_default(step=step):
                self._tf.summary.image(name, image[None])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._tf.errors.OpError) as error:
            # TensorFlow's messages begin with the name of an operation in braces.
            text = str(error) or type(error).__name__
            reason = text.splitlines()[0].rpartition("}} ")[2]
            raise LogError(
                f"the log in {self._workdir} cannot be written ({reason}); solve this "
                "and run the same command to continue from the newest checkpoint"
            ) from error


class Clock:
    """Measures images per second from the times at which steps' metrics arrive."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._last: float | None = None
        self._durations: list[float] = []

    def tick(self) -> float | None:
        """Returns images per second of the step that just ended; None after a pause."""
        now, last = time.perf_counter(), self._last
        self._last = now
        if last is None:
            return None
        self._durations.append(now - last)
        return self._batch_size / (now - last)

    def restart(self) -> None:
        """Excludes the time since the last step from the measurement."""
        self._last = None

    def median_rate(self) -> float:
        """Returns the median over all steps so far; NaN if none was timed."""
        if not self._durations:
            return math.nan
        return self._batch_size / statistics.median(self._durations)


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Replaces NaN and infinity by None, since JSON cannot express them."""
    return {k: v if math.isfinite(v) else None for k, v in values.items()}


def read_metrics(workdir: AnyPath) -> Iterator[dict[str, Any]]:
    """Yields the intact lines of a run's metrics.jsonl.

    A run of a million steps has more of them than should be in memory at once.
    """
    path = workdir / METRICS
    if not path.exists():
        return
    with paths.local_copy(path) as copy:
        for text in _complete_lines(copy):
            values = _values(text)
            if values is not None:
                yield values


def _complete_lines(path: Path) -> Iterator[str]:
    """The lines of metrics.jsonl; a kill leaves the last one incomplete."""
    if path.exists():
        with path.open(errors="replace", newline="\n") as file:
            yield from (line for line in file if line.endswith("\n"))


def _values(text: str) -> dict[str, Any] | None:
    """What a line says; None if it is damaged."""
    try:
        values = json.loads(text)
        return values if values["step"] >= 0 and values["stage"] else None
    except (ValueError, TypeError, KeyError):
        return None


def _cut(path: Path, last_step: int) -> tuple[list[dict[str, Any]], int]:
    """Removes the lines after `last_step`, and damaged ones.

    Returns:
      The lines of scores that are left, and the number of damaged lines.
    """
    scores, damaged = [], 0
    with paths.replacing(path) as unfinished, unfinished.open("w") as file:
        for text in _complete_lines(path):
            values = _values(text)
            if values is None:
                damaged += 1
            elif values["step"] <= last_step:
                file.write(text)
                if SCORE in values:
                    scores.append(values)
    return scores, damaged
