"""Compiles the training step of a configuration for devices that are not here."""

import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from srgan_jax.estimate import hlo
from srgan_jax.training import parallel, stages
from srgan_jax.training.config import Config, StageConfig
from srgan_jax.training.resolve import resolve_config
from srgan_jax.training.state import TrainState


class PodError(ValueError):
    """A configuration cannot be compiled for a topology; the message says why."""


def read_config(spec: str, dtype: str | None = None) -> Config:
    """Reads and resolves the configuration in FILE[:VARIANT].

    Args:
      spec: FILE[:VARIANT].
      dtype: replaces the configuration's dtype if given.

    Raises:
      PodError: FILE does not exist or has no function get_config.
      ValueError: the variant is unknown, or a field has an invalid value.
    """
    file, _, variant = spec.partition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise PodError(f"config {spec!r}: there is no file {file}")
    sys.path.insert(0, str(path.parents[1]))  # configurations import one another
    get_config = runpy.run_path(str(path)).get("get_config")
    if get_config is None:
        raise PodError(f"config {spec!r}: {file} has no function get_config")
    config = get_config(variant) if variant else get_config()
    config.dtype = dtype or config.dtype
    return resolve_config(config)


def compile_stage(
    config: Config,
    stage: StageConfig,
    mesh: Mesh,
    batch_per_chip: int,
    options: dict[str, Any] | None = None,
) -> Any:
    """Compiles the step that training would run on these devices.

    Args:
      config: the configuration that `resolve_config` returned; its batch_size is not
        used.
      stage: one of `config.stages`.
      mesh: mesh over all devices, which need not be here.
      batch_per_chip: HR crops per device and step.
      options: options of the compiler.
    """
    recipe = stages.make_recipe(config, stage, "caffe")
    crop = config.data.crop
    small = crop // config.scale
    begun = stages.Stage(stage, 0, 0, recipe, None)

    def initial() -> tuple[TrainState, Any]:
        vgg_params = None
        vggs = [term.vgg for term in recipe.content if term.vgg is not None]
        if vggs:
            deepest = max(vggs, key=lambda vgg: vgg.layer)
            hr = jnp.zeros((1, crop, crop, 3))
            vgg_params = deepest.init(jax.random.key(0), hr)["params"]
        return stages.initial_state(config, begun), vgg_params

    state, vgg_params = parallel.abstract(jax.eval_shape(initial), mesh)
    images = batch_per_chip * mesh.size
    batch = parallel.abstract_batch(images, {"lr": small, "hr": crop}, mesh)
    update = parallel.map_step(begun.step, mesh)
    return update.lower(state, vgg_params, batch).compile(options)


def memory_and_collectives(compiled: Any, available: int) -> dict[str, Any]:
    """Returns what the programs for TPUs and GPUs say in the same way, per device.

    Args:
      compiled: a compiled program.
      available: bytes of memory of a device.

    Returns:
      `memory_bytes`, and whether it `fits`; `collectives`, their number by kind, and
      `collective_bytes`.
    """
    memory = compiled.memory_analysis()
    # Donated arguments count as outputs too.
    used = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    collectives = list(hlo.collectives_of(compiled.as_text()))
    return {
        "fits": used <= available,
        "memory_bytes": used,
        "collectives": dict(Counter(kind for kind, _ in collectives)),
        "collective_bytes": sum(size for _, size in collectives),
    }
