"""Writes training pairs whose HR is a generator's own output without its artefacts.

    python scripts/distil.py GENERATOR PHOTOGRAPHS OUT

GENERATOR is a catalog name or a file, PHOTOGRAPHS a folder. A generator that is then
trained on `pairs:OUT` with the L1 loss and graded patches (`data.graded`) keeps the
textures of GENERATOR and loses what OUT does not have: colour shifts, and grids in
smooth areas. For each photograph, OUT gets

- `*_LR.png`, its LR (MATLAB's bicubic), and `*_HR.png`, the generator's SR plus the
  enlarged difference between LR and the SR's own LR. This is one step of iterative
  back-projection (Irani and Peleg 1991); it removes differences in low frequencies,
  such as shifts of colour;
- for every third photograph, a pair of it with a Gaussian blur, as
  `*-smooth_HR.png` and `*-smooth_LR.png`. Its HR is the blurred photograph itself.
"""

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
from rich.progress import track
from scipy import ndimage

import srgan_jax
from srgan_jax.data import pairs
from srgan_jax.data.resize import imresize, resize_matrix

SMOOTH = 3  # one photograph of so many is also written with a blur
BLUR = 12.0  # standard deviation in HR pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists; name a new folder or remove it")
    upscaler = srgan_jax.load(arguments.generator)
    scale = upscaler.scale
    arguments.out.mkdir(parents=True)
    for i, files in enumerate(track(pairs.find_pairs(arguments.photographs))):
        pair = pairs.read_pair(files, scale=scale)
        hr = back_projected(upscaler(pair.lr), pair.lr)
        save(arguments.out, pair.name, hr, pair.lr)
        if i % SMOOTH == 0:
            hr = ndimage.gaussian_filter(pair.hr, (BLUR, BLUR, 0))
            lr = imresize(hr, Fraction(1, scale))
            save(arguments.out, f"{pair.name}-smooth", hr, lr)


def back_projected(sr: np.ndarray, lr: np.ndarray) -> np.ndarray:
    """Adds what LR has and the LR of SR does not have; uint8 in and out."""
    scale = len(sr) // len(lr)
    missing = lr - resize(sr.astype(np.float64), Fraction(1, scale))
    return np.clip(sr + resize(missing, scale) + 0.5, 0, 255).astype(np.uint8)


def resize(image: np.ndarray, scale: Fraction | int) -> np.ndarray:
    """`imresize` without rounding and clipping."""
    for _ in range(2):  # rows, then columns
        matrix = resize_matrix(len(image), scale)
        image = np.tensordot(matrix, image, 1).swapaxes(0, 1)
    return image


def save(folder: Path, name: str, hr: np.ndarray, lr: np.ndarray) -> None:
    for kind, image in (("HR", hr), ("LR", lr)):
        PIL.Image.fromarray(image).save(folder / f"{name}_{kind}.png", compress_level=1)


if __name__ == "__main__":
    main()
