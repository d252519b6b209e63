"""PSNR and SSIM of 8-bit RGB images under four protocols that are in use.

A score is meaningless without its protocol, so every function here requires one:

* `standard`: the super-resolution literature and its MATLAB scripts. It crops `scale`
  pixels, compares MATLAB's 8-bit `rgb2ycbcr` luma (BT.601, limited range), and computes
  SSIM with Wang et al.'s 11x11 Gaussian window.
* `paper`: the tables of the SRGAN paper. It crops 4 pixels and compares 8-bit BT.709
  luma with Daala's SSIM, whose window grows with the image's height. Daala's 4:2:0
  dithering is left out; it changes scores by at most 0.015 dB and 0.0012 SSIM.
* `rgb`: BasicSR and mmagic. It crops `scale` pixels and compares all three channels.
* `pyiqa`: pyiqa's metrics `psnry` and `ssim`. It crops nothing and compares full-range
  luma (the Y of YIQ), unrounded for PSNR and rounded to 8 bits for SSIM.
"""

import math
from typing import Literal, get_args

import numpy as np

Protocol = Literal["standard", "paper", "rgb", "pyiqa"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

PAPER_CROP = 4  # pixels, at every scale (sec. 3.2)
# Rows of the YCbCr definitions, for R, G, B in 0..255; 16 is added to the sum.
LUMA_601 = np.array([65.481, 128.553, 24.966]) / 255
LUMA_709 = np.array([0.2126, 0.7152, 0.0722]) * 219 / 255
FULL_RANGE_601 = np.array([0.299, 0.587, 0.114])  # MATLAB's rgb2gray, YIQ's Y
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # SSIM's constants, K = (0.01, 0.03)
WINDOW = 11  # pixels, side of SSIM's Gaussian window in every protocol but `paper`
# Rows and columns of one matrix product in `_blur`. The product fits into the cache and
# is too small for BLAS to start threads, which are ten times slower on a busy machine.
TILE = (64, 32)


def protocol_of(name: str) -> Protocol:
    """Returns the protocol with this name.

    Raises:
      ValueError: there is no such protocol.
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
    """Computes the peak signal-to-noise ratio, 10 log10(255^2 / MSE).

    Args:
      sr: super-resolved image, uint8 `[height, width, 3]`.
      hr: original, uint8 `[height, width, 3]`.
      protocol: chooses the crop and the planes; see the module's docstring.
      scale: upscaling factor, which sets the crop.
      grey: True if `hr` comes from a single-channel file. `standard` then compares the
        file's own values in full range, as MATLAB scripts do.

    Returns:
      PSNR in decibels; infinity if the compared planes are equal.

    Raises:
      ValueError: the images differ in size, or are too small for the protocol.
    """
    _check(sr, hr, protocol)
    rounded = protocol != "pyiqa"
    error = mse(*(planes(z, protocol, scale, grey, rounded=rounded) for z in (sr, hr)))
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(
    sr: np.ndarray,
    hr: np.ndarray,
    *,
    protocol: Protocol,
    scale: int,
    grey: bool = False,
) -> float:
    """Computes structural similarity (Wang et al. 2004, eq. 13).

    The result is the mean over windows and planes. `paper` follows `dump_ssim` of
    Daala's tools, see `_daala_taps`. The other protocols use an 11x11 Gaussian of sigma
    1.5, windows that lie inside the image, and the population covariance.

    Args:
      sr: super-resolved image, uint8 `[height, width, 3]`.
      hr: original, uint8 `[height, width, 3]`.
      protocol: chooses the crop, planes and window; see the module's docstring.
      scale: upscaling factor, which sets the crop.
      grey: True if `hr` comes from a single-channel file; see `psnr`.

    Returns:
      SSIM, at most 1; 1 if the compared planes are equal.

    Raises:
      ValueError: the images differ in size, or are too small for the protocol.
    """
    _check(sr, hr, protocol)
    x, y = (planes(image, protocol, scale, grey) for image in (sr, hr))
    if protocol == "paper":
        return _daala_ssim(x, y)
    taps = _gaussian(radius=WINDOW // 2, sigma=1.5)
    if min(x.shape[1:]) < len(taps):
        height, width = hr.shape[:2]
        raise ValueError(
            f"an image of {width}x{height} is too small for SSIM under '{protocol}': "
            f"after the crop of {crop_of(protocol, scale)} pixels a window of "
            f"{WINDOW}x{WINDOW} must fit"
        )
    moments = _blur(_products(x, y), taps / taps.sum())
    luminance, structure = _similarity(moments)
    if protocol == "pyiqa":
        structure = np.maximum(structure, 0)
    return float(np.mean(luminance * structure))


def crop_of(protocol: Protocol, scale: int) -> int:
    """Returns how many pixels a protocol removes from each border."""
    return {"paper": PAPER_CROP, "pyiqa": 0}.get(protocol, scale)


def mse(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the mean squared difference of two arrays."""
    return float(np.mean(np.square(x - y)))


def planes(
    image: np.ndarray,
    protocol: Protocol,
    scale: int,
    grey: bool,
    *,
    rounded: bool = True,
) -> np.ndarray:
    """Returns the planes that a protocol compares: luma or channels, cropped.

    Args:
      image: uint8 `[height, width, 3]`.
      protocol: chooses the crop and the planes; see the module's docstring.
      scale: upscaling factor, which sets the crop.
      grey: True if the original comes from a single-channel file; see `psnr`.
      rounded: round luma to 8 bits.

    Returns:
      float64 `[planes, height, width]` in 0..255.

    Raises:
      ValueError: the crop leaves nothing of the image.
    """
    crop = crop_of(protocol, scale)
    image = image[crop : image.shape[0] - crop, crop : image.shape[1] - crop]
    if not image.size:
        raise ValueError(
            f"protocol '{protocol}' crops {crop} pixels on each side, which leaves "
            "nothing of this image: use larger images"
        )
    if protocol == "rgb":
        return np.moveaxis(image, 2, 0).astype(np.float64)
    if protocol == "paper":
        luma = 16 + image @ LUMA_709
    elif protocol == "pyiqa" or grey:
        luma = image @ FULL_RANGE_601
    else:
        luma = 16 + image @ LUMA_601
    return np.floor(luma + 0.5)[None] if rounded else luma[None]


def _check(sr: np.ndarray, hr: np.ndarray, protocol: str) -> None:
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


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Stacks x, y, x^2 + y^2 and xy; SSIM is a function of their local means."""
    return np.stack([x, y, x * x + y * y, x * y])


def _similarity(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns SSIM's luminance factor and its contrast and structure factor."""
    x, y, squares, xy = moments
    means = x * y
    powers = x * x + y * y
    structure = (2 * (xy - means) + C2) / (squares - powers + C2)
    return (2 * means + C1) / (powers + C1), structure


def _daala_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM with windows that are truncated at the borders and weighted accordingly.

    A truncated window equals a whole window on the zero-padded image, divided by the
    sum of the taps that lie inside the image, because zeros add nothing to a sum of
    products.
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
    luminance, structure = _similarity(sums / weights)
    return float(np.average((luminance * structure)[0], weights=weights))


def _daala_taps(height: int) -> np.ndarray:
    """Returns Daala's integer Gaussian of sigma 1.5 height/256, which sums to 256."""
    sigma = 1.5 * height / 256
    tail = math.sqrt(math.pi / 2) * sigma / 256
    # The window ends where the density falls below the resolution of a tap. A very flat
    # density is below it everywhere, so only the centre is left.
    radius = int(sigma * math.sqrt(-2 * math.log(tail))) if tail < 1 else 0
    density = _gaussian(radius, sigma) / (math.sqrt(2 * math.pi) * sigma)
    taps = np.floor(256 * density + 0.5)
    taps[radius] = 256 - 2 * taps[:radius].sum()
    return taps


def _gaussian(radius: int, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))


def _blur(maps: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filters the last two axes with a separable kernel, whole windows only."""
    across = _blur_rows(maps, taps)
    return np.swapaxes(_blur_rows(np.swapaxes(across, -1, -2), taps), -1, -2)


def _blur_rows(maps: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Correlates the last axis with `taps`, as products of tiles with a band matrix."""
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
