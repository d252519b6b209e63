"""Orbax checkpoints of the whole state, with the averaged generator as its own item.

Orbax renames a checkpoint into place once it is complete, or in a bucket writes
`commit_success.txt` last, so a process that is killed during a save leaves no complete
checkpoint. Orbax detects a lost file but not a changed byte, so each item has a
checksum that is compared on restoring.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from orbax.checkpoint import args

from srgan_jax.bucket_client import BucketError
from srgan_jax.buckets import BucketPath
from srgan_jax.paths import AnyPath
from srgan_jax.training.stages import Stage
from srgan_jax.training.state import TrainState, Variables
from srgan_jax.weights import layout

COMMITTED = "commit_success.txt"  # Orbax's mark of a complete checkpoint in a bucket


class CheckpointError(ValueError):
    """A checkpoint cannot be written or read, or does not belong to the run."""


class Checkpoints:
    """The checkpoints of one run, numbered by step; a context manager.

    All methods are collective: every process must call them.
    """

    def __init__(
        self,
        directory: AnyPath,
        keep: int,
        fingerprint: str,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Opens the directory; creates it if it is missing.

        Args:
          directory: directory that holds nothing but the checkpoints.
          keep: number of checkpoints to keep; a new one replaces the oldest.
          fingerprint: fingerprint of the training images.
          config: the run's config.json; each checkpoint keeps a copy.

        Raises:
          CheckpointError: the directory cannot be listed.
        """
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(keep)
        )
        self._directory = directory
        self._fingerprint = fingerprint
        self._config = config
        with self._managing():
            self._manager = ocp.CheckpointManager(
                os.fspath(directory.absolute()),
                options=options,
                item_names=("state", "generator", "stage"),
            )
        self._distributed = jax.distributed.is_initialized()
        self._in_bucket = isinstance(directory, BucketPath)

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def all_steps(self) -> list[int]:
        """The steps of all complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def starting_step(self, from_step: int | None) -> int:
        """The step of the checkpoint to continue from; 0 if there is no checkpoint.

        Args:
          from_step: step of the checkpoint; None for the newest.

        Raises:
          CheckpointError: there is no checkpoint of `from_step`.
        """
        if from_step is None:
            return self.latest_step() or 0
        if from_step not in self.all_steps():
            raise CheckpointError(
                f"{self._directory} has no checkpoint of step {from_step}; it has "
                f"{', '.join(map(str, self.all_steps())) or 'none'}"
            )
        return from_step

    def delete_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, since these will be trained again."""
        for later in self.all_steps():
            if later > step:
                with self._managing():
                    self._manager.delete(later)

    def save(self, step: int, state: TrainState, stage: str, first: int) -> None:
        """Saves in the background; returns once the arrays are copied.

        Args:
          step: the state's step.
          state: the state, replicated over all processes.
          stage: name of the stage.
          first: step at which the stage began.

        Raises:
          CheckpointError: this save or the previous one failed.
        """
        self.wait()
        values = {"state": _without_average(state), "generator": state.ema}
        about = {
            "name": stage,
            "first": first,
            "photographs": self._fingerprint,
            "config": self._config,
            "checksums": {name: _checksum(tree) for name, tree in values.items()},
        }
        items = {name: args.StandardSave(tree) for name, tree in values.items()}
        with self._writing():
            self._manager.save(
                step, args=args.Composite(**items, stage=args.JsonSave(about))
            )

    def check_run(self, step: int, stages: Sequence[Stage]) -> None:
        """Raises a CheckpointError unless these stages can continue from `step`."""
        if not step:
            return
        saved = self._read(step)["stage"]
        where = f"{self._directory} holds step {step} of stage {saved['name']!r}"
        if step > stages[-1].end:
            raise CheckpointError(
                f"{where}, beyond the last step {stages[-1].end}; give the stage at "
                f"least {step - stages[-1].first} steps, or choose another --workdir"
            )
        stage = max((s for s in stages if s.first < step), key=lambda s: s.first)
        if (saved["name"], saved["first"]) != (stage.name, stage.first):
            raise CheckpointError(
                f"{where}, which began at step {saved['first']}; with this "
                f"configuration it belongs to stage {stage.name!r}, which begins at "
                f"step {stage.first}; restore the numbers of steps of earlier stages"
            )
        if saved["photographs"] != self._fingerprint:
            raise CheckpointError(
                f"{where}, but the photographs have changed since: some were added, "
                "removed, renamed or resized; restore them, or start another run with "
                "--workdir and --config.init_from"
            )

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state saved at `step`, placed on devices as `abstract` says.

        Raises:
          CheckpointError: the checkpoint is damaged; the message says what to do.
        """
        wanted = {"state": _without_average(abstract), "generator": abstract.ema}
        restored = self._read(step, **wanted)
        return TrainState(**restored["state"], ema=restored["generator"])

    def restore_generator(self, step: int, abstract: Variables) -> Variables:
        """Restores only the averaged generator; the next stage starts from it."""
        return self._read(step, generator=abstract)["generator"]

    def _read(self, step: int, **wanted: Any) -> Any:
        """Reads `stage` and the `wanted` items, and verifies their checksums."""
        items = {name: args.StandardRestore(tree) for name, tree in wanted.items()}
        try:
            read = self._manager.restore(
                step, args=args.Composite(**items, stage=args.JsonRestore())
            )
            for name in items:
                if _checksum(read[name]) != read["stage"]["checksums"][name]:
                    raise ValueError(f"{name!r} has changed since it was saved")
        except Exception as error:  # storage drivers raise anything
            raise self._damaged(step, error) from error
        return read

    def _damaged(self, step: int, error: Exception) -> CheckpointError:
        before = [s for s in self.all_steps() if s < step]
        rest = f"continue from step {before[-1]}" if before else "begin anew"
        return CheckpointError(
            f"the checkpoint {self._directory / str(step)} cannot be read "
            f"({_first_line(error)}); if it is damaged, move that folder away and run "
            f"the same command to {rest}"
        )

    @contextlib.contextmanager
    def _managing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # storage drivers raise anything
            raise CheckpointError(
                f"the checkpoints in {self._directory} cannot be listed or deleted "
                f"({_first_line(error)}); solve this and run the same command again"
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # storage drivers raise anything
            with contextlib.suppress(Exception):
                self._manager.reload()
            step = self.latest_step()
            rest = "begin anew" if step is None else f"continue from step {step}"
            raise CheckpointError(
                f"no checkpoint could be written to {self._directory} "
                f"({_first_line(error)}); solve this and run the same command to {rest}"
            ) from error

    def wait(self) -> None:
        """Waits for the save in progress.

        Raises:
          CheckpointError: the save failed.
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
        """Waits for the save in progress and closes the manager."""
        if error is not None and (self._distributed or self._in_bucket):
            # A save needs all processes, and the others may have ended. In a bucket
            # that does not answer, TensorStore tries for a quarter of an hour.
            return
        # Don't let a failed final save mask the original exception.
        unfinished = (
            contextlib.suppress(CheckpointError) if error else contextlib.nullcontext()
        )
        with unfinished, self._writing():
            self._manager.close()


def load_generator(
    workdir: AnyPath, step: int | None = None
) -> tuple[dict[str, Any], Variables]:
    """Loads the averaged generator of a run's checkpoint.

    Args:
      workdir: the run's directory.
      step: step of the checkpoint; None for the newest.

    Returns:
      The generator's settings and variables.

    Raises:
      CheckpointError: there is no such checkpoint, or it is damaged.
    """
    directory, config = workdir / "checkpoints", workdir / "config.json"
    if not directory.is_dir() or not config.is_file():
        raise CheckpointError(
            f"{workdir} is not a run's directory: it lacks config.json or checkpoints; "
            "give the --workdir of a training run"
        )
    settings = json.loads(config.read_text())["generator"]
    shapes = layout.expected("generator", settings)
    # Without a device, Orbax asks for as many devices as the training had.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    leaves = {
        k: jax.ShapeDtypeStruct(s, np.float32, sharding=here) for k, s in shapes.items()
    }
    abstract = unflatten_dict(leaves, sep="/")
    with Checkpoints(directory, keep=1, fingerprint="") as checkpoints:
        saved = checkpoints.all_steps()
        step = step if step is not None or not saved else saved[-1]
        if step not in saved:
            known = ", ".join(map(str, saved)) or "none"
            raise CheckpointError(
                f"{directory} has no checkpoint of step {step}; it has {known}"
            )
        return settings, jax.device_get(checkpoints.restore_generator(step, abstract))


def newest_description(directory: AnyPath) -> dict[str, Any] | None:
    """Reads the description of the newest checkpoint in `directory`, without Orbax.

    Returns:
      The stage, the fingerprint of the training images and, in checkpoints written
      after version 0.1, the configuration. The description of a damaged checkpoint is
      empty; None if there is no checkpoint.
    """
    steps = _complete_steps(directory)
    return read_description(directory, max(steps)) if steps else None


def _complete_steps(directory: AnyPath) -> list[int]:
    if isinstance(directory, BucketPath):
        marks = [path for path in directory.files() if path.name == COMMITTED]
        names = [path.parent.name for path in marks]
    else:
        names = [path.name for path in directory.glob("*")]
    return [int(name) for name in names if name.isdecimal()]


def read_description(directory: AnyPath, step: int) -> dict[str, Any]:
    """Reads the description of one checkpoint; see `newest_description`."""
    try:
        return dict(json.loads((directory / f"{step}/stage/metadata").read_text()))
    except BucketError:
        raise  # the file may be intact
    except (OSError, ValueError, TypeError):
        return {}


def _without_average(state: TrainState) -> dict[str, Any]:
    """The state without the average, which is saved as a separate item."""
    return {
        "step": state.step,
        "generator": state.generator,
        "discriminator": state.discriminator,
    }


def _checksum(tree: Any) -> int:
    """A checksum of the bits of all leaves, in order."""
    checksum = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    return checksum


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else f"{line[:100]} ... {line[-200:]}"
