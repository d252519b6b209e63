"""Checks the types and values of a configuration's fields."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal

from srgan_jax.data.examples import DEGRADATIONS
from srgan_jax.evaluation import metrics
from srgan_jax.training import losses, parallel, steps
from srgan_jax.training.config import Config, ConfigError, content_terms

RESERVED_NAMES = ("start", "best")  # names of generators' files, see network_files
BORDERS = ("mirrored", "clamped")
CHOICES = {
    "dtype": ("float32", "bfloat16"),
    "learning_rate_scaling": ("none", "linear"),
    "batch_norm": ("per_replica", "synchronised"),
    "content.reduction": losses.REDUCTIONS,
    "content.range": ("symmetric", "unit"),
    "adversarial.form": losses.ADVERSARIAL_FORMS,
    "adversarial.order": steps.ORDERS,
    "data.border": BORDERS,
    "data.degradation": DEGRADATIONS,
    "data.on_damage": ("skip", "stop"),
    "evaluation.border": BORDERS,
    "evaluation.lpips": ("alex", "vgg", "none"),
    "evaluation.protocol": metrics.PROTOCOLS,
    "parallel.transform": parallel.TRANSFORMS,
}
# Smallest and largest value of each field. `build` refuses NaN and infinity.
AT_LEAST_0, AT_LEAST_1 = (0, math.inf), (1, math.inf)
BELOW_1 = (0, math.nextafter(1, 0))
RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**64 - 1),
    "batch_size": AT_LEAST_1,
    "accumulate": AT_LEAST_1,
    "warmup_steps": AT_LEAST_0,
    "content.feature_scale": AT_LEAST_0,
    "adversarial.weight": AT_LEAST_0,
    "optimizer.b1": BELOW_1,
    "optimizer.b2": BELOW_1,
    "optimizer.eps": AT_LEAST_0,
    "ema_decay": BELOW_1,
    "data.crop": AT_LEAST_1,
    "data.exposure": AT_LEAST_0,  # in stops
    "data.graded": (0, 1),
    "evaluation.every": AT_LEAST_1,
    "checkpoint.every": AT_LEAST_1,
    "checkpoint.keep": AT_LEAST_1,
    "log_every": AT_LEAST_1,
}
STAGE_RANGES: Mapping[str, tuple[float, float]] = {
    "steps": AT_LEAST_1,
    "learning_rate": AT_LEAST_0,
    "decay_factor": AT_LEAST_0,
    "tv_weight": AT_LEAST_0,
}


def nearest(name: str, known: Collection[str]) -> str:
    """Suggests the nearest known name, or lists all if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; choose from {', '.join(known)}"


def build(cls: type, values: Any, path: str) -> Any:
    """Builds a dataclass from values.

    Args:
      cls: the dataclass.
      values: maps field names to values.
      path: path of this section, such as 'data.', for messages.

    Raises:
      ConfigError: a field is unknown, missing or of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    section = path.rstrip(".") or "the configuration"
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section} is {values!r}; expected {', '.join(hints)}")
    for field in values:
        if field not in hints:
            raise ConfigError(f"{section} has no field {field}{nearest(field, hints)}")
    missing = [field for field in hints if field not in values]
    if missing:
        raise ConfigError(f"{section} lacks the field {missing[0]}")
    fields = {f: _value(hint, values[f], f"{path}{f}") for f, hint in hints.items()}
    return cls(**fields)


def _value(hint: Any, value: Any, path: str) -> Any:
    """Returns a field's value in the type of its annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, f"{path}.")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(
            _value(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value)
        )
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, path)
    if origin is Literal:
        return value  # one of CHOICES
    if hint is float and type(value) is int:
        value = float(value)
    is_type = isinstance(value, origin or hint) and isinstance(value, bool) == (
        hint is bool
    )
    if is_type and not (hint is float and not math.isfinite(value)):
        return value
    expected = {int: "a whole number", float: "a finite number", str: "a text"}
    raise ConfigError(
        f"{path} is {value!r}; expected {expected.get(hint, 'true or false')}"
    )


def check(config: Config) -> None:
    """Raises a ConfigError that names the first field with an impossible value."""
    values = dataclasses.asdict(config)
    flat = values | {
        f"{section}.{field}": value
        for section, fields in values.items()
        if isinstance(fields, dict)
        for field, value in fields.items()
    }
    for field, choices in CHOICES.items():
        if flat[field] not in choices:
            raise ConfigError(
                f"{field} is {flat[field]!r}; expected one of {', '.join(choices)}"
            )
    _check_ranges(flat, RANGES, "")
    _check_stages(config)
    if config.accumulate > 1 and config.adversarial.order != "generator_first":
        raise ConfigError(
            f"accumulate is {config.accumulate}, but adversarial.order="
            f"{config.adversarial.order!r} updates D on its whole batch before G's "
            "gradients; use 'generator_first' or accumulate=1"
        )
    if config.freeze_statistics and config.init_from is None:
        raise ConfigError(
            "freeze_statistics is true, but a new generator has no running statistics "
            "yet; name a trained one with init_from, such as the generator.safetensors "
            "of another run"
        )
    scale = config.generator.get("scale")
    if not isinstance(scale, int) or scale < 1:
        raise ConfigError(f"generator.scale is {scale!r}; expected 2, 4 or 8")
    if config.data.crop % scale:
        raise ConfigError(
            f"data.crop {config.data.crop} is not a multiple of generator.scale "
            f"{scale}; choose a multiple"
        )


def _check_stages(config: Config) -> None:
    if not config.stages:
        raise ConfigError("stages is empty; expected at least one stage to train")
    for index, stage in enumerate(config.stages):
        on_blocks = {"colour", "smooth"} & content_terms(stage.content).keys()
        if on_blocks and config.data.crop < losses.BLOCK:
            raise ConfigError(
                f"data.crop is {config.data.crop}, but the content {stage.content!r} "
                f"compares blocks of {losses.BLOCK}x{losses.BLOCK} pixels; choose a "
                "larger crop"
            )
        _check_ranges(dataclasses.asdict(stage), STAGE_RANGES, f"stages[{index}].")
        if any(step < 0 for step in stage.decay_at):
            raise ConfigError(
                f"stages[{index}].decay_at is {stage.decay_at}; expected steps of the "
                "stage, 0 or later"
            )
        if not re.fullmatch(r"[\w-]+", stage.name) or stage.name in RESERVED_NAMES:
            raise ConfigError(
                f"stages[{index}].name is {stage.name!r}; it becomes part of a file "
                "name, so expected letters and digits, but none of "
                f"{', '.join(RESERVED_NAMES)}"
            )
    names = [stage.name for stage in config.stages]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"two stages have the same name: {', '.join(names)}; rename one"
        )
    if config.init_discriminator_from is not None and not any(
        stage.adversarial for stage in config.stages
    ):
        raise ConfigError(
            f"init_discriminator_from is {config.init_discriminator_from!r}, but no "
            "stage is adversarial; leave it out"
        )


def _check_ranges(
    values: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]], prefix: str
) -> None:
    for field, (smallest, largest) in ranges.items():
        if not smallest <= values[field] <= largest:
            if largest == math.inf:
                expected = f"{smallest} or more"
            elif largest < 1:
                expected = "[0, 1)"
            else:
                expected = f"{smallest} to {largest}"
            raise ConfigError(
                f"{prefix}{field} is {values[field]!r}; expected {expected}"
            )
