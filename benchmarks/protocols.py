"""Prints the PSNR and SSIM that well-known programs give for the same image.

    python benchmarks/protocols.py [SR HR] [--scale 4]

Each row follows the program's code: its crop, planes and SSIM window. Without files, HR
is scikit-image's astronaut, and SR is HR downscaled by 4 and upscaled by bicubic.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.ndimage import convolve1d
from skimage.metrics import structural_similarity

from srgan_jax.data import evaluation_sets, resize
from srgan_jax.evaluation import metrics
from srgan_jax.images import decode

Planes = np.ndarray  # float64 [height, width, planes] in 0..255


class Program(NamedTuple):
    """How a program computes its scores.

    Attributes:
      name: the program.
      crop: pixels removed from each border; None for the scale.
      planes: returns the planes of a uint8 RGB image that are compared.
      described: description of the planes.
      ssim: SSIM of the planes of two images; None if the program has none.
      window: description of SSIM's windows.
    """

    name: str
    crop: int | None
    planes: Callable[[np.ndarray], Planes]
    described: str
    ssim: Callable[[Planes, Planes], float] | None
    window: str


def rgb(image: np.ndarray) -> Planes:
    return image.astype(np.float64)


def luma(image: np.ndarray) -> Planes:
    return (16 + image @ np.array([65.481, 128.553, 24.966]) / 255)[..., None]


def rounded_luma(image: np.ndarray) -> Planes:
    return np.floor(luma(image) + 0.5)


def full_range_luma(image: np.ndarray) -> Planes:
    return (image @ np.array([0.299, 0.587, 0.114]))[..., None]


def gaussian_ssim(
    x: Planes, y: Planes, *, padded: bool = False, lowest: float = -1
) -> float:
    """SSIM with an 11x11 Gaussian of sigma 1.5.

    Args:
      x: one image.
      y: the other image.
      padded: include windows at the border, padded by reflection.
      lowest: smallest value of the contrast and structure factor; it is clipped.
    """
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    taps /= taps.sum()

    def mean(z: Planes) -> Planes:
        for axis in (0, 1):
            z = convolve1d(z, taps, axis=axis, mode="mirror")
        return z if padded else z[5:-5, 5:-5]

    a, b = mean(x), mean(y)
    covariance, variances = mean(x * y) - a * b, mean(x * x + y * y) - a * a - b * b
    c1, c2 = 2.55**2, 7.65**2
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return float(np.mean(luminance * np.maximum(structure, lowest)))


def reflected_ssim(x: Planes, y: Planes) -> float:
    return gaussian_ssim(x, y, padded=True)


def pyiqa_ssim(x: Planes, y: Planes) -> float:
    return gaussian_ssim(np.floor(x + 0.5), np.floor(y + 0.5), lowest=0)


def box_ssim(x: Planes, y: Planes) -> float:
    return float(structural_similarity(x[..., 0], y[..., 0], data_range=255))


LUMA = "luma 601, 16..235"
GAUSSIAN = "11x11 Gaussian"
PROGRAMS = (
    Program(
        "MATLAB scripts, KAIR (Y)",
        None,
        rounded_luma,
        f"{LUMA}, rounded",
        gaussian_ssim,
        GAUSSIAN,
    ),
    Program(
        "BasicSR and mmagic with their Y option",
        None,
        luma,
        LUMA,
        gaussian_ssim,
        GAUSSIAN,
    ),
    Program("Lornatang", None, luma, LUMA, gaussian_ssim, GAUSSIAN),
    Program("sgrvinod", 4, luma, LUMA, box_ssim, "7x7 box"),
    Program(
        "BasicSR, mmagic, KAIR (RGB)", None, rgb, "R, G, B", gaussian_ssim, GAUSSIAN
    ),
    Program(
        "torchmetrics",
        0,
        rgb,
        "R, G, B",
        reflected_ssim,
        f"{GAUSSIAN}, reflected at the border",
    ),
    Program("krasserm (tf.image.psnr)", 0, rgb, "R, G, B", None, "-"),
    Program(
        "pyiqa (psnry, ssim)",
        0,
        full_range_luma,
        "luma 601, 0..255",
        pyiqa_ssim,
        GAUSSIAN,
    ),
)


def score(
    program: Program, sr: np.ndarray, hr: np.ndarray, scale: int
) -> tuple[float, float | None]:
    """Returns PSNR and SSIM as the program gives them."""
    crop = scale if program.crop is None else program.crop
    x, y = (
        program.planes(z[crop : z.shape[0] - crop, crop : z.shape[1] - crop])
        for z in (sr, hr)
    )
    psnr = 10 * np.log10(255**2 / np.mean((x - y) ** 2))
    return float(psnr), program.ssim(x, y) if program.ssim else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="SR HR")
    parser.add_argument("--scale", type=int, default=4)
    arguments = parser.parse_args()
    scale = arguments.scale
    if arguments.files:
        sr, hr = map(decode.read_image, arguments.files)
    else:
        (pair,) = evaluation_sets.evaluation_pairs("astronaut", scale=scale)
        sr, hr = resize.imresize(pair.lr, scale), pair.hr
    print("| program | crop | planes | SSIM's window | PSNR (dB) | SSIM |")
    print("| --- | ---: | --- | --- | ---: | ---: |")
    for program in PROGRAMS:
        psnr, ssim = score(program, sr, hr, scale)
        crop = scale if program.crop is None else program.crop
        shown = "-" if ssim is None else f"{ssim:.4f}"
        print(
            f"| {program.name} | {crop} | {program.described} | {program.window} "
            f"| {psnr:.3f} | {shown} |"
        )
    for protocol in metrics.PROTOCOLS:
        values = [
            metric(sr, hr, protocol=protocol, scale=scale)
            for metric in (metrics.psnr, metrics.ssim)
        ]
        print(f"| `{protocol}` here | | | | {values[0]:.3f} | {values[1]:.4f} |")


if __name__ == "__main__":
    main()
