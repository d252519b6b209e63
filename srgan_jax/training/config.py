"""The configuration of a run as frozen dataclasses.

Users write an ml_collections.ConfigDict: configs/srgan.py has the defaults and says
what each field means. `resolve.resolve_config` builds these classes from it and checks
them, so they have no defaults of their own.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from srgan_jax.evaluation import metrics

# A distance with an optional decimal weight, such as "vgg54" or "0.05 * l1".
CONTENT_TERM = re.compile(
    r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+) *\* *)?"
    r"(?P<name>mse|l1|colour|smooth|grid|vgg\d\d)"
)
# Fields added after version 0.1, with the values that reproduce version 0.1.
SINCE_VERSION_0_1: Mapping[str, Any] = {
    "init_discriminator_from": None,
    "accumulate": 1,
    "freeze_statistics": False,
    "deterministic": False,
    "learning_rate_scaling": "none",
    "warmup_steps": 0,
    "data.exposure": 0.0,
    "data.graded": 0.0,
    "data.degradation": "bicubic",
    "data.on_damage": "skip",
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
    learning_rate_scaling: str
    warmup_steps: int
    dtype: str
    deterministic: bool
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any]
    batch_norm: str
    freeze_statistics: bool
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
        """The configuration as the JSON values of config.json."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """The text of config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


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
                f"a stage's content is {content!r}; expected 'mse', 'l1', 'colour', "
                "'smooth', 'grid', a layer such as 'vgg54', or a weighted sum of "
                "these, each once, such as 'vgg54 + 0.05 * l1'"
            )
        terms[found["name"]] = float(found["weight"] or 1)
    return terms


def vgg_layer(term: str) -> tuple[int, int] | None:
    """`vggij` as (i, j); None for a distance between images."""
    return (int(term[3]), int(term[4])) if term.startswith("vgg") else None
