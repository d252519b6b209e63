"""Compares the duration of a training step here with PyTorch, on this machine.

    python benchmarks/train_step.py [--batches 8 16] [--rounds 7] [--json]

The steps are those of SRResNet-MSE and of SRGAN-VGG54 with G's step before D's, on the
paper's networks with random weights and the same uint8 crops. PyTorch runs in both of
its memory layouts. Each program runs in a separate process. Ours keeps freed memory as
training does (runtime.reuse_memory), from which PyTorch would benefit too, and receives
its batch again for each step; PyTorch receives it once. The programs take turns, and
ratios are taken within a round, since the machine may be busy with other work. Needs
srgan-jax[parity].
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from configs import srgan
from srgan_jax.models.vgg import VGG19
from srgan_jax.training import parallel, runtime, stages
from srgan_jax.training.resolve import resolve_config

LAYOUTS = {
    "torch": torch.contiguous_format,
    "torch_channels_last": torch.channels_last,
}
STAGES = ("pretrain", "adversarial")
Run = Callable[[], Any]  # it may return before its result is computed


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        conv = functools.partial(nn.Conv2d, channels, channels, 3, 1, 1, bias=False)
        norm = functools.partial(nn.BatchNorm2d, channels)
        self.path = nn.Sequential(conv(), norm(), nn.PReLU(), conv(), norm())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.path(x)


class Generator(nn.Module):
    def __init__(self, blocks: int = 16, channels: int = 64):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, channels, 9, 1, 4), nn.PReLU())
        self.trunk = nn.Sequential(
            *(Residual(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        upsampling: list[nn.Module] = []
        for _ in range(2):
            upsampling += [nn.Conv2d(channels, 4 * channels, 3, 1, 1)]
            upsampling += [nn.PixelShuffle(2), nn.PReLU()]
        self.last = nn.Sequential(*upsampling, nn.Conv2d(channels, 3, 9, 1, 4))

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        x = self.first(lr)
        return self.last(x + self.trunk(x))


def discriminator() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1), nn.LeakyReLU(0.2)]
    widths = (64, 64, 128, 128, 256, 256, 512, 512)
    for i in range(1, 8):
        conv = nn.Conv2d(widths[i - 1], widths[i], 3, 1 + i % 2, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(widths[i]), nn.LeakyReLU(0.2)]
    head = (nn.Linear(512 * 36, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1))
    return nn.Sequential(*layers, nn.Flatten(), *head)


def vgg54() -> nn.Module:
    layers: list[nn.Module] = []
    before = 3
    for width, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, 1, 1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


class TorchSteps:
    """Training steps as PyTorch users write them: one backward pass per network.

    With G first, D's pass over SR is computed twice, since D's own loss needs another
    graph through D.
    """

    def __init__(
        self,
        batch: dict[str, np.ndarray],
        layout: torch.memory_format,
        device: str = "cpu",
        bfloat16: bool = False,
        compiled: bool = False,
        generator: Mapping[str, int] = MappingProxyType({}),
    ):
        def ours(module: nn.Module) -> Any:
            module = module.to(device, memory_format=layout)  # type: ignore[call-overload]
            return torch.compile(module) if compiled else module

        self.layout = layout
        self.batch = {k: torch.from_numpy(v).to(device) for k, v in batch.items()}
        self.g, self.d, self.vgg = map(
            ours, (Generator(**generator), discriminator(), vgg54())
        )
        self.adam_g, self.adam_d = (
            torch.optim.Adam(module.parameters(), 1e-4, fused=device == "cuda")
            for module in (self.g, self.d)
        )
        self.autocast = functools.partial(
            torch.autocast, device, torch.bfloat16, enabled=bfloat16
        )

    def images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """LR in [0, 1] and HR in [-1, 1], NCHW."""
        lr, hr = (self.batch[name].permute(0, 3, 1, 2).float() for name in ("lr", "hr"))
        lr, hr = (x.contiguous(memory_format=self.layout) for x in (lr, hr))
        return lr / 255, hr / 127.5 - 1

    def pretrain(self) -> None:
        lr, hr = self.images()
        self.adam_g.zero_grad()
        with self.autocast():
            loss = F.mse_loss(self.g(lr), hr)
        loss.backward()
        self.adam_g.step()

    def adversarial(self) -> None:
        lr, hr = self.images()
        self.d.requires_grad_(False)
        self.adam_g.zero_grad()
        with self.autocast():
            sr = self.g(lr)
            content = F.mse_loss(self.vgg(sr) / 12.75, self.vgg(hr) / 12.75)
            loss = content + 1e-3 * F.softplus(-self.d(sr)).mean()
        loss.backward()
        self.adam_g.step()
        self.d.requires_grad_(True)
        self.adam_d.zero_grad()
        with self.autocast():
            real, fake = self.d(hr), self.d(sr.detach())
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        loss.backward()
        self.adam_d.step()


class OurSteps:
    """The step that training runs, compiled for all devices of this process.

    Attributes:
      compiling: seconds that its compilation took.
    """

    def __init__(
        self,
        name: str,
        batch: dict[str, np.ndarray],
        dtype: str = "float32",
        generator: Mapping[str, int] = MappingProxyType({}),
    ):
        given = srgan.get_config()
        given.batch_size = len(batch["hr"])
        given.dtype = dtype
        given.generator.update(generator)
        config = resolve_config(given)
        stage_config = next(stage for stage in config.stages if stage.name == name)
        recipe = stages.make_recipe(config, stage_config, "caffe")
        vgg_params = None
        if any(term.vgg for term in recipe.content):
            hr = np.zeros((1, 96, 96, 3), np.float32)
            vgg_params = VGG19().init(jax.random.key(0), hr)["params"]
        stage = stages.Stage(stage_config, 0, 0, recipe, vgg_params)
        self.batch, self.mesh = batch, parallel.create_mesh()
        self.state = parallel.replicate(stages.initial_state(config, stage), self.mesh)
        self.vgg_params = parallel.replicate(vgg_params, self.mesh)
        began = time.perf_counter()
        mapped = parallel.map_step(stage.step, self.mesh)
        arguments = self.state, self.vgg_params, self.placed()
        self.step = runtime.compile_step(mapped, *arguments)
        self.compiling = time.perf_counter() - began

    def placed(self) -> dict[str, jax.Array]:
        # As in training, the batch arrives before the step. Otherwise JAX would run the
        # step on another thread, for which glibc does not keep memory.
        return jax.block_until_ready(next(parallel.feed(iter([self.batch]), self.mesh)))

    def run(self, placed: dict[str, jax.Array] | None = None) -> Any:
        """Runs a step on the given batch, or on one that is placed first."""
        batch = self.placed() if placed is None else placed
        self.state, metrics = self.step(self.state, self.vgg_params, batch)
        return self.state.step, metrics


_step: Run  # the step that this process measures; `prepare` sets it


def prepare(key: str, name: str, batch_size: int) -> float:
    """Sets the step that this process measures; returns the compilation time."""
    global _step
    batch, compiling = batch_of(batch_size), 0.0
    if key == "srgan_jax":
        runtime.reuse_memory()
        ours = OurSteps(name, batch)
        _step, compiling = ours.run, ours.compiling
    else:
        _step = getattr(TorchSteps(batch, LAYOUTS[key]), name)
    for _ in range(2):
        take_turn()
    return compiling


def take_turn() -> float:
    time.sleep(0.2)  # until the threads of the previous program sleep
    return seconds(_step)


def seconds(run: Run) -> float:
    """Returns the duration of one step."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def batch_of(count: int) -> dict[str, np.ndarray]:
    """Returns random crops with the shapes of training."""
    rng = np.random.default_rng(0)
    return {
        key: rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)
        for key, size in (("lr", 24), ("hr", 96))
    }


def compare(name: str, batch_size: int, rounds: int) -> dict[str, Any]:
    """Returns median durations, and median ratios of PyTorch to ours in a round."""
    context = multiprocessing.get_context("spawn")
    times: dict[str, list[float]] = {key: [] for key in ("srgan_jax", *LAYOUTS)}
    with contextlib.ExitStack() as stack:
        processes, compiling = {}, {}
        for key in times:
            process = stack.enter_context(ProcessPoolExecutor(1, context))
            compiling[key] = process.submit(prepare, key, name, batch_size).result()
            processes[key] = process
        for _ in range(rounds):
            for key, process in processes.items():
                times[key].append(process.submit(take_turn).result())
    speedups = {
        key: statistics.median(map(float.__truediv__, times[key], times["srgan_jax"]))
        for key in LAYOUTS
    }
    return {
        "stage": name,
        "batch": batch_size,
        "compile_seconds": round(compiling["srgan_jax"], 1),
        "seconds": {k: round(statistics.median(v), 4) for k, v in times.items()},
        "speedup": round(min(speedups.values()), 3),
        "speedups": {k: round(v, 3) for k, v in speedups.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=(8, 16))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="on standard output")
    arguments = parser.parse_args()
    records = []
    for name in arguments.stages:
        for batch_size in arguments.batches:
            records.append(compare(name, batch_size, arguments.rounds))
            print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "torch": torch.__version__,
        "jax": jax.__version__,
        "threads": torch.get_num_threads(),
        "records": records,
    }
    for name in arguments.stages:
        of_stage = (r["speedup"] for r in records if r["stage"] == name)
        result[f"{name}_speedup"] = min(of_stage)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
