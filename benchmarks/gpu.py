"""Compares steps and upscaling here with PyTorch on a GPU; prints a table to paste.

    python benchmarks/gpu.py [--batches 16 64] [--rounds 5] [--steps 20]

Both stages are trained on the paper's networks with random weights and the same crops,
in TF32 and in bfloat16. PyTorch is channels_last, eager and compiled, with autocast for
bfloat16. An image of 512x512 is upscaled from uint8 to uint8. Each program runs in a
process of its own on one GPU. They take turns, several steps each; a ratio is the
median of PyTorch's time divided by ours in the same round and precision. It uses the
versions of JAX and PyTorch that are installed and needs no TensorFlow. Without a GPU it
runs on the CPU.
"""

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.inference import TorchGenerator
from benchmarks.train_step import STAGES, OurSteps, TorchSteps, batch_of
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.models.registry import EXECUTION, create

PRECISIONS = ("TF32", "bfloat16")
OURS = "here"
PROGRAMS = (OURS, "PyTorch", "PyTorch compiled")
UPSCALING = "upscaling"

Key = tuple[str, str]  # program, precision


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare(key: Key, work: str, size: int, settings: dict[str, int]) -> None:
    """Sets the run that this process measures, and warms it up.

    Args:
      key: program and precision.
      work: a stage, or `UPSCALING`.
      size: number of crops, or the side of the image.
      settings: the generator's settings.
    """
    global _run
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    training = work in STAGES
    if key[0] == OURS:
        dtype = {"TF32": "float32"}.get(key[1], key[1])
        make = our_training if training else our_upscaling
        _run = make(work, size, dtype, settings)
    else:
        bfloat16, compiled = key[1] == "bfloat16", key[0] == "PyTorch compiled"
        torch_make = torch_training if training else torch_upscaling
        _run = torch_make(work, size, bfloat16, compiled, settings)
    for _ in range(3):
        take_turn(1)


_run: Callable[[], Any]  # what this process measures; `prepare` sets it


def take_turn(steps: int) -> float:
    """Returns the seconds of one step, the mean of `steps` steps."""
    start = time.perf_counter()
    for _ in range(steps):
        result = _run()
    jax.block_until_ready(result)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def our_training(
    work: str, size: int, dtype: str, settings: dict[str, int]
) -> Callable[[], Any]:
    ours = OurSteps(work, batch_of(size), dtype, settings)
    placed = ours.placed()
    return lambda: ours.run(placed)


def torch_training(
    work: str, size: int, bfloat16: bool, compiled: bool, settings: dict[str, int]
) -> Callable[[], Any]:
    layout = torch.channels_last
    theirs = TorchSteps(
        batch_of(size), layout, device(), bfloat16, compiled, generator=settings
    )
    return getattr(theirs, work)


def our_upscaling(
    _: str, side: int, dtype: str, settings: dict[str, int]
) -> Callable[[], Any]:
    network, variables = generator(settings)
    upscaler = Upscaler(network, variables, dtype=dtype)
    photo = image(side)
    return lambda: upscaler(photo)


def torch_upscaling(
    _: str, side: int, bfloat16: bool, compiled: bool, settings: dict[str, int]
) -> Callable[[], Any]:
    network: Any = TorchGenerator(*generator(settings))
    network = network.to(device(), memory_format=torch.channels_last)
    forward = torch.compile(network) if compiled else network
    photo = image(side)

    def run() -> np.ndarray:
        with (
            torch.inference_mode(),
            torch.autocast(device(), torch.bfloat16, enabled=bfloat16),
        ):
            lr = torch.from_numpy(photo).to(device()).permute(2, 0, 1)[None] / 255
            lr = lr.contiguous(memory_format=torch.channels_last)
            sr = ((forward(lr).float() + 1) * 127.5 + 0.5).floor().clamp(0, 255)
            return sr[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()

    return run


def generator(settings: dict[str, int]) -> tuple[dict[str, Any], Any]:
    """Returns a generator's settings and random weights."""
    network = create("generator", settings)
    lr = np.zeros((1, 24, 24, 3), np.float32)
    # On the CPU, so that PyTorch's process takes no memory of the GPU for JAX.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        variables = jax.device_get(jax.jit(network.init)(jax.random.key(0), lr))
    names = set(network.__dataclass_fields__) - set(EXECUTION)
    return {name: getattr(network, name) for name in names}, variables


def image(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (side, side, 3)).astype(np.uint8)


def compare(
    work: str, size: int, programs: list[str], options: argparse.Namespace
) -> dict[Key, list[float] | str]:
    """Returns the seconds of each program in each round, or why it cannot run."""
    context = multiprocessing.get_context("spawn")
    settings = {"blocks": options.blocks, "channels": options.channels}
    results: dict[Key, list[float] | str] = {}
    with contextlib.ExitStack() as stack:
        processes = {}
        for key in [(p, precision) for precision in PRECISIONS for p in programs]:
            process = stack.enter_context(ProcessPoolExecutor(1, context))
            print(f"{work} {size}: preparing {key}", file=sys.stderr, flush=True)
            try:
                process.submit(prepare, key, work, size, settings).result()
            except Exception as error:  # not enough memory, or no compiler
                print(f"{key} cannot run: {error}", file=sys.stderr, flush=True)
                results[key] = type(error).__name__
                continue
            processes[key], results[key] = process, []
        for _ in range(options.rounds):
            for key, process in processes.items():
                seconds = results[key]
                assert isinstance(seconds, list)
                seconds.append(process.submit(take_turn, options.steps).result())
    return results


def cell(key: Key, results: dict[Key, list[float] | str]) -> str:
    """Median milliseconds, and the median ratio to ours in a round."""
    seconds, ours = results[key], results[OURS, key[1]]
    if isinstance(seconds, str):
        return seconds
    text = f"{1e3 * statistics.median(seconds):.2f} ms"
    if key[0] == OURS or isinstance(ours, str):
        return text
    ratio = statistics.median(map(float.__truediv__, seconds, ours))
    return f"{text}, {ratio:.2f}x"


def table(columns: dict[str, dict[Key, list[float] | str]]) -> str:
    """The results as Markdown; `columns` maps headings to results of `compare`."""
    lines = [f"| program | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for key in next(iter(columns.values())):
        cells = (cell(key, results) for results in columns.values())
        lines.append(f"| {', '.join(key)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=(16, 64))
    works = (*STAGES, UPSCALING)
    parser.add_argument("--work", nargs="+", choices=works, default=works)
    parser.add_argument("--side", type=int, default=512, help="of the upscaled image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="in one turn")
    parser.add_argument("--no-compile", action="store_true", help="PyTorch eager only")
    parser.add_argument("--blocks", type=int, default=16, help="of the generator")
    parser.add_argument("--channels", type=int, default=64, help="of the generator")
    options = parser.parse_args(arguments)
    # The processes use one GPU and share its memory.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    ours = jax.default_backend()
    if (ours == "gpu") != (device() == "cuda"):
        parser.error(
            f"JAX runs on {ours} and PyTorch on {device()}; install both for the GPU, "
            "or hide it from both with CUDA_VISIBLE_DEVICES="
        )
    programs = list(PROGRAMS[: 2 if options.no_compile else 3])
    columns = {}
    for work in options.work:
        training = work in STAGES
        for size in options.batches if training else [options.side]:
            heading = f"{work}, {f'{size} crops' if training else f'{size}x{size}'}"
            columns[heading] = compare(work, size, programs, options)
    name = torch.cuda.get_device_name() if device() == "cuda" else platform.machine()
    print(f"{name}, JAX {jax.__version__}, PyTorch {torch.__version__}\n")
    print(table(columns))


if __name__ == "__main__":
    main()
