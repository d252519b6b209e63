"""Reads a run's config.json as a configuration file: --config=RUN/config.json.

ml_collections reads only Python files, so `command_line.parse` passes it this file,
with the path of the JSON file after a colon.
"""

import json
from typing import Any

from ml_collections import ConfigDict, config_dict

from srgan_jax import paths

# Fields that may be None. A ConfigDict needs their type to parse an override.
OPTIONAL = ("preset", "init_from", "init_discriminator_from")


def get_config(path: str) -> ConfigDict:
    """Returns the resolved configuration of a run."""
    from srgan_jax.training.config import with_later_fields  # the import takes seconds

    try:
        values = with_later_fields(json.loads(paths.parse(path).read_text()))
        values["stages"] = tuple(map(ConfigDict, _tuples(values["stages"])))
    except (ValueError, TypeError, KeyError) as error:
        raise OSError(f"{path} is not the config.json of a run ({error})") from error
    values |= {
        field: config_dict.placeholder(str)
        for field in OPTIONAL
        if values.get(field) is None
    }
    return ConfigDict(values)


def _tuples(value: Any) -> Any:
    """Turns lists into tuples, since only tuples can be set on the command line."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
