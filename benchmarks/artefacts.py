"""Measures artefacts that PSNR and LPIPS hardly notice: colour shifts and grids.

    python benchmarks/artefacts.py FOLDER NAME_OR_FILE [NAME_OR_FILE ...] [--json]

FOLDER holds HR photographs, such as Kodak's 24. For each generator, this prints

- the mean of SR minus HR per channel, in 8-bit levels, over all photographs;
- the largest error on images of one colour (a 5x5x5 grid of RGB colours, 48x64 LR
  pixels), both inside and within BORDER LR pixels of the border;
- the power of SR at periods of 2 and 4 pixels, divided by the median power of the
  neighbouring frequencies; the largest value over rows and columns. 1 means no grid.
  It is measured on 64x64 patches of blurred LR from the middle of each photograph, with
  a Hann window.
"""

import argparse
import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

import srgan_jax
from srgan_jax.data import evaluation_sets, pairs
from srgan_jax.data.resize import imresize
from srgan_jax.inference.upscaler import Upscaler

LEVELS = (0, 64, 128, 191, 255)
BORDER = 8  # LR pixels
PATCH = 64  # LR pixels
BLUR = 3.0  # standard deviation in LR pixels
NEIGHBOURS = range(3, 11)  # distances in frequency bins, beyond the window's leakage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("generators", nargs="+", metavar="NAME_OR_FILE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = evaluation_sets.evaluation_pairs(f"folder:{arguments.folder}", scale=4)
    records = [
        {"weights": name, "photographs": len(found)}
        | measure(srgan_jax.load(name), found)
        for name in arguments.generators
    ]
    if arguments.json:
        print(json.dumps(records, indent=2))
        return
    table = Table("weights", "shift R", "G", "B", "flat inside", "border", "grid")
    for record in records:
        shift = (f"{value:+.2f}" for value in record["mean_shift"])
        flat = (f"{record[f'flat_{part}']:.0f}" for part in ("inside", "border"))
        grid = f"{record['periodic_power']:.1f}"
        table.add_row(record["weights"], *shift, *flat, grid)
    Console().print(table)


def measure(upscaler: Upscaler, found: list[pairs.Pair]) -> dict:
    inside, border = flat_errors(upscaler)
    return {
        "mean_shift": mean_shift(upscaler, found),
        "flat_inside": inside,
        "flat_border": border,
        "periodic_power": periodic_power(upscaler, found),
    }


def mean_shift(upscaler: Upscaler, found: list[pairs.Pair]) -> list[float]:
    """Mean of SR minus mean of HR, `[3]` in levels, averaged over photographs."""
    shifts = [upscaler(pair.lr).mean((0, 1)) - pair.hr.mean((0, 1)) for pair in found]
    return np.mean(shifts, axis=0).tolist()


def flat_errors(upscaler: Upscaler) -> tuple[int, int]:
    """Largest errors on images of one colour, inside and anywhere, in levels."""
    inside = border = 0
    edge = BORDER * upscaler.scale
    for colour in itertools.product(LEVELS, repeat=3):
        lr = np.broadcast_to(np.array(colour, np.uint8), (48, 64, 3))
        error = np.abs(upscaler(lr).astype(int) - colour)
        inside = max(inside, int(error[edge:-edge, edge:-edge].max()))
        border = max(border, int(error.max()))
    return inside, border


def periodic_power(upscaler: Upscaler, found: list[pairs.Pair]) -> float:
    """Largest ratio of the power at periods 2 and 4 to neighbouring frequencies."""
    spectra = [spectrum(upscaler(smooth_patch(pair.hr))) for pair in found]
    ratios = []
    for power in np.sum(spectra, axis=0):
        for period in (2, 4):
            peak = 2 * (len(power) - 1) // period
            near = [power[peak - d] for d in NEIGHBOURS]
            if period > 2:
                near += [power[peak + d] for d in NEIGHBOURS]
            ratios.append(power[peak] / np.median(near))
    return float(max(ratios))


def smooth_patch(hr: np.ndarray) -> np.ndarray:
    """Returns blurred LR from the middle of a photograph, `[PATCH, PATCH, 3]`."""
    lr = imresize(hr, Fraction(1, 4))
    lr = ndimage.gaussian_filter(lr.astype(np.float32), (BLUR, BLUR, 0))
    top, left = (lr.shape[0] - PATCH) // 2, (lr.shape[1] - PATCH) // 2
    return (lr[top : top + PATCH, left : left + PATCH] + 0.5).astype(np.uint8)


def spectrum(sr: np.ndarray) -> np.ndarray:
    """Mean power spectra of rows and of columns, `[2, side // 2 + 1]`, of grey."""
    grey = sr.mean(-1)
    window = np.hanning(len(grey) + 1)[:-1]
    lines = [
        (image - image.mean(-1, keepdims=True)) * window for image in (grey, grey.T)
    ]
    return (np.abs(np.fft.rfft(lines)) ** 2).mean(1)


if __name__ == "__main__":
    main()
