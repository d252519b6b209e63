"""Checkpoints by Orbax: the whole state, and the averaged generator as its own item.

An incomplete checkpoint (a process killed during a save) is never listed, since Orbax
renames a finished one into place. Refuses to continue from values that are not those
that were saved (Orbax alone notices a lost file, but not a changed byte), and where the
numbers of steps of a stage already begun were changed.
"""

import contextlib
import json
import signal
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import args

from srgan_jax.training.state import TrainState, Variables
from srgan_jax.weights import layout

if TYPE_CHECKING:
    from srgan_jax.training.stages import Stage


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read, or does not belong to the run."""


class Checkpoints:
    """The checkpoints of one run, numbered by step; a context manager.

    Every process makes every call.
    """

    def __init__(self, directory: Path, keep: int, fingerprint: str) -> None:
        """Opens or makes the directory; `fingerprint` is that of the photographs."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(keep)
        )
        self._directory = directory
        self._fingerprint = fingerprint
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=options,
            item_names=("state", "generator", "stage"),
        )
        self._terminated = False
        self._distributed = jax.distributed.is_initialized()
        if not self._distributed:
            self._handler = signal.signal(signal.SIGTERM, self._terminate)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def all_steps(self) -> list[int]:
        """The steps of all complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, stage: str, first: int) -> None:
        """Saves in the background; returns once the arrays are copied.

        Args:
          step: of the state.
          state: of all processes.
          stage: name of the stage.
          first: step at which the stage began.

        Raises:
          CheckpointError: this save, or the one before it, failed.
        """
        self.wait()
        values = {"state": _without_average(state), "generator": state.ema}
        about = {
            "name": stage,
            "first": first,
            "photographs": self._fingerprint,
            "checksums": {name: _checksum(tree) for name, tree in values.items()},
        }
        items = {name: args.StandardSave(tree) for name, tree in values.items()}
        with self._writing():
            self._manager.save(
                step, args=args.Composite(**items, stage=args.JsonSave(about))
            )

    def check_run(self, step: int, plan: Sequence["Stage"]) -> None:
        """Raises a CheckpointError unless the run can go on from `step` as planned."""
        if not step:
            return
        saved = self._read(step)["stage"]
        where = f"{self._directory} holds step {step} of stage {saved['name']!r}"
        if step > plan[-1].end:
            raise CheckpointError(f"{where}, beyond the last step {plan[-1].end}")
        stage = max((s for s in plan if s.first < step), key=lambda s: s.first)
        if (saved["name"], saved["first"]) != (stage.name, stage.first):
            raise CheckpointError(
                f"{where} begun at step {saved['first']}; as configured it would "
                f"be of stage {stage.name!r}, begun at {stage.first}. Give the stages "
                "before their former number of steps"
            )
        if saved["photographs"] != self._fingerprint:
            raise CheckpointError(
                f"{where}, but the photographs have changed since: some were added, "
                "lost, renamed or resized. Restore them, or begin another --workdir "
                "with --config.init_from"
            )

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state saved at `step`, on the devices that `abstract` names.

        Raises:
          CheckpointError: it is damaged; says what to do.
        """
        wanted = {"state": _without_average(abstract), "generator": abstract.ema}
        restored = self._read(step, **wanted)
        return TrainState(**restored["state"], ema=restored["generator"])

    def restore_generator(self, step: int, abstract: Variables) -> Variables:
        """The averaged generator alone: what the next stage starts from."""
        return self._read(step, generator=abstract)["generator"]

    def _read(self, step: int, **wanted: Any) -> Any:
        """The items that are wanted and `stage`, held against their checksums."""
        items = {name: args.StandardRestore(tree) for name, tree in wanted.items()}
        try:
            read = self._manager.restore(
                step, args=args.Composite(**items, stage=args.JsonRestore())
            )
            for name in items:
                if _checksum(read[name]) != read["stage"]["checksums"][name]:
                    raise ValueError(f"{name!r} has changed since it was saved")
        except Exception as error:  # whatever the storage's driver raises
            raise self._damaged(step, error) from error
        return read

    def _damaged(self, step: int, error: Exception) -> CheckpointError:
        before = [s for s in self.all_steps() if s < step]
        rest = f"continue from step {before[-1]}" if before else "begin anew"
        return CheckpointError(
            f"the checkpoint {self._directory / str(step)} cannot be read "
            f"({_first_line(error)}). If it is damaged, move that folder away and run "
            f"the same command to {rest}"
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the storage's driver raises
            with contextlib.suppress(OSError):
                self._manager.reload()
            step = self.latest_step()
            rest = "begins anew" if step is None else f"continues from step {step}"
            raise CheckpointError(
                f"no checkpoint could be written to {self._directory} "
                f"({_first_line(error)}). Once one can, the same command {rest}"
            ) from error

    def reached_preemption(self, step: int) -> bool:
        """Whether SIGTERM came; the same on all processes of a distributed run."""
        if self._distributed:
            return self._manager.reached_preemption(step)
        return self._terminated

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True

    def wait(self) -> None:
        """Waits for the save under way.

        Raises:
          CheckpointError: it failed.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Raises a CheckpointError if a save in the background has failed."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Waits for the save under way and ends."""
        if self._distributed and error is not None:
            return  # a save needs all processes, and the others may have ended
        # what ended the run says more than a save that cannot be finished
        unfinished = (
            contextlib.suppress(CheckpointError) if error else contextlib.nullcontext()
        )
        with unfinished, self._writing():
            self._manager.close()
        if not self._distributed:
            signal.signal(signal.SIGTERM, self._handler)


def load_generator(
    workdir: Path, step: int | None = None
) -> tuple[dict[str, Any], Variables]:
    """The averaged generator in a run's checkpoint, and its settings.

    Args:
      workdir: the run's directory.
      step: of the checkpoint; the newest unless given.

    Raises:
      CheckpointError: there is no such checkpoint, or it is damaged.
    """
    directory, config = workdir / "checkpoints", workdir / "config.json"
    if not directory.is_dir() or not config.is_file():
        raise CheckpointError(
            f"{workdir} is not a run's directory: it lacks config.json or checkpoints"
        )
    settings = json.loads(config.read_text())["generator"]
    shapes = layout.expected("generator", settings)
    abstract = layout.unflatten(
        {
            name: jax.ShapeDtypeStruct(shape, np.float32)
            for name, shape in shapes.items()
        }
    )
    with Checkpoints(directory, keep=1, fingerprint="") as checkpoints:
        saved = checkpoints.all_steps()
        step = step if step is not None or not saved else saved[-1]
        if step not in saved:
            known = ", ".join(map(str, saved)) or "none"
            raise CheckpointError(
                f"{directory} has no checkpoint of step {step}; it has {known}"
            )
        return settings, jax.device_get(checkpoints.restore_generator(step, abstract))


def _without_average(state: TrainState) -> dict[str, Any]:
    """All but the average, which is an item of its own."""
    return {
        "step": state.step,
        "generator": state.generator,
        "discriminator": state.discriminator,
    }


def _checksum(tree: Any) -> int:
    """Of the bits of all leaves in their order."""
    checksum = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    return checksum


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else f"{line[:100]} ... {line[-200:]}"
