"""A trace of some steps by JAX's profiler, for TensorBoard's profile page.

Refuses steps that the run will not do; where it ends before the last of them, the trace
ends with it.
"""

from pathlib import Path
from typing import Any

import jax


class ProfileError(ValueError):
    """Steps that cannot be traced."""


class Profile:
    """Traces `steps` into a directory; a context manager around the run.

    Args:
      directory: for the trace.
      steps: to trace, or none.
      ahead: steps that the run is going to do.

    Raises:
      ProfileError: `steps` has none of them.
    """

    def __init__(self, directory: Path, steps: range, ahead: range) -> None:
        if steps and not range(max(steps[0], ahead.start), min(steps.stop, ahead.stop)):
            raise ProfileError(
                f"profile {steps.start}:{steps.stop} holds none of the steps that are "
                f"to be done, {ahead.start} to {ahead.stop - 1}"
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
