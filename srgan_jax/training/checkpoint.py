"""Checkpoints by Orbax: the whole state, and the averaged generator as its own item.

An incomplete checkpoint (a process killed during a save) is never listed, since Orbax
renames a finished one into place. Refuses to continue where the numbers of steps of a
stage already begun were changed.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import args

from srgan_jax.training.state import TrainState, Variables


class CheckpointError(ValueError):
    """A checkpoint that does not belong to the run."""


class Checkpoints:
    """The checkpoints of one run, numbered by step. Every process makes every call."""

    def __init__(self, directory: Path, keep: int) -> None:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(keep)
        )
        self._directory = directory
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=options,
            item_names=("state", "generator", "stage"),
        )
        self._terminated = False
        self._distributed = jax.distributed.is_initialized()
        if not self._distributed:
            signal.signal(signal.SIGTERM, self._terminate)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, stage: str, first: int) -> None:
        """Saves in the background; returns once the arrays are copied.

        Args:
          step: of the state.
          state: of all processes.
          stage: name of the stage.
          first: step at which the stage began.
        """
        items = args.Composite(
            state=args.StandardSave(_without_average(state)),
            generator=args.StandardSave(state.ema),
            stage=args.JsonSave({"name": stage, "first": first}),
        )
        self._manager.save(step, args=items)

    def check_stage(self, step: int, stages: Mapping[int, ConfigDict]) -> None:
        """Raises a CheckpointError unless `step` lies in the stage it was saved in.

        Args:
          step: of the checkpoint.
          stages: the configured stages by their first steps.
        """
        items = args.Composite(stage=args.JsonRestore())
        saved = self._manager.restore(step, args=items)["stage"]
        first = max(first for first in stages if first < step)
        if (saved["name"], saved["first"]) != (stages[first].name, first):
            raise CheckpointError(
                f"{self._directory} holds step {step} of stage {saved['name']!r} begun "
                f"at step {saved['first']}; by the configuration it would be of "
                f"stage {stages[first].name!r}, from {first}. Give the stages before "
                "their former number of steps"
            )

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state saved at `step`, on the devices that `abstract` names."""
        items = args.Composite(
            state=args.StandardRestore(_without_average(abstract)),
            generator=args.StandardRestore(abstract.ema),
        )
        restored = self._manager.restore(step, args=items)
        return TrainState(**restored["state"], ema=restored["generator"])

    def restore_generator(self, step: int, abstract: Variables) -> Variables:
        """The averaged generator alone: what the next stage starts from."""
        items = args.Composite(generator=args.StandardRestore(abstract))
        return self._manager.restore(step, args=items)["generator"]

    def reached_preemption(self, step: int) -> bool:
        """Whether SIGTERM came; the same on all processes of a distributed run."""
        if self._distributed:
            return self._manager.reached_preemption(step)
        return self._terminated

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True

    def wait(self) -> None:
        """Waits for the save under way."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save under way and ends."""
        self.wait()
        self._manager.close()


def _without_average(state: TrainState) -> dict[str, Any]:
    """All but the average, which is an item of its own."""
    return {
        "step": state.step,
        "generator": state.generator,
        "discriminator": state.discriminator,
    }
