"""Resolves a user's configuration into the one that a run trains with."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from srgan_jax.training.config import Config, ConfigError, with_later_fields
from srgan_jax.training.config_checks import build, check, nearest
from srgan_jax.training.presets import PRESETS
from srgan_jax.weights import layout, store


def resolve_config(
    config: ConfigDict,
    overrides: Collection[str] = (),
    recorded: Mapping[str, Any] | None = None,
) -> Config:
    """Expands `preset`, adopts the settings of `init_from` networks, checks all fields.

    Args:
      config: the configuration of the file, with overrides applied.
      overrides: fields set on the command line, such as 'generator.blocks'. They take
        precedence over the preset; it is an error if they conflict with `init_from`.
      recorded: the config.json of a run that is resumed. Its networks have the settings
        of the networks in `init_from`, whose files are then not needed again.

    Raises:
      ConfigError: fields conflict, a field is unknown or a value is not allowed.
      WeightsError: an `init_from` network cannot be loaded.
    """
    values = config.copy_and_resolve_references().to_json_best_effort()
    values = with_later_fields(json.loads(values))
    build(Config, values, "")  # checks that every field exists and has its type
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
    resolved = build(Config, values, "")
    check(resolved)
    return resolved


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
                f"{origin}={values[origin]!r}, which has {value!r}; leave the field out"
            )
        values[network][field] = value


def _check_crop(
    values: Mapping[str, Any], settings: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    """Refuses a discriminator whose dense head expects crops of another size."""
    crop = values["data"]["crop"]
    expected = layout.expected("discriminator", settings, crop)
    leaves = flatten_dict(variables, sep="/")
    if expected != {name: leaf.shape for name, leaf in leaves.items()}:
        raise ConfigError(
            f"init_discriminator_from={values['init_discriminator_from']!r} is not for "
            f"crops of {crop}x{crop}; set data.crop to the size it was trained on"
        )
