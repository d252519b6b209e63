"""PSNR and SSIM of 8-bit RGB images under the three protocols of the field.

A figure means nothing without its protocol, so every function here demands one:

* `standard`: what the literature means. Crops `scale` pixels, compares MATLAB's
  8-bit `rgb2ycbcr` luma (BT.601), and takes SSIM by Wang et al.'s 11x11 Gaussian.
* `paper`: what the SRGAN paper's tables mean. Crops 4 pixels, compares 8-bit BT.709
  luma with Daala's SSIM, whose window grows with the image's height. Daala's 4:2:0
  dithering is left out; it accounts for at most 0.015 dB and 0.0012 SSIM.
* `rgb`: BasicSR's and mmagic's. Crops `scale` pixels and compares all three channels.

Refused: images that are not uint8 [height, width, 3], pairs of different sizes, and
images too small to hold the crop and one SSIM window.
"""

import math
from typing import Literal, get_args

import numpy as np

Protocol = Literal["standard", "paper", "rgb"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

PAPER_CROP = 4  # pixels, whatever the scale (sec. 3.2)
# Rows of the YCbCr definitions, for R, G, B in 0..255; 16 is added to the sum.
LUMA_601 = np.array([65.481, 128.553, 24.966]) / 255
LUMA_709 = np.array([0.2126, 0.7152, 0.0722]) * 219 / 255
GREY_601 = np.array([0.299, 0.587, 0.114])  # full range: MATLAB's rgb2gray
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # SSIM's constants, K = (0.01, 0.03)
# Rows and columns of one matrix product in `_blur`: it stays in the cache, and below
# the size at which BLAS calls threads, whose waiting costs tenfold on a busy machine.
TILE = (64, 32)


def protocol_of(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ValueError: there is none.
    """
    for protocol in PROTOCOLS:
        if name == protocol:
            return protocol
    raise ValueError(f"unknown protocol '{name}': choose from {', '.join(PROTOCOLS)}")


def psnr(
    sr: np.ndarray,
    hr: np.ndarray,
    *,
    protocol: Protocol,
    scale: int,
    grey: bool = False,
) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / MSE), in dB.

    Args:
        sr: super-resolved image, uint8 `[height, width, 3]`.
        hr: original, uint8 `[height, width, 3]`.
        protocol: which pixels and planes are compared; see the module's docstring.
        scale: factor of the super-resolution; sets the crop.
        grey: whether `hr` comes from a single-channel file. `standard` then compares
            the file's own values in full range, as MATLAB scripts do.

    Returns:
        Decibels; infinity where the compared planes are equal.

    Raises:
        ValueError: the images do not fit each other or the protocol.
    """
    ours, theirs = (
        _planes(image, protocol, scale, grey) for image in _checked(sr, hr, protocol)
    )
    error = np.mean(np.square(ours - theirs))
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(
    sr: np.ndarray,
    hr: np.ndarray,
    *,
    protocol: Protocol,
    scale: int,
    grey: bool = False,
) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13), mean over windows and planes.

    `standard` and `rgb`: 11x11 Gaussian of sigma 1.5, windows inside the image only,
    population covariance. `paper`: `dump_ssim` of Daala's tools; see `_daala_taps`.

    Args:
        sr: super-resolved image, uint8 `[height, width, 3]`.
        hr: original, uint8 `[height, width, 3]`.
        protocol: which pixels, planes and window; see the module's docstring.
        scale: factor of the super-resolution; sets the crop.
        grey: whether `hr` comes from a single-channel file; see `psnr`.

    Returns:
        At most 1; 1 where the compared planes are equal.

    Raises:
        ValueError: the images do not fit each other or the protocol.
    """
    ours, theirs = (
        _planes(image, protocol, scale, grey) for image in _checked(sr, hr, protocol)
    )
    if protocol == "paper":
        return _daala_ssim(ours, theirs)
    taps = _gaussian(radius=5, sigma=1.5)
    if min(ours.shape[1:]) < len(taps):
        height, width = hr.shape[:2]
        raise ValueError(
            f"an image of {width}x{height} is too small for SSIM under '{protocol}': "
            f"after the crop of {scale} pixels a window of 11x11 must fit"
        )
    moments = _blur(_products(ours, theirs), taps / taps.sum())
    return float(np.mean(_similarity(moments)))


def _checked(sr: np.ndarray, hr: np.ndarray, protocol: str) -> tuple[np.ndarray, ...]:
    protocol_of(protocol)
    for name, image in (("SR", sr), ("HR", hr)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"the {name} image is {image.dtype} {list(image.shape)}: "
                "expected uint8 [height, width, 3]"
            )
    if sr.shape != hr.shape:
        raise ValueError(
            f"the SR image is {sr.shape[1]}x{sr.shape[0]} and the HR image "
            f"{hr.shape[1]}x{hr.shape[0]}: they must be of one size"
        )
    return sr, hr


def _planes(image: np.ndarray, protocol: str, scale: int, grey: bool) -> np.ndarray:
    """What `protocol` compares: float64 `[planes, height, width]`, 0..255."""
    crop = PAPER_CROP if protocol == "paper" else scale
    image = image[crop : image.shape[0] - crop, crop : image.shape[1] - crop]
    if not image.size:
        raise ValueError(
            f"nothing is left of an image after the crop of {crop} pixels on each "
            f"side that protocol '{protocol}' asks for: use larger images"
        )
    if protocol == "rgb":
        return np.moveaxis(image, 2, 0).astype(np.float64)
    if protocol == "paper":
        luma = 16 + image @ LUMA_709
    elif grey:
        luma = image @ GREY_601
    else:
        luma = 16 + image @ LUMA_601
    return np.floor(luma + 0.5)[None]


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x, y, x^2 + y^2 and xy: all that SSIM needs the local means of."""
    return np.stack([x, y, x * x + y * y, x * y])


def _similarity(moments: np.ndarray) -> np.ndarray:
    x, y, squares, xy = moments
    means = x * y
    powers = x * x + y * y
    structure = (2 * (xy - means) + C2) / (squares - powers + C2)
    return (2 * means + C1) / (powers + C1) * structure


def _daala_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM with windows truncated at the borders and weighted by what is left of them.

    Zeros around the image add nothing to a sum of products, so a truncated window is
    a whole one on the zero-padded image, divided by its weight inside.
    """
    taps = _daala_taps(x.shape[1])
    radius = len(taps) // 2
    inside = [(0, 0)] * 2 + [(radius, radius)] * 2
    sums = _blur(np.pad(_products(x, y), inside), taps)
    rows, columns = (
        np.convolve(np.ones(length), taps)[radius : radius + length]
        for length in x.shape[1:]
    )
    weights = np.outer(rows, columns)
    return float(np.average(_similarity(sums / weights)[0], weights=weights))


def _daala_taps(height: int) -> np.ndarray:
    """Daala's integer Gaussian of sigma 1.5 height/256, which sums to 256."""
    sigma = 1.5 * height / 256
    tail = math.sqrt(math.pi / 2) * sigma / 256
    # Where the density falls below a tap's resolution; no side at all for a flat one.
    radius = int(sigma * math.sqrt(-2 * math.log(tail))) if tail < 1 else 0
    density = _gaussian(radius, sigma) / (math.sqrt(2 * math.pi) * sigma)
    taps = np.floor(256 * density + 0.5)
    taps[radius] = 256 - 2 * taps[:radius].sum()
    return taps


def _gaussian(radius: int, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))


def _blur(maps: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Separable filter of the last two axes, whole windows only."""
    across = _blur_rows(maps, taps)
    return np.swapaxes(_blur_rows(np.swapaxes(across, -1, -2), taps), -1, -2)


def _blur_rows(maps: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Correlates the last axis with `taps`, tile by tile as a banded product."""
    reach = len(taps) - 1
    rows, columns = TILE
    band = np.zeros((columns + reach, columns))
    for column in range(columns):
        band[column : column + len(taps), column] = taps
    blurred = np.empty((*maps.shape[:-1], maps.shape[-1] - reach))
    for top in range(0, maps.shape[-2], rows):
        tiles, outputs = (z[..., top : top + rows, :] for z in (maps, blurred))
        for left in range(0, blurred.shape[-1], columns):
            width = min(columns, blurred.shape[-1] - left)
            np.matmul(
                tiles[..., left : left + width + reach],
                band[: width + reach, :width],
                out=outputs[..., left : left + width],
            )
    return blurred
