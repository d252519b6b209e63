"""Compares the speed of upscaling here with PyTorch, using the same weights.

    python benchmarks/inference.py [--rounds 5] [--images 24] [--peak] [--many]

All programs map uint8 images to uint8 images and pad with zeros, except that `--many`
also measures mirrored borders. They take turns, and ratios are taken within a round,
since the machine may be busy with other work. CPU seconds are the sum over all threads.
`--peak` adds the peak memory at two sizes, without the output image, each in a separate
process. `--many` adds the seconds and CPU seconds of a batch of 400 images of 160x120
divided by those of one of 3200x2400. Prints one line of JSON per size.
Needs srgan-jax[parity].
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import skimage.data
import torch
import torch.nn.functional as F

import srgan_jax
from srgan_jax.weights import store
from srgan_jax.weights.catalog import DEFAULT_GENERATOR

KODAK = (512, 768)
PEAK_SIZES = ((750, 1000), (3000, 4000))


class TorchGenerator(torch.nn.Module):
    """The generator as PyTorch users write it, with one call per layer."""

    def __init__(self, settings: Mapping[str, Any], variables: Mapping[str, Any]):
        super().__init__()
        self.settings = dict(settings)
        self.leaves = torch.nn.ParameterDict()
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables)):
            *_, layer, name = [key.key for key in path]
            owner = path[1].key if len(path) == 4 else ""
            array = np.asarray(leaf)
            if name == "kernel":
                array = array.transpose(3, 2, 0, 1)
            self.leaves[f"{owner}{layer}{name}"] = torch.nn.Parameter(
                torch.from_numpy(array.copy()), requires_grad=False
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[1, 3, h, w]` in [0, 1] to `[1, 3, scale h, scale w]` in [-1, 1]."""
        x = skip = self.act(self.conv(x, "conv_in"), "prelu_in")
        for i in range(self.settings["blocks"]):
            y = self.norm(self.conv(x, f"block_{i}conv1"), f"block_{i}bn1")
            y = self.conv(self.act(y, f"block_{i}prelu"), f"block_{i}conv2")
            x = x + self.norm(y, f"block_{i}bn2")
        x = self.norm(self.conv(x, "conv_mid"), "bn_mid") + skip
        for i in range(self.settings["scale"].bit_length() - 1):
            x = F.pixel_shuffle(self.conv(x, f"up_{i}"), 2)
            x = self.act(x, f"prelu_up_{i}")
        x = self.conv(x, "conv_out")
        return torch.tanh(x) if self.settings["output"] == "tanh" else x

    def conv(self, x: torch.Tensor, name: str) -> torch.Tensor:
        kernel = self.leaves[f"{name}kernel"]
        bias = self.leaves.get(f"{name}bias")
        return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, scale, bias = (
            self.leaves[f"{name}{key}"] for key in ("mean", "var", "scale", "bias")
        )
        epsilon = self.settings["bn_epsilon"]
        return F.batch_norm(x, mean, var, scale, bias, False, 0.1, epsilon)

    def act(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.prelu(x, self.leaves[f"{name}slope"])


def upscaler_of(forward: Callable) -> Callable[[np.ndarray], np.ndarray]:
    def upscale(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            sr = ((forward(lr) + 1) * 127.5 + 0.5).floor().clamp(0, 255)
            return sr[0].permute(1, 2, 0).to(torch.uint8).numpy()

    return upscale


def photographs(height: int, width: int, count: int) -> list[np.ndarray]:
    """Returns crops of a photograph, which is tiled so that it is large enough."""
    photo = skimage.data.astronaut()
    rows, columns = (-(-(side + count) // len(photo)) for side in (height, width))
    photo = np.tile(photo, (rows, columns, 1))
    return [
        np.ascontiguousarray(photo[i : i + height, i : i + width]) for i in range(count)
    ]


def seconds(run: Callable, images: list[np.ndarray]) -> tuple[float, float]:
    """Returns wall-clock seconds and CPU seconds."""
    before, start = processor_seconds(), time.perf_counter()
    for image in images:
        run(image)
    return time.perf_counter() - start, processor_seconds() - before


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def compare(
    contestants: dict[str, Callable], images: list[np.ndarray], rounds: int
) -> dict[str, Any]:
    """Returns median seconds per image, and median ratios to ours within a round."""
    results = {name: run(images[0]) for name, run in contestants.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(seconds(run, images))
    record: dict[str, Any] = {"images": len(images), "size": images[0].shape[:2]}
    for name, of in times.items():
        clock, processor = zip(*of, strict=True)
        difference = np.abs(results[name].astype(int) - results["srgan_jax"])
        record[name] = {
            "seconds": round(statistics.median(clock) / len(images), 4),
            "processor_seconds": round(statistics.median(processor) / len(images), 4),
            "times_slower": round(
                statistics.median(
                    theirs / ours
                    for (theirs, _), (ours, _) in zip(
                        of, times["srgan_jax"], strict=True
                    )
                ),
                2,
            ),
            "largest_difference_in_levels": int(difference.max()),
        }
    return record


def compile_seconds(weights: str, image: np.ndarray) -> dict[str, float]:
    """Returns the first image's time minus the second's, without and with a cache."""
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for name in ("cold", "from_cache"):
            jax.clear_caches()
            upscaler = srgan_jax.load(weights, padding="zero")
            first, _ = seconds(upscaler, [image])
            second, _ = seconds(upscaler, [image])
            record[name] = round(first - second, 2)
        jax.config.update("jax_compilation_cache_dir", None)
    return record


def print_peak(weights: str, height: int, width: int) -> None:
    image = photographs(64, 64, 1)[0]
    image = np.tile(image, (-(-height // 64), -(-width // 64), 1))[:height, :width]
    sr = srgan_jax.load(weights, padding="zero")(image)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"size": [height, width], "gigabytes": (peak - sr.nbytes) / 1e9}))


def peak(weights: str, height: int, width: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--weights", weights]
    command += ["--peak-of", str(height), str(width)]
    return json.loads(subprocess.check_output(command, env=dict(os.environ)))


def many(weights: str, rounds: int) -> dict[str, Any]:
    """Seconds and CPU seconds of a batch of small images over those of a large one."""
    (large,) = photographs(2400, 3200, 1)
    small = large.reshape(20, 120, 20, 160, 3).swapaxes(1, 2).reshape(-1, 120, 160, 3)
    record: dict[str, Any] = {"sizes": [small.shape, large.shape]}
    for padding in ("symmetric", "zero"):
        upscaler = srgan_jax.load(weights, padding=padding)
        ratios = [
            np.divide(seconds(upscaler, [small]), seconds(upscaler, [large]))
            for _ in range(rounds)
        ]
        record[padding] = dict(
            zip(
                ("seconds", "processor_seconds"),
                np.median(ratios, axis=0).round(3).tolist(),
                strict=True,
            )
        )
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=DEFAULT_GENERATOR)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=24, help="of Kodak's size")
    parser.add_argument("--no-compile", action="store_true", help="no torch.compile")
    parser.add_argument("--peak", action="store_true")
    parser.add_argument("--many", action="store_true")
    parser.add_argument("--peak-of", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        return print_peak(arguments.weights, *arguments.peak_of)
    module = TorchGenerator(*store.load_generator(arguments.weights)).eval()
    contestants: dict[str, Callable] = {
        "srgan_jax": srgan_jax.load(arguments.weights, padding="zero"),
        "torch_eager": upscaler_of(module),
    }
    if not arguments.no_compile:
        contestants["torch_compile"] = upscaler_of(torch.compile(module))
    small = photographs(128, 128, 1)
    about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    report(about | {"compile_seconds": compile_seconds(arguments.weights, small[0])})
    for size, count in (((128, 128), 1), ((512, 512), 1), (KODAK, arguments.images)):
        report(compare(contestants, photographs(*size, count), arguments.rounds))
    for size in PEAK_SIZES if arguments.peak else ():
        report(peak(arguments.weights, *size))
    if arguments.many:
        report(many(arguments.weights, arguments.rounds))


def report(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
