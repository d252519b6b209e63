"""From the configuration as given to what a stage computes with.

Refuses an override that conflicts with `init_from`, a stage that cannot be, and to
continue a run under another configuration than it began with.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from srgan_jax import paths
from srgan_jax.choices import one_of
from srgan_jax.evaluation import metrics
from srgan_jax.models import registry
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import losses, steps
from srgan_jax.training.presets import PRESETS
from srgan_jax.weights import layout, store

DTYPES = ("float32", "bfloat16")
# a decimal weight and a distance: "vgg54", "0.05 * l1"
CONTENT_TERM = re.compile(
    r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+) *\* *)?(?P<name>mse|l1|vgg\d\d)"
)

POSITIVE = (
    "batch_size",
    "data.crop",
    "evaluation.every",
    "checkpoint.every",
    "checkpoint.keep",
    "log_every",
)


class ConfigError(ValueError):
    """A configuration that cannot be trained; the message names the field."""


def resolve(config: ConfigDict, overrides: Collection[str] = ()) -> ConfigDict:
    """Expands `preset`, then takes over the generator's settings of `init_from`.

    Args:
      config: as the configuration file gives it, overrides applied.
      overrides: fields set on the command line, such as 'generator.blocks'. They win
        over the preset; against `init_from` they are an error.

    Raises:
      ConfigError: a conflict, or an unknown value.
    """
    config = ConfigDict(config).copy_and_resolve_references()
    if config.preset is not None:
        for section, fields in _preset(config.preset).items():
            for field, value in fields.items():
                if f"{section}.{field}" not in overrides:
                    config[section][field] = value
    if config.init_from is not None:
        settings, _ = store.load_generator(config.init_from)
        _take_over(config, "generator", "init_from", settings, overrides)
        config.stages = tuple(s for s in config.stages if not s.only_from_scratch)
    if config.init_discriminator_from is not None:
        settings, variables = store.load_discriminator(config.init_discriminator_from)
        _take_over(
            config, "discriminator", "init_discriminator_from", settings, overrides
        )
        _check_crop(config, variables)
    _check(config)
    return config


def _take_over(
    config: ConfigDict,
    network: str,
    origin: str,
    settings: dict[str, Any],
    overrides: Collection[str],
) -> None:
    """Sets a network's settings to those of the file that it starts from."""
    for field, value in settings.items():
        given = config[network][field]
        if f"{network}.{field}" in overrides and given != value:
            raise ConfigError(
                f"{network}.{field}={given!r} conflicts with the {network} of "
                f"{origin}={config[origin]!r}, which has {value!r}"
            )
        config[network][field] = value


def _check_crop(config: ConfigDict, variables: dict[str, Any]) -> None:
    """Refuses a discriminator whose dense head is for crops of another size."""
    expected = layout.expected(
        "discriminator", config.discriminator.to_dict(), config.data.crop
    )
    if expected != {name: leaf.shape for name, leaf in layout.flatten(variables)}:
        raise ConfigError(
            f"init_discriminator_from={config.init_discriminator_from!r} is not for "
            f"crops of {config.data.crop}x{config.data.crop}; give data.crop the size "
            "that it was trained on"
        )


def _preset(name: str) -> dict[str, dict[str, Any]]:
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def _check(config: ConfigDict) -> None:
    try:
        one_of("dtype", config.dtype, DTYPES)
        one_of("batch_norm", config.batch_norm, ("per_replica", "synchronised"))
        one_of("content.reduction", config.content.reduction, losses.REDUCTIONS)
        one_of("content.range", config.content.range, ("symmetric", "unit"))
        one_of("adversarial.form", config.adversarial.form, losses.ADVERSARIAL_FORMS)
        one_of("adversarial.order", config.adversarial.order, steps.ORDERS)
        one_of("evaluation.lpips", config.evaluation.lpips, ("alex", "vgg", "none"))
        one_of("evaluation.protocol", config.evaluation.protocol, metrics.PROTOCOLS)
        one_of("data.degradation", config.data.degradation, ("bicubic", "photo"))
        one_of("data.on_damage", config.data.on_damage, ("skip", "stop"))
        for part in ("data", "evaluation"):
            one_of(f"{part}.border", config[part].border, ("mirrored", "clamped"))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    flat = config.to_dict()
    flat |= {
        f"{k}.{x}": y
        for k, v in flat.items()
        if isinstance(v, dict)
        for x, y in v.items()
    }
    for field in POSITIVE:
        if flat[field] < 1:
            raise ConfigError(f"{field} is {flat[field]}; expected 1 or more")
    if config.data.exposure < 0:
        raise ConfigError(f"data.exposure is {config.data.exposure}; expected 0+ stops")
    if not 0 <= config.data.graded <= 1:
        raise ConfigError(f"data.graded is {config.data.graded}; expected [0, 1]")
    if not 0 <= config.ema_decay < 1:
        raise ConfigError(f"ema_decay is {config.ema_decay}; expected [0, 1)")
    if not config.stages:
        raise ConfigError("stages is empty: nothing to train")
    if config.init_discriminator_from is not None and not any(
        stage.adversarial for stage in config.stages
    ):
        raise ConfigError(
            f"init_discriminator_from is {config.init_discriminator_from!r}, but no "
            "stage is adversarial; leave it out"
        )
    for stage in config.stages:
        content_terms(stage.content)
        if stage.steps < 1:
            raise ConfigError(
                f"stage {stage.name!r} has {stage.steps} steps; expected 1+"
            )
    if config.data.crop % config.generator.scale:
        raise ConfigError(
            f"data.crop {config.data.crop} is not a multiple of generator.scale "
            f"{config.generator.scale}"
        )


def content_terms(content: str) -> dict[str, float]:
    """The weight of each term of a content loss such as 'vgg54 + 0.05 * l1'."""
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


def recipe(
    config: ConfigDict, stage: ConfigDict, preprocessing: str, first_step: int = 0
) -> steps.Recipe:
    """What `stage` computes with.

    Args:
      config: of the run.
      stage: one of its stages.
      preprocessing: of the VGG19 weights.
      first_step: step of the run at which the stage begins.
    """
    axis_name = steps.AXIS if config.batch_norm == "synchronised" else None
    execution: dict[str, Any] = {
        "dtype": jnp.dtype(config.dtype),
        "axis_name": axis_name,
    }
    content = []
    for name, weight in content_terms(stage.content).items():
        layer = vgg_layer(name)
        vgg = layer and VGG19(layer, preprocessing, execution["dtype"])
        content.append(steps.ContentTerm(name, weight, vgg))
    return steps.Recipe(
        generator=registry.create("generator", config.generator, **execution),
        discriminator=registry.create(
            "discriminator", config.discriminator, **execution
        ),
        optimizer=optax.adam(learning_rate(stage), **config.optimizer),
        learning_rate=learning_rate(stage),
        first_step=first_step,
        content=tuple(content),
        feature_scale=config.content.feature_scale,
        reduction=config.content.reduction,
        pixel_range=config.content.range,
        tv_weight=stage.tv_weight,
        adversarial_weight=config.adversarial.weight,
        adversarial_form=config.adversarial.form,
        order=config.adversarial.order,
        ema_decay=config.ema_decay,
    )


def learning_rate(stage: ConfigDict) -> optax.Schedule:
    """The rate at each step of a stage: a tenth, say, from every `decay_at` on."""
    decays = dict.fromkeys(stage.decay_at, stage.decay_factor)
    return optax.piecewise_constant_schedule(stage.learning_rate, decays)


def claim(workdir: Path, config: ConfigDict, *, write: bool) -> None:
    """Writes config.json into a new run's directory, or checks that it is the same.

    Without `write` it is another process that has written it.

    Raises:
      ConfigError: the directory holds a run whose configuration differs in anything
        but the number of steps; the field is named. Or the file is not there.
    """
    path = workdir / "config.json"
    text = config.to_json_best_effort(indent=2, sort_keys=True)
    if path.exists():
        differing = _difference(json.loads(path.read_text()), json.loads(text))
        if differing:
            field, before, now = differing
            raise ConfigError(
                f"{workdir} holds a run with {field}={before!r}, not {now!r}; give it "
                "its former value or choose another --workdir"
            )
    elif not write:
        raise ConfigError(f"{workdir} is not a directory that all hosts share")
    if write:
        with paths.replacing(path) as unfinished:
            unfinished.write_text(text + "\n")


def _difference(before: Any, now: Any, field: str = "config") -> tuple | None:
    """The first field that differs, with both values; numbers of steps may."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(set(before) | set(now))
        pairs = [(f"{field}.{k}", before.get(k), now.get(k)) for k in keys]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        # a stage goes by its name: without those that init_from skips, its number is
        # not that of the command line
        both = enumerate(zip(before, now, strict=True))
        named = [
            (b.get("name", i) if isinstance(b, dict) else i, b, n) for i, (b, n) in both
        ]
        pairs = [(f"{field}[{name}]", b, n) for name, b, n in named]
    elif before == now or field.endswith("].steps"):
        return None
    else:
        return field, before, now
    found = (_difference(b, n, f) for f, b, n in pairs)
    return next((difference for difference in found if difference), None)
