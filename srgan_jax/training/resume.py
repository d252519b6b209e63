"""Decides whether a run may be resumed with a configuration, and records changes.

`config.json` holds the configuration of the run. Some fields may change when a run is
resumed, and others only with --allow_config_change. `config.history.jsonl` lists each
change with its step.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srgan_jax import paths
from srgan_jax.paths import AnyPath
from srgan_jax.training import checkpoint
from srgan_jax.training.config import (
    Config,
    ConfigError,
    content_terms,
    with_later_fields,
)
from srgan_jax.training.network_files import file_of

CONFIG, HISTORY = "config.json", "config.history.jsonl"
# checkpoint.check_run compares the fingerprint of the images behind data.source and the
# steps of finished stages.
FREE = re.compile(
    r"evaluation\..*|checkpoint\..*|log_every|data\.(source|on_damage)|stages\.[^.]+\.steps"
)
EVALUATION = re.compile(r"evaluation\.(?!every)")
ALLOWED_EXPLICITLY = re.compile(
    r"batch_size|accumulate|learning_rate_scaling|warmup_steps|deterministic|ema_decay|"
    r"adversarial\.weight|content\.feature_scale|"
    r"stages\.[^.]+\.(learning_rate|decay_at|decay_factor|tv_weight|content)"
)


@dataclasses.dataclass(frozen=True)
class Change:
    """A field whose value changed when a run was resumed at `step`."""

    step: int
    field: str
    before: Any
    now: Any

    @property
    def is_free(self) -> bool:
        return FREE.fullmatch(self.field) is not None

    @property
    def is_allowed_explicitly(self) -> bool:
        if ALLOWED_EXPLICITLY.fullmatch(self.field) is None:
            return False
        if self.field.endswith(".content"):  # weights may change, but not the terms
            before, now = (content_terms(text) for text in (self.before, self.now))
            return before.keys() == now.keys()
        return True


def recorded_config(workdir: AnyPath) -> dict[str, Any] | None:
    """Reads the configuration of the run in a directory.

    If config.json is missing or damaged, the copy in the newest checkpoint is used.

    Returns:
      JSON values; None if the directory has neither a checkpoint nor a generator, so
      that a new run may begin there.

    Raises:
      ConfigError: config.json is damaged and the checkpoint has no copy of it.
    """
    saved = checkpoint.newest_description(workdir / "checkpoints")
    path = workdir / CONFIG
    if saved is None:
        if not file_of(workdir, "generator").exists():
            return None
        saved = {}
    copy = saved.get("config")
    try:
        return with_later_fields(json.loads(path.read_text()))
    except FileNotFoundError:
        return copy and with_later_fields(copy)
    except (ValueError, TypeError) as error:
        if copy:
            return with_later_fields(copy)
        raise ConfigError(
            f"{path} is damaged ({error}) and the checkpoints have no copy of it; move "
            "it away and run the same command, whose configuration the run then takes"
        ) from error


def find_changes(
    workdir: AnyPath, config: Config, step: int, *, allow: bool, goes_back: bool
) -> list[Change]:
    """Finds the fields that differ from those of the run that is resumed at `step`.

    Args:
      workdir: the run's directory. A run that has no checkpoint yet may begin anew with
        any configuration.
      config: the configuration of the command.
      step: step of the checkpoint that the run continues from; 0 if there is none.
      allow: allow changes to how later steps train (--allow_config_change).
      goes_back: the run continues from a checkpoint that was chosen (--from_step). The
        copy in it is compared, since config.json may have changed after it.

    Raises:
      ConfigError: a field differs that must not; the message says what to do.
    """
    recorded = recorded_config(workdir)
    if recorded is None:
        return []
    if goes_back:
        described = checkpoint.read_description(workdir / "checkpoints", step)
        recorded = with_later_fields(described.get("config", recorded))
    before, now = _flatten(recorded), _flatten(config.to_dict())
    changes = [
        Change(step, field, before.get(field), now.get(field))
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field)
    ]
    for change in changes:
        if change.is_free or (allow and change.is_allowed_explicitly):
            continue
        way_on = (
            f"allow the change from step {step} on with --allow_config_change"
            if change.is_allowed_explicitly
            else "start from its generator with --config.init_from"
        )
        raise ConfigError(
            f"{workdir} holds a run with config.{change.field}={change.before!r}, not "
            f"{change.now!r}; restore the former value, choose another --workdir, or "
            f"{way_on}"
        )
    return changes


def write_config(
    workdir: AnyPath, config: Config, changes: list[Change], step: int
) -> None:
    """Writes config.json, and the changes up to `step` and the new ones as history."""
    lines = [json.dumps(dataclasses.asdict(change)) for change in changes]
    path = workdir / HISTORY
    known = [
        json.dumps(dataclasses.asdict(change))
        for change in read_history(workdir)
        if change.step <= step
    ]
    # If a run was killed between writing the two files, the changes are there already.
    new = [line for line in lines if line not in known]
    if new or path.exists():
        with paths.replacing(path) as unfinished:
            unfinished.write_text("".join(f"{line}\n" for line in [*known, *new]))
    with paths.replacing(workdir / CONFIG) as unfinished:
        unfinished.write_text(config.to_json())


def read_history(workdir: AnyPath) -> list[Change]:
    """Reads the changes of the run so far; damaged lines are left out."""
    path = workdir / HISTORY
    changes = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            changes.append(Change(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return changes


def describe_recipe_changes(history: Sequence[Change]) -> Iterator[str]:
    """Yields a sentence for each change in how the run trains."""
    for change in history:
        if not change.is_free:
            yield (
                f"this run changed its recipe: config.{change.field} was "
                f"{change.before!r} until step {change.step}, then {change.now!r}"
            )


def evaluation_changed_at(history: Sequence[Change]) -> int:
    """Returns the step of the last change of the evaluation; 0 if there was none."""
    return max((c.step for c in history if EVALUATION.match(c.field)), default=0)


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Maps paths such as `data.crop` and `stages.adversarial.steps` to values."""
    flat: dict[str, Any] = {}
    for field, value in values.items():
        if field == "stages":
            value = {stage["name"]: stage for stage in value}
        if isinstance(value, Mapping):
            flat |= {f"{field}.{name}": leaf for name, leaf in _flatten(value).items()}
        else:
            flat[field] = value
    return flat
