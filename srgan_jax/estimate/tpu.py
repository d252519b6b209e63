"""Estimates the cost of a configuration on a TPU pod, without a TPU.

libtpu contains the TPU compiler, which runs on any machine. The real step of each stage
is compiled for the devices of a topology but never executed, so all numbers are the
compiler's estimates.
"""

import dataclasses
import importlib.util
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from rich.table import Table

from srgan_jax.estimate import hlo
from srgan_jax.estimate.gpus import GPUS
from srgan_jax.estimate.step import PodError, compile_stage, memory_and_collectives
from srgan_jax.training import steps
from srgan_jax.training.config import Config, StageConfig

SHOWN_OPERATIONS = 10


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, as Google documents it.

    Attributes:
      flops: peak operations per second in bfloat16, a multiply-add counted as two. At
        JAX's default precision, float32 has the same peak.
      clock: cycles per second.
      memory: bytes of HBM.
      host: layout of the chips of one host.
      options: libtpu options that make the whole chip one device.
    """

    flops: float
    clock: float
    memory: int
    host: str
    options: dict[str, str] = dataclasses.field(default_factory=dict)


CHIPS = {
    "v4": Chip(275e12, 1.05e9, 32 * 2**30, "2x2x1", {"chip_config_name": "megacore"}),
    "v5e": Chip(197e12, 1.5e9, 16 * 2**30, "2x2"),
    "v5p": Chip(459e12, 1.75e9, 95 * 2**30, "2x2x1"),
    "v6e": Chip(918e12, 1.75e9, 32 * 2**30, "2x2"),
}


def estimate(
    config: Config, stage: StageConfig, topology: str, batch_per_chip: int = 16
) -> dict[str, Any]:
    """Compiles one stage's step for a topology.

    Args:
      config: the configuration that `resolve_config` returned; its batch_size is not
        used.
      stage: one of `config.stages`.
      topology: chip and layout, such as 'v5e:16x16'.
      batch_per_chip: HR crops per chip and step.

    Returns:
      A record of JSON values, per chip and step: `memory_bytes`, `available_bytes` and
      whether the step `fits`; `flops`; `estimated_cycles`, and the `operations` with
      the largest share of them; `seconds` and `utilisation` of the chip's peak, which
      follow from the cycles; `collectives` and `collective_bytes`. If the step does not
      fit, `flops` and `estimated_cycles` are None and values derived from them are left
      out.

    Raises:
      PodError: libtpu is missing, or the topology is unknown.
    """
    chip, mesh = open_topology(topology)
    record = {
        "topology": topology,
        "chips": mesh.size,
        "batch_per_chip": batch_per_chip,
        "stage": stage.name,
        "dtype": config.dtype,
        "source": "estimate by the TPU compiler",
        "available_bytes": chip.memory,
    }
    began = time.perf_counter()
    try:
        compiled = compile_stage(config, stage, mesh, batch_per_chip)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return record | does_not_fit(str(error))
    seconds = time.perf_counter() - began
    return record | {"compile_seconds": round(seconds, 1)} | cost(compiled, chip)


def open_topology(topology: str) -> tuple[Chip, Mesh]:
    """Returns the chip and a mesh over all devices of a topology, without a TPU.

    Raises:
      PodError: libtpu is missing, or the topology is unknown.
    """
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise PodError(
            f"topology {topology!r}: expected a TPU ({', '.join(CHIPS)}) and a layout, "
            f"such as v5e:16x16, or a GPU ({', '.join(GPUS)}) and a number, such as "
            "h100:8"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise PodError("the TPU compiler is missing: pip install 'srgan-jax[pod]'")
    # Without a TPU, libtpu needs neither the metadata server nor its lock file.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    chip = CHIPS[name]
    try:
        described = topologies.get_topology_desc(topology, "tpu", **chip.options)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise PodError(
            f"topology {topology!r}: the TPU compiler knows no such layout; expected "
            f"one whose sides are multiples of a host's, such as {name}:{chip.host}"
        ) from None
    return chip, Mesh(np.array(described.devices).reshape(-1), (steps.AXIS,))


def cost(compiled: Any, chip: Chip) -> dict[str, Any]:
    """Returns the compiler's estimates for a compiled program, per chip."""
    flops = compiled.cost_analysis()["flops"]
    operations = hlo.cycles_by_operation(compiled.as_text())
    cycles = operations.total()
    seconds = cycles / chip.clock
    return memory_and_collectives(compiled, chip.memory) | {
        "flops": flops,
        "estimated_cycles": cycles,
        "seconds": seconds,
        "utilisation": flops / (seconds * chip.flops),
        "operations": [
            {"operation": name, "source": line, "cycles": n, "share": n / cycles}
            for (name, line), n in operations.most_common(SHOWN_OPERATIONS)
        ],
    }


def does_not_fit(message: str) -> dict[str, Any]:
    """Reads the needed memory of a program that does not fit from the error message."""
    wanted = re.search(r"\(([\d.]+)([MGT])\) exceeds", message)
    factor = {"M": 2**20, "G": 2**30, "T": 2**40}
    return {
        "fits": False,
        "memory_bytes": wanted and int(float(wanted[1]) * factor[wanted[2]]),
        "flops": None,
        "estimated_cycles": None,
    }


def summary(record: dict[str, Any]) -> Iterator[str | Table]:
    """Yields lines and a table that describe a record returned by `estimate`."""
    yield (
        f"{record['stage']} on {record['topology']} ({record['chips']} chips, "
        f"{record['batch_per_chip']} crops per chip, {record['dtype']}): "
        f"{record['source']}"
    )
    used, available = record["memory_bytes"], record["available_bytes"]
    needs = "more than" if used is None else f"{used / 2**30:.2f} GiB of"
    verdict = "fits" if record["fits"] else "does not fit"
    yield f"memory       {needs} {available / 2**30:.0f} GiB per chip: {verdict}"
    if record["estimated_cycles"] is None:
        return
    yield f"FLOPs        {record['flops']:.3g} per chip and step"
    cycles, seconds = record["estimated_cycles"], record["seconds"]
    yield f"cycles       {cycles:,} per step ({1e3 * seconds:.2f} ms)"
    yield f"utilisation  {record['utilisation']:.1%} of the chip's bfloat16 peak"
    kinds = [f"{count} {kind}" for kind, count in record["collectives"].items()]
    exchanged = record["collective_bytes"] / 1e6
    yield f"collectives  {', '.join(kinds) or 'none'}; {exchanged:.2f} MB per chip"
    table = Table("cycles", "share", "operation", "source")
    for row in record["operations"]:
        cells = f"{row['cycles']:,}", f"{row['share']:.1%}"
        table.add_row(*cells, row["operation"], row["source"])
    yield table
