"""Estimates the cost of a configuration on GPUs, without a GPU.

JAX's CUDA plugin contains the compiler, which runs on any machine. The real step of
each stage is compiled for the described GPUs but never executed, so all numbers are
estimates. cuDNN chooses the algorithm of a convolution on a real GPU only: a
convolution is modelled by the larger of the times that its operations and its bytes
take at the GPU's peak, and cuDNN's workspaces are not part of the memory. The time of
every other kernel is the compiler's own estimate. Kernels are assumed to follow one
another without gaps.
"""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from rich.table import Table

from srgan_jax import cuda_plugin
from srgan_jax.estimate import hlo
from srgan_jax.estimate.cudnn import Convolution, convolution
from srgan_jax.estimate.gpus import GPUS, Gpu
from srgan_jax.estimate.step import PodError, compile_stage, memory_and_collectives
from srgan_jax.training import steps
from srgan_jax.training.config import Config, StageConfig

SHOWN_OPERATIONS = 10
MOST_GPUS = 8  # of one machine
OPTIONS = {
    "xla_gpu_collect_cost_model_stats": True,
    # A second cost model, which fails for GPUs whose products it has no table of.
    "xla_disable_hlo_passes": "sol-gpu-cost-model-stats-collection",
}
# Instructions without a kernel of their own.
FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|while|call|after-all|"
    r"partition-id|replica-id|.*-done"
)


def estimate(
    config: Config, stage: StageConfig, topology: str, batch_per_chip: int = 16
) -> dict[str, Any]:
    """Compiles one stage's step for GPUs.

    Args:
      config: the configuration that `resolve_config` returned; its batch_size is not
        used.
      stage: one of `config.stages`.
      topology: GPU and number, such as 'h100:8'.
      batch_per_chip: HR crops per GPU and step.

    Returns:
      A record of JSON values, per GPU and step: `memory_bytes`, `available_bytes` and
      whether the step `fits`, without cuDNN's workspaces; see `cost` for the others.

    Raises:
      PodError: the compiler is missing, or the topology is unknown.
    """
    gpu, mesh = open_topology(topology)
    began = time.perf_counter()
    compiled = compile_stage(config, stage, mesh, batch_per_chip, OPTIONS)
    return {
        "topology": topology,
        "chips": mesh.size,
        "batch_per_chip": batch_per_chip,
        "stage": stage.name,
        "dtype": config.dtype,
        "source": "estimate by the CUDA compiler",
        "available_bytes": gpu.memory,
        "compile_seconds": round(time.perf_counter() - began, 1),
    } | cost(compiled, gpu)


def open_topology(topology: str) -> tuple[Gpu, Mesh]:
    """Returns the GPU and a mesh over all devices of a topology, without a GPU.

    Raises:
      PodError: the compiler is missing, or the topology is unknown.
    """
    name, _, count = topology.partition(":")
    if name not in GPUS or count not in map(str, range(1, MOST_GPUS + 1)):
        raise PodError(
            f"topology {topology!r}: expected a GPU ({', '.join(GPUS)}) and a number "
            f"from 1 to {MOST_GPUS}, such as h100:8"
        )
    if not cuda_plugin.load_compiler():
        raise PodError(
            "the CUDA compiler is missing: pip install 'srgan-jax[cuda-aot]'"
        )
    gpu = GPUS[name]
    described = topologies.get_topology_desc(
        platform="cuda", topology=f"1x1x{count}", target_config=gpu.target_config()
    )
    return gpu, Mesh(np.array(described.devices).reshape(-1), (steps.AXIS,))


def cost(compiled: Any, gpu: Gpu) -> dict[str, Any]:
    """Returns the estimates for a compiled program, per GPU.

    Returns:
      Those of `memory_and_collectives`; the numbers of `kernels` and of `convolutions`;
      `conv_flops`; `traffic_bytes`, which all kernels read and write;
      `modelled_us`, the sum of `modelled_us_of_convolutions` and
      `modelled_us_without_convolutions`; `convolution_kinds`; and the `operations` with
      the largest times among the others.
    """
    common = memory_and_collectives(compiled, gpu.memory)
    return common | kernels_of(compiled.as_text(), gpu)


def kernels_of(text: str, gpu: Gpu) -> dict[str, Any]:
    """Returns the part of `cost` that the program's text determines."""
    computations, line_of = hlo.instructions(text), hlo.source_lines(text)
    every = [one for inside in computations.values() for one in inside]
    shapes = {one.name: one.shape for one in every}
    kernels = traffic = 0
    convolutions: Counter[Convolution] = Counter()
    others: defaultdict[tuple[str, str], float] = defaultdict(float)
    counts: Counter[tuple[str, str]] = Counter()
    for one, times in executed(computations):
        kernels += times
        operands = sum(hlo.bytes_of(shapes[name]) for name in set(one.operands))
        traffic += times * (hlo.bytes_of(one.shape) + operands)
        found = convolution(one, shapes)
        if found is not None:
            convolutions[found] += times
            continue
        modelled = re.search(r'"exec_time_us":([\d.e+-]+)', one.text)
        key = described(one, computations, line_of)
        others[key] += times * float(modelled[1]) if modelled else 0
        counts[key] += times
    without = sum(others.values())
    within = sum(1e6 * seconds_of(one, gpu) * n for one, n in convolutions.items())
    dearest = sorted(others.items(), key=lambda item: item[1], reverse=True)
    return {
        "kernels": kernels,
        "convolutions": convolutions.total(),
        "conv_flops": sum(one.flops * times for one, times in convolutions.items()),
        "traffic_bytes": traffic,
        "modelled_us": without + within,
        "modelled_us_of_convolutions": within,
        "modelled_us_without_convolutions": without,
        "convolution_kinds": list(kinds_of(convolutions, gpu)),
        "operations": [
            {
                "operation": name,
                "source": line,
                "count": counts[name, line],
                "us": us,
                "share": us / without,
            }
            for (name, line), us in dearest[:SHOWN_OPERATIONS]
        ],
    }


def described(
    kernel: hlo.Instruction,
    computations: dict[str, list[hlo.Instruction]],
    line_of: dict[str, str],
) -> tuple[str, str]:
    """Returns the operation and the source line of a kernel.

    If the kernel has none, they are those of the last fused operation that has them.
    """
    called = re.search(r"calls=%?([\w.-]+)", kernel.text)
    fused = computations.get(called[1], []) if called else []
    for one in (kernel, *reversed(fused)):
        name, line = hlo.operation_of(one.text, line_of)
        if line != "?":
            return name, line
    return re.sub(r"\.\d+$", "", kernel.name), "?"


def executed(
    computations: dict[str, list[hlo.Instruction]], name: str = "ENTRY", times: int = 1
) -> Iterator[tuple[hlo.Instruction, int]]:
    """Yields the instructions that launch a kernel, and how often each does.

    The body of a loop counts as often as it is known to run, or once.
    """
    for one in computations[name]:
        if called := re.search(r"(?:body|to_apply)=%?([\w.-]+)", one.text):
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', one.text)
            if one.opcode in ("while", "call"):
                count = times * (int(trips[1]) if trips else 1)
                yield from executed(computations, called[1], count)
        if not FREE.fullmatch(one.opcode):
            yield one, times


def seconds_of(convolution: Convolution, gpu: Gpu) -> float:
    """The time of a convolution at the peak of the GPU."""
    peak = gpu.flops.get(convolution.precision, gpu.flops["float32"])
    return max(convolution.flops / peak, convolution.bytes / gpu.bandwidth)


def kinds_of(
    convolutions: Counter[Convolution], gpu: Gpu
) -> Iterator[dict[str, int | float | str]]:
    """Yields a record of all convolutions of one kind, layout and precision."""
    groups = defaultdict(list)
    for one, times in convolutions.items():
        groups[one.kind, one.layout, one.precision].append((one, times))
    for (kind, layout, precision), members in sorted(groups.items()):
        yield {
            "kind": kind,
            "layout": layout,
            "precision": precision,
            "count": sum(times for _, times in members),
            "flops": sum(one.flops * times for one, times in members),
            "us": sum(1e6 * seconds_of(one, gpu) * times for one, times in members),
        }


def summary(record: dict[str, Any]) -> Iterator[str | Table]:
    """Yields lines and tables that describe a record returned by `estimate`."""
    yield (
        f"{record['stage']} on {record['topology']} ({record['batch_per_chip']} crops "
        f"per GPU, {record['dtype']}): every figure is an {record['source']}"
    )
    used, available = record["memory_bytes"], record["available_bytes"]
    verdict = "fits" if record["fits"] else "does not fit"
    yield (
        f"memory       {used / 2**30:.2f} GiB of {available / 2**30:.0f} GiB per GPU, "
        f"without cuDNN's workspaces: {verdict}"
    )
    yield f"kernels      {record['kernels']:,}; {record['convolutions']} convolutions"
    yield f"FLOPs        {record['conv_flops']:.3g} per GPU, of convolutions"
    yield f"traffic      {record['traffic_bytes'] / 1e9:.2f} GB per GPU"
    within, without = (
        record[f"modelled_us_{which}_convolutions"] for which in ("of", "without")
    )
    yield (
        f"time         {(within + without) / 1e3:.2f} ms: {within / 1e3:.2f} ms "
        f"convolutions at the GPU's peak, {without / 1e3:.2f} ms other kernels"
    )
    counts = [f"{count} {kind}" for kind, count in record["collectives"].items()]
    exchanged = record["collective_bytes"] / 1e6
    yield f"collectives  {', '.join(counts) or 'none'}; {exchanged:.2f} MB per GPU"
    table = Table("convolutions", "layout", "precision", "count", "FLOPs", "us")
    for row in record["convolution_kinds"]:
        cells = str(row["count"]), f"{row['flops']:.3g}", f"{row['us']:.0f}"
        table.add_row(row["kind"], row["layout"], row["precision"], *cells)
    yield table
    table = Table("us", "share", "count", "other operation", "source")
    for row in record["operations"]:
        cells = f"{row['us']:.1f}", f"{row['share']:.1%}", str(row["count"])
        table.add_row(*cells, row["operation"], row["source"])
    yield table
