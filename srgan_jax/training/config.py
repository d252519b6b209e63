"""The configuration of a run: resolved, checked once, and frozen.

Users write an ml_collections.ConfigDict (see configs/). `resolve` expands its preset,
takes the settings of the networks that it starts from, and checks every field. The
defaults stand in configs/srgan.py; the classes below have none.
"""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from srgan_jax.data.examples import DEGRADATIONS
from srgan_jax.evaluation import metrics
from srgan_jax.training import losses, parallel, steps
from srgan_jax.training.presets import PRESETS
from srgan_jax.weights import layout, store

# a decimal weight and a distance: "vgg54", "0.05 * l1"
CONTENT_TERM = re.compile(
    r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+) *\* *)?(?P<name>mse|l1|vgg\d\d)"
)
# Fields that version 0.1 did not have, and the values that mean what it did.
SINCE_VERSION_0_1: Mapping[str, Any] = {
    "init_discriminator_from": None,
    "accumulate": 1,
    "data.exposure": 0.0,
    "data.graded": 0.0,
    "data.degradation": "bicubic",
    "data.on_damage": "skip",
}
BORDERS = ("mirrored", "clamped")
CHOICES = {
    "dtype": ("float32", "bfloat16"),
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
# Smallest and largest value. A number never may be NaN or infinite.
AT_LEAST_0, AT_LEAST_1 = (0, math.inf), (1, math.inf)
BELOW_1 = (0, math.nextafter(1, 0))
RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**64 - 1),
    "batch_size": AT_LEAST_1,
    "accumulate": AT_LEAST_1,
    "content.feature_scale": AT_LEAST_0,
    "adversarial.weight": AT_LEAST_0,
    "optimizer.b1": BELOW_1,
    "optimizer.b2": BELOW_1,
    "optimizer.eps": AT_LEAST_0,
    "ema_decay": BELOW_1,
    "data.crop": AT_LEAST_1,
    "data.exposure": AT_LEAST_0,  # stops
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


class ConfigError(ValueError):
    """A configuration that cannot be trained; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Content:
    weights: str
    feature_scale: float
    reduction: str
    range: str


@dataclasses.dataclass(frozen=True)
class Adversarial:
    weight: float
    form: str
    order: str


@dataclasses.dataclass(frozen=True)
class Adam:
    b1: float
    b2: float
    eps: float


@dataclasses.dataclass(frozen=True)
class Data:
    source: str
    crop: int
    flips: bool
    rotations: bool
    exposure: float
    graded: float
    border: str
    degradation: str
    on_damage: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    source: str
    every: int
    protocol: metrics.Protocol
    border: str
    lpips: Literal["alex", "vgg", "none"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int
    keep: int


@dataclasses.dataclass(frozen=True)
class Parallel:
    transform: str


@dataclasses.dataclass(frozen=True)
class StageConfig:
    name: str
    adversarial: bool
    content: str
    tv_weight: float
    steps: int
    learning_rate: float
    decay_at: tuple[int, ...]
    decay_factor: float
    only_from_scratch: bool


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run; configs/srgan.py says what each of them means.

    `generator` and `discriminator` are the Linen attributes of the networks.
    """

    variant: str
    seed: int
    preset: str | None
    init_from: str | None
    init_discriminator_from: str | None
    batch_size: int
    accumulate: int
    dtype: str
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any]
    batch_norm: str
    content: Content
    adversarial: Adversarial
    optimizer: Adam
    ema_decay: float
    data: Data
    evaluation: Evaluation
    checkpoint: Checkpoint
    log_every: int
    parallel: Parallel
    stages: tuple[StageConfig, ...]

    @property
    def scale(self) -> int:
        """HR size over LR size."""
        return self.generator["scale"]

    @property
    def last_step(self) -> int:
        """The step at which the run ends, counted through all stages."""
        return sum(stage.steps for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as config.json has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """The text of config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def resolve(
    config: ConfigDict,
    overrides: Collection[str] = (),
    recorded: Mapping[str, Any] | None = None,
) -> Config:
    """Expands `preset`, takes the settings of networks to start from, checks all.

    Args:
      config: as the configuration file gives it, overrides applied.
      overrides: fields set on the command line, such as 'generator.blocks'. They win
        over the preset; against `init_from` they are an error.
      recorded: the config.json of a run that is to be resumed. Its networks are those
        that it started from, so that the files of `init_from` are not needed again.

    Raises:
      ConfigError: a conflict, an unknown field or a value that is not allowed.
      WeightsError: a network to start from cannot be loaded.
    """
    values = config.copy_and_resolve_references().to_json_best_effort()
    values = with_later_fields(json.loads(values))
    _build(Config, values, "")  # every field is there and of its type
    if values["preset"] is not None:
        _expand_preset(values, overrides)
    for network, origin in (
        ("generator", "init_from"),
        ("discriminator", "init_discriminator_from"),
    ):
        if values[origin] is not None:
            _start_from(values, network, origin, overrides, recorded or {})
    if values["init_from"] is not None:
        stages = values["stages"]
        values["stages"] = [s for s in stages if not s["only_from_scratch"]]
    resolved = _build(Config, values, "")
    _check(resolved)
    return resolved


def with_later_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the fields that a configuration of version 0.1 lacks."""
    completed = dict(values)
    for path, value in SINCE_VERSION_0_1.items():
        section, _, field = path.rpartition(".")
        if not section:
            completed.setdefault(field, value)
        elif isinstance(completed.get(section), Mapping):
            completed[section] = {field: value} | completed[section]
    return completed


def content_terms(content: str) -> dict[str, float]:
    """The weight of each term of a content loss such as 'vgg54 + 0.05 * l1'.

    Raises:
      ConfigError: it is not a weighted sum of known terms.
    """
    terms: dict[str, float] = {}
    for term in content.split("+"):
        found = CONTENT_TERM.fullmatch(term.strip())
        if found is None or found["name"] in terms:
            raise ConfigError(
                f"a stage's content is {content!r}; expected 'mse', 'l1', a layer such "
                "as 'vgg54', or a weighted sum of these, each once, such as "
                "'vgg54 + 0.05 * l1'"
            )
        terms[found["name"]] = float(found["weight"] or 1)
    return terms


def vgg_layer(term: str) -> tuple[int, int] | None:
    """`vggij` as (i, j); None for a distance between images."""
    return (int(term[3]), int(term[4])) if term.startswith("vgg") else None


def nearest(name: str, known: Collection[str]) -> str:
    """'; did you mean ...?', or what is known where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _expand_preset(values: dict[str, Any], overrides: Collection[str]) -> None:
    """Sets the fields of a known implementation, except those given explicitly."""
    name = values["preset"]
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{nearest(name, PRESETS)}")
    for section, fields in PRESETS[name].items():
        for field, value in fields.items():
            if f"{section}.{field}" not in overrides:
                values[section][field] = value


def _start_from(
    values: dict[str, Any],
    network: str,
    origin: str,
    overrides: Collection[str],
    recorded: Mapping[str, Any],
) -> None:
    """Sets a network's settings to those of the network that it starts from."""
    if recorded.get(origin) == values[origin]:
        settings = recorded[network]
    elif network == "generator":
        settings, _ = store.load_generator(values[origin])
    else:
        settings, variables = store.load_discriminator(values[origin])
        _check_crop(values, settings, variables)
    for field, value in settings.items():
        given = values[network].get(field)
        if f"{network}.{field}" in overrides and given != value:
            raise ConfigError(
                f"{network}.{field}={given!r} conflicts with the {network} of "
                f"{origin}={values[origin]!r}, which has {value!r}"
            )
        values[network][field] = value


def _check_crop(
    values: Mapping[str, Any], settings: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    """Refuses a discriminator whose dense head is for crops of another size."""
    crop = values["data"]["crop"]
    expected = layout.expected("discriminator", settings, crop)
    leaves = flatten_dict(variables, sep="/")
    if expected != {name: leaf.shape for name, leaf in leaves.items()}:
        raise ConfigError(
            f"init_discriminator_from={values['init_discriminator_from']!r} is not for "
            f"crops of {crop}x{crop}; give data.crop the size that it was trained on"
        )


def _build(cls: type, values: Any, path: str) -> Any:
    """A dataclass of these values; refuses unknown, missing and mistyped fields."""
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
    """A field's value in the type of its annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, f"{path}.")
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


def _check(config: Config) -> None:
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
    if not config.stages:
        raise ConfigError("stages is empty: nothing to train")
    for index, stage in enumerate(config.stages):
        content_terms(stage.content)
        _check_ranges(dataclasses.asdict(stage), STAGE_RANGES, f"stages[{index}].")
        if any(step < 0 for step in stage.decay_at):
            raise ConfigError(
                f"stages[{index}].decay_at is {stage.decay_at}; expected steps of the "
                "stage, 0 or later"
            )
    names = [stage.name for stage in config.stages]
    if len(set(names)) < len(names):
        raise ConfigError(f"two stages have one name: {', '.join(names)}")
    if config.init_discriminator_from is not None and not any(
        stage.adversarial for stage in config.stages
    ):
        raise ConfigError(
            f"init_discriminator_from is {config.init_discriminator_from!r}, but no "
            "stage is adversarial; leave it out"
        )
    if config.accumulate > 1 and config.adversarial.order != "generator_first":
        raise ConfigError(
            f"accumulate is {config.accumulate}, but with adversarial.order="
            f"{config.adversarial.order!r} G's gradients need D after its whole batch; "
            "use 'generator_first' or accumulate=1"
        )
    if config.data.crop % config.scale:
        raise ConfigError(
            f"data.crop {config.data.crop} is not a multiple of generator.scale "
            f"{config.scale}"
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
