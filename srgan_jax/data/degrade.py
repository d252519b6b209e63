"""Makes LR that looks like photos from phones and the web: blur, resize, noise, JPEG.

This is the first-order degradation of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833,
sec. 3.2, with the settings of its published training), but in milder ranges, because
most photographs that people keep are of good quality. Each parameter is uniform in its
range unless noted; u is uniform in [0, 1]:

    stage      here                                Real-ESRGAN
    blur       Gaussian, each axis's sigma         7 kernel shapes, sigma 0.2 to 3
               0.1 to 0.5 scale HR pixels, any     HR pixels, any angle
               angle; none in half the examples
    resize     to LR: box, bilinear, bicubic or    by 0.15 to 1.5 with area, bilinear
               Lanczos, all antialiased            or bicubic; to LR at the very end
    noise      Gaussian, sigma 8 u^2 levels;       Gaussian, sigma 1 to 30 levels, or
               grey in 2 of 5 examples             Poisson; grey in 2 of 5 examples
    JPEG       quality 95 - 55 u^2, chroma         quality 30 to 95
               halved

Real-ESRGAN's second order (the same stages again, then sinc filters) is omitted.
Benchmarks never use this model: their LR is MATLAB's bicubic or comes from files.
"""

import io

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import fft

Image = npt.NDArray[np.uint8]

# LR pixels around a crop. They cover half of the widest blur and resizing kernels at
# any scale from 2 on, and the offset of JPEG's grid of 8x8 blocks.
MARGIN = 8

_KERNELS = (
    PIL.Image.Resampling.BOX,
    PIL.Image.Resampling.BILINEAR,
    PIL.Image.Resampling.BICUBIC,
    PIL.Image.Resampling.LANCZOS,
)


def photo(hr: Image, scale: int, random: np.random.Generator) -> Image:
    """Degrades an HR crop that has a margin to an LR crop without one.

    Args:
      hr: uint8 `[height, width, 3]`, `MARGIN * scale` pixels of margin on each side;
        height and width are multiples of `scale`.
      scale: HR size over LR size.
      random: source of all random parameters; equal generators give equal results.

    Returns:
      uint8 `[height / scale - 2 * MARGIN, width / scale - 2 * MARGIN, 3]`.
    """
    blurred = blur(hr, scale, random)
    lr = add_noise(resize(blurred, scale, random), random)
    # A crop of a larger image starts anywhere within JPEG's grid of blocks.
    top, left = random.integers(1, MARGIN + 1, 2)
    lr = compress(lr[top:, left:], random)
    return lr[MARGIN - top : -MARGIN, MARGIN - left : -MARGIN]


def blur(image: Image, scale: int, random: np.random.Generator) -> Image:
    """Blurs with a Gaussian of random widths and orientation, in half of all cases.

    The convolution is periodic, so that opposite edges mix; the margin absorbs this.
    """
    sigmas = random.uniform(0.1, 0.5 * scale, 2)
    angle = random.uniform(0, np.pi)
    if random.random() < 0.5:
        return image
    height, width = image.shape[:2]
    y, x = fft.fftfreq(height)[:, None], fft.rfftfreq(width)
    along = sigmas[0] * (np.cos(angle) * x + np.sin(angle) * y)
    across = sigmas[1] * (np.cos(angle) * y - np.sin(angle) * x)
    # The Fourier transform of a Gaussian is a Gaussian.
    transfer = np.exp(-2 * np.pi**2 * (along**2 + across**2)).astype(np.float32)
    spectrum = fft.rfft2(image.astype(np.float32), axes=(0, 1))
    blurred = fft.irfft2(spectrum * transfer[..., None], (height, width), axes=(0, 1))
    return np.clip(blurred + 0.5, 0, 255).astype(np.uint8)


def resize(image: Image, scale: int, random: np.random.Generator) -> Image:
    """Shrinks by `scale` with one of four antialiasing kernels."""
    kernel = _KERNELS[random.integers(len(_KERNELS))]
    height, width = image.shape[:2]
    size = (width // scale, height // scale)
    return np.asarray(PIL.Image.fromarray(image).resize(size, kernel))


def add_noise(image: Image, random: np.random.Generator) -> Image:
    """Adds Gaussian noise of random strength, grey or coloured."""
    sigma = 8 * random.random() ** 2
    channels = 1 if random.random() < 0.4 else 3
    noise = random.normal(0, sigma, (*image.shape[:2], channels))
    return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)


def compress(image: Image, random: np.random.Generator) -> Image:
    """Encodes as JPEG of random quality with 4:2:0 chroma, and decodes it again."""
    return jpeg(image, round(95 - 55 * random.random() ** 2))


def jpeg(image: Image, quality: int) -> Image:
    """Encodes as JPEG of Pillow's `quality` with 4:2:0 chroma, and decodes it again."""
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=2)
    with PIL.Image.open(stream) as decoded:
        return np.asarray(decoded)
