"""Prints every step from two files to a score, to find where other programs differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from srgan_jax.data import pairs
from srgan_jax.evaluation import metrics
from srgan_jax.evaluation.benchmark import Benchmark, Report
from srgan_jax.evaluation.scores import score_image

PLANES = {
    "standard": "luma of BT.601 in 16..235, rounded to 8 bits",
    "paper": "luma of BT.709 in 16..235, rounded to 8 bits",
    "rgb": "R, G and B",
    "pyiqa": "luma .299 R + .587 G + .114 B in 0..255, unrounded for PSNR, rounded "
    "to 8 bits for SSIM",
}
GREY = "the single channel's own values in 0..255; SR is weighted .299, .587, .114"
WINDOWS = {
    "standard": "11x11 Gaussian of sigma 1.5, whole windows",
    "paper": "Daala's Gaussian of sigma 1.5 height/256, truncated at the borders",
    "rgb": "11x11 Gaussian of sigma 1.5, whole windows, mean over R, G and B",
    "pyiqa": "11x11 Gaussian of sigma 1.5, whole windows, negative structure is 0",
}


def explain(
    benchmark: Benchmark, images: Sequence[pairs.Files]
) -> list[dict[str, Any]]:
    """Computes the scores of images and returns every step.

    Args:
      benchmark: the rows, protocols and LPIPS.
      images: the files of the images.

    Returns:
      A record for each image, protocol and row; it maps each step to a number or text.

    Raises:
      OSError: a file cannot be read.
      ValueError: the images differ in size, or are too small for a protocol.
    """
    return [record for files in images for record in _explain(benchmark, files)]


def text(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the steps as lines, with an empty line after each record."""
    return "\n".join(
        "".join(f"{step}: {value}\n" for step, value in record.items())
        for record in records
    )


def _explain(benchmark: Benchmark, files: pairs.Files) -> Iterator[dict[str, Any]]:
    pair = pairs.read_pair(files, scale=benchmark.scale, border=benchmark.border)
    report = Report()
    images = benchmark.upscale(pair, files.hr, report)
    with PIL.Image.open(files.hr) as image:
        read = f"{files.hr}, {image.width}x{image.height}, {image.mode}"
    if files.lr is None:
        made = f"made from HR by MATLAB's bicubic, border {benchmark.border}"
    else:
        made = f"{files.lr}, used unchanged"
    sizes = {
        "HR": f"{read}, cropped to a multiple of {benchmark.scale}: {_size(pair.hr)}",
        "LR": f"{made}: {_size(pair.lr)}",
    }
    for protocol in benchmark.protocols:
        for row, sr in images.items():
            head = {"image": files.name, "row": row, "protocol": protocol}
            if row in benchmark.images:
                cut = ", cropped to the size of HR" if row in report.cut else ""
                head["SR"] = f"{benchmark.images[row][files.hr]}{cut}"
            record = head | sizes | _steps(sr, pair, protocol, benchmark.scale)
            if benchmark.distance:
                network = benchmark.distance.network
                distance = benchmark.distance(sr, pair.hr)
                record[f"LPIPS ({network}, whole RGB image)"] = distance
            yield record


def _steps(
    sr: np.ndarray, pair: pairs.Pair, protocol: metrics.Protocol, scale: int
) -> dict[str, Any]:
    crop = metrics.crop_of(protocol, scale)
    planes = [
        metrics.planes(image, protocol, scale, pair.grey, rounded=protocol != "pyiqa")
        for image in (sr, pair.hr)
    ]
    grey = pair.grey and protocol == "standard"
    steps: dict[str, Any] = {
        "crop": f"{crop} pixels on each side: "
        f"{planes[0].shape[2]}x{planes[0].shape[1]} are compared",
        "planes": GREY if grey else PLANES[protocol],
    }
    for name, image, plane in zip(("SR", "HR"), (sr, pair.hr), planes, strict=True):
        steps[f"{name}, first pixel"] = (
            f"RGB {image[crop, crop].tolist()} -> {plane[:, 0, 0].round(4).tolist()}"
        )
        steps[f"{name}, mean"] = float(plane.mean())
    score = score_image(pair, sr, protocol=protocol)
    return steps | {
        "MSE": metrics.mse(*planes),
        "PSNR = 10 log10(255^2 / MSE)": score.psnr,
        f"SSIM ({WINDOWS[protocol]})": score.ssim,
    }


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
