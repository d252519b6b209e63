"""Compares the speed of upscaling here with onnxruntime and OpenVINO.

    python benchmarks/deploy.py [--rounds 5] [--sizes 128 512]

All programs use the same weights, map a square float32 image in [0, 1] to float32 in
[0, 1], and pad with the mirror image. The two runtimes read what `srgan-jax export`
writes for that size. They take turns, and ratios are taken within a round. Prints a
Markdown table: for each size, our median seconds and the other programs' times divided
by ours.
Needs onnx, onnxruntime and openvino.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import onnxruntime
import openvino
import skimage.data

import srgan_jax
from srgan_jax.inference import export
from srgan_jax.weights import store
from srgan_jax.weights.catalog import DEFAULT_GENERATOR

Upscale = Callable[[np.ndarray], np.ndarray]


def in_onnxruntime(model: bytes) -> Upscale:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(None, {"input": image})[0]


def in_openvino(model: bytes) -> Upscale:
    core = openvino.Core()
    precision = {"INFERENCE_PRECISION_HINT": "f32"}  # not bfloat16
    compiled = core.compile_model(core.read_model(model), "CPU", precision)
    return lambda image: compiled({"input": image})["output"]


def channels_last(upscale: Upscale) -> Upscale:
    """Returns a function of `[h, w, 3]` for one of `[1, 3, h, w]`."""

    def run(image: np.ndarray) -> np.ndarray:
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
        return np.ascontiguousarray(upscale(planes)[0].transpose(1, 2, 0))

    return run


def seconds(upscale: Upscale, image: np.ndarray) -> float:
    start = time.perf_counter()
    upscale(image)
    return time.perf_counter() - start


def compare(weights: str, side: int, rounds: int) -> str:
    image = skimage.data.astronaut()[:side, :side].astype(np.float32) / 255
    model = export.to_onnx(*store.load_generator(weights), height=side, width=side)
    contestants: dict[str, Upscale] = {
        "srgan_jax": srgan_jax.load(weights),
        "onnxruntime": channels_last(in_onnxruntime(model)),
        "openvino": channels_last(in_openvino(model)),
    }
    results = {name: upscale(image) for name, upscale in contestants.items()}
    for name, sr in results.items():
        levels = 255 * np.abs(sr - results["srgan_jax"]).max()
        if levels > 1:
            raise SystemExit(f"{name} differs by {levels:.1f} levels of 255")
    times = [
        {name: seconds(upscale, image) for name, upscale in contestants.items()}
        for _ in range(rounds)
    ]
    ours = statistics.median(of["srgan_jax"] for of in times)
    others = (
        statistics.median(of[name] / of["srgan_jax"] for of in times)
        for name in ("onnxruntime", "openvino")
    )
    ratios = " | ".join(f"{ratio:.2f}" for ratio in others)
    return f"| {side}x{side} | {ours:.3f} s | {ratios} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=DEFAULT_GENERATOR)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512])
    arguments = parser.parse_args()
    print("| image | here | onnxruntime / here | OpenVINO / here |\n|---|---|---|---|")
    for side in arguments.sizes:
        print(compare(arguments.weights, side, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
