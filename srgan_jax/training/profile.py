"""A trace of some steps by JAX's profiler, for TensorBoard's profile page."""

from pathlib import Path
from typing import Any

import jax
from jaxlib import xla_client


class ProfileError(ValueError):
    """Steps that cannot be traced."""


class Profile:
    """Traces `steps` into a directory; a context manager around the run.

    If the run ends before the last of them, the trace ends with it.

    Args:
      directory: for the trace.
      steps: to trace, or none.
      ahead: steps that the run is going to do.

    Raises:
      ProfileError: the run does none of the steps, or the profiler would crash.
    """

    def __init__(self, directory: Path, steps: range, ahead: range) -> None:
        if steps and not range(max(steps[0], ahead.start), min(steps.stop, ahead.stop)):
            raise ProfileError(
                f"profile {steps.start}:{steps.stop} holds none of the steps that are "
                f"to be done, {ahead.start} to {ahead.stop - 1}"
            )
        backend = jax.default_backend()
        if steps and backend != "tpu" and xla_client.pjrt_plugin_loaded("tpu"):
            raise ProfileError(
                "this machine has no TPU, and JAX's profiler crashes there once it has "
                f"loaded libtpu; set JAX_PLATFORMS={backend} in the environment"
            )
        self._directory = directory
        self._steps = steps
        self._tracing = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._tracing:
            jax.profiler.stop_trace()

    def before(self, step: int, state: Any) -> None:
        """Begins or ends the trace, once the device has computed `state`."""
        if (step in self._steps) == self._tracing:
            return
        jax.block_until_ready(state)
        if self._tracing:
            jax.profiler.stop_trace()
        else:
            jax.profiler.start_trace(self._directory)
        self._tracing = not self._tracing
