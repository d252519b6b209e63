"""Traces steps with JAX's profiler, for TensorBoard's profile page."""

import contextlib
from typing import Any

import jax
from jaxlib import xla_client

from srgan_jax.paths import AnyPath
from srgan_jax.training.staging import Staging


class ProfileError(ValueError):
    """The steps cannot be traced."""


class Profile:
    """A context manager around a run that traces some of its steps.

    If the run ends before the last of these steps, the trace ends with the run.

    Args:
      directory: directory for the trace.
      steps: the steps to trace; may be empty.
      ahead: the steps that the run is going to train.

    Raises:
      ProfileError: the run trains none of the steps, or the profiler would crash.
    """

    def __init__(self, directory: AnyPath, steps: range, ahead: range) -> None:
        if steps and not range(max(steps[0], ahead.start), min(steps.stop, ahead.stop)):
            raise ProfileError(
                f"--profile={steps.start}:{steps.stop} contains none of the steps that "
                f"this run will train; choose from {ahead.start} to {ahead.stop - 1}"
            )
        backend = jax.default_backend()
        if steps and backend != "tpu" and xla_client.pjrt_plugin_loaded("tpu"):
            raise ProfileError(
                "this machine has no TPU but has libtpu, with which JAX's profiler "
                f"crashes; set JAX_PLATFORMS={backend} in the environment"
            )
        self._staging = Staging(directory)
        self._steps = steps
        self._tracing = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # Don't let a failed upload mask the original exception.
        unfinished = contextlib.suppress(OSError) if error else contextlib.nullcontext()
        with contextlib.closing(self._staging), unfinished:
            if self._tracing:
                self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._staging.upload()

    def before(self, step: int, state: Any) -> None:
        """Begins or ends the trace before `step`, once `state` has been computed."""
        if (step in self._steps) == self._tracing:
            return
        jax.block_until_ready(state)
        if self._tracing:
            self._stop()
        else:
            jax.profiler.start_trace(self._staging.folder)
        self._tracing = not self._tracing
