"""Whether a run's directory may go on with a configuration, and what it records of it.

`config.json` holds the configuration of the run. Some fields may change when a run is
resumed, some only with --allow_config_change; `config.history.jsonl` has each change
with its step.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from srgan_jax import paths
from srgan_jax.training import checkpoint
from srgan_jax.training.config import (
    Config,
    ConfigError,
    content_terms,
    with_later_fields,
)
from srgan_jax.training.network_files import file_of

CONFIG, HISTORY = "config.json", "config.history.jsonl"
# The photographs behind data.source are compared by their fingerprint, and the steps of
# finished stages by checkpoint.check_run.
FREE = re.compile(
    r"evaluation\..*|checkpoint\..*|log_every|data\.(source|on_damage)|stages\.[^.]+\.steps"
)
EVALUATION = re.compile(r"evaluation\.(?!every)")
ALLOWED_EXPLICITLY = re.compile(
    r"batch_size|accumulate|ema_decay|adversarial\.weight|content\.feature_scale|"
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
        if self.field.endswith(".content"):  # its weights may change, not its terms
            before, now = (content_terms(text) for text in (self.before, self.now))
            return before.keys() == now.keys()
        return True


def recorded_config(workdir: Path) -> dict[str, Any] | None:
    """The configuration of the run in a directory.

    The newest checkpoint's copy stands in for a config.json that is missing or damaged.

    Returns:
      JSON values; None if nothing of a run is to be protected: it has neither a
      checkpoint nor a generator.

    Raises:
      ConfigError: config.json is damaged and the checkpoint has no copy of it.
    """
    saved = checkpoint.newest_description(workdir / "checkpoints")
    path = workdir / CONFIG
    if saved is None:
        if not file_of(workdir, "generator").exists():
            return None
        saved = {}
    try:
        return with_later_fields(json.loads(path.read_text()))
    except FileNotFoundError:
        return saved.get("config")
    except (ValueError, TypeError) as error:
        if "config" in saved:
            return saved["config"]
        raise ConfigError(
            f"{path} is damaged ({error}) and the checkpoints have no copy of it; move "
            "it away, and the same command takes its own configuration for the run's"
        ) from error


def find_changes(
    workdir: Path, config: Config, step: int, *, allow: bool
) -> list[Change]:
    """The fields that differ from those of the run that is resumed at `step`.

    Args:
      workdir: of the run. A run that has no checkpoint yet may begin anew with any
        configuration.
      config: of the command.
      step: of the checkpoint that the run continues from; 0 for none.
      allow: whether the meaning of later steps may change (--allow_config_change).

    Raises:
      ConfigError: a field differs that may not; says what to do.
    """
    recorded = recorded_config(workdir)
    if recorded is None:
        return []
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
            f"{change.now!r}; give it its former value, choose another --workdir, or "
            f"{way_on}"
        )
    return changes


def write_config(workdir: Path, config: Config, changes: list[Change]) -> None:
    """Writes config.json and appends the changes to the history."""
    lines = [json.dumps(dataclasses.asdict(change)) for change in changes]
    path = workdir / HISTORY
    known = path.read_text().splitlines() if path.exists() else []
    new = [line for line in lines if line not in known]  # a kill may come between
    if new:
        with paths.replacing(path) as unfinished:
            unfinished.write_text("".join(f"{line}\n" for line in [*known, *new]))
    with paths.replacing(workdir / CONFIG) as unfinished:
        unfinished.write_text(config.to_json())


def read_history(workdir: Path) -> list[Change]:
    """The changes of the run so far; lines that are damaged are left out."""
    path = workdir / HISTORY
    changes = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            changes.append(Change(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return changes


def describe_recipe_changes(history: Sequence[Change]) -> Iterator[str]:
    """A sentence for each change that makes the run's steps differ in their recipe."""
    for change in history:
        if not change.is_free:
            yield (
                f"this run is not one recipe: config.{change.field} was "
                f"{change.before!r} until step {change.step}, then {change.now!r}"
            )


def evaluation_changed_at(history: Sequence[Change]) -> int:
    """The last step whose scores cannot be compared with later ones."""
    return max((c.step for c in history if EVALUATION.match(c.field)), default=0)


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by path: `data.crop`, `stages.adversarial.steps`."""
    flat: dict[str, Any] = {}
    for field, value in values.items():
        if field == "stages":
            value = {stage["name"]: stage for stage in value}
        if isinstance(value, Mapping):
            flat |= {f"{field}.{name}": leaf for name, leaf in _flatten(value).items()}
        else:
            flat[field] = value
    return flat
