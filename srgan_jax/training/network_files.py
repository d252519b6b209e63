"""The files of networks in a run's directory.

    generator.safetensors            generator of the newest finished stage
    generator-STAGE.safetensors      generator of each finished stage
    generator-best.safetensors       generator with the current stage's best score
    generator-start.safetensors      copy of init_from
    discriminator.safetensors        discriminator of the newest finished stage
    discriminator-start.safetensors  copy of init_discriminator_from

A run starts from the copies, so it can be resumed and reported without the originals.
"""

from typing import Any

import jax

from srgan_jax.bucket_client import BucketError
from srgan_jax.paths import AnyPath
from srgan_jax.training.config import Config
from srgan_jax.training.state import Variables
from srgan_jax.weights import store
from srgan_jax.weights.layout import WeightsError

START, BEST = "start", "best"
ORIGINS = {"generator": "init_from", "discriminator": "init_discriminator_from"}
LOAD = {"generator": store.load_generator, "discriminator": store.load_discriminator}
SAVE = {"generator": store.save_generator, "discriminator": store.save_discriminator}


def file_of(workdir: AnyPath, network: str, name: str | None = None) -> AnyPath:
    """The path of a network's file.

    Args:
      workdir: the run's directory.
      network: 'generator' or 'discriminator'.
      name: name of a stage, `START` or `BEST`; None for the newest finished stage.
    """
    return workdir / f"{network}{f'-{name}' if name else ''}.safetensors"


def copy_start(workdir: AnyPath, config: Config) -> None:
    """Copies the networks that a new run starts from into its directory.

    Raises:
      WeightsError: one of them cannot be loaded.
    """
    for network, field in ORIGINS.items():
        path, origin = file_of(workdir, network, START), getattr(config, field)
        path.unlink(missing_ok=True)  # left by an earlier start of this run
        if origin is not None:
            SAVE[network](path, *LOAD[network](origin))


def load_start(workdir: AnyPath, config: Config, network: str) -> Variables | None:
    """Loads the network that the run starts from; None for random weights.

    Raises:
      WeightsError: the run has no copy (as in version 0.1), and the original file is
        missing or damaged.
    """
    path, origin = file_of(workdir, network, START), getattr(config, ORIGINS[network])
    if origin is None:
        return None
    _, variables = LOAD[network](path if is_readable(network, path) else origin)
    return variables


def is_readable(network: str, path: AnyPath) -> bool:
    """True if the file exists and holds a network of this kind."""
    try:
        LOAD[network](path)
    except BucketError:
        raise  # the file may be intact
    except (OSError, WeightsError):
        return False
    return True


def save_generator(
    workdir: AnyPath,
    config: Config,
    variables: Variables,
    *names: str | None,
    **metadata: Any,
) -> None:
    """Writes a generator to the file of each name; see `file_of`."""
    for name in names:
        path = file_of(workdir, "generator", name)
        variables = jax.device_get(variables)
        store.save_generator(path, config.generator, variables, **metadata)


def save_discriminator(workdir: AnyPath, config: Config, variables: Variables) -> None:
    """Writes the discriminator's file."""
    path = file_of(workdir, "discriminator")
    store.save_discriminator(path, config.discriminator, jax.device_get(variables))
