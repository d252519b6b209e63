"""Jobs: outputs of inputs, refused inputs, and upscaling of alpha."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from image_files import pixels

from srgan_jax.data.resize import imresize
from srgan_jax.images.image import Image
from srgan_jax.inference.jobs import prepare, upscale


def double(image: np.ndarray) -> np.ndarray:
    """Stands in for an upscaler."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def test_colour_hidden_by_alpha_is_not_visible() -> None:
    """A white disc on hidden black, blurred by the upscaler, stays white."""
    y, x = np.mgrid[:32, :32]
    disc = (y - 16) ** 2 + (x - 16) ** 2 < 100
    alpha = np.where(disc, 255, 0).astype(np.uint8)
    image = Image(np.repeat(alpha[..., None], 3, axis=-1), alpha)

    def blur(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(double(image), (9, 9), 0)

    big = upscale(image, blur)
    assert big.alpha.shape == (64, 64)
    assert big.pixels[big.alpha > 0].min() == 255
    assert (big.alpha.min(), big.alpha.max()) == (0, 255)
    assert np.count_nonzero((big.alpha > 0) & (big.alpha < 255)) > 0


def test_alpha_of_16_bits_is_bicubic() -> None:
    alpha = np.linspace(1000, 60_000, 64).astype(np.uint16).reshape(8, 8)
    big = upscale(Image(np.zeros((8, 8), np.uint16), alpha), double).alpha
    assert big.dtype == np.uint16
    expected = cv2.resize(alpha, (16, 16), interpolation=cv2.INTER_CUBIC)
    assert np.abs(big.astype(int) - expected).max() < 1200  # another kernel


def test_a_fully_transparent_image_stays_transparent() -> None:
    clear = Image(pixels(4, 4, 3), np.zeros((4, 4), np.uint8))
    assert not upscale(clear, double).alpha.any()


def test_smaller_sizes_are_made_by_matlabs_bicubic() -> None:
    image = Image(pixels(16, 24, 3), pixels(16, 24) | 1)
    small = upscale(image, double, (20, 30))
    expected = imresize(double(image.pixels), Fraction(20, 32))
    assert np.array_equal(small.pixels, expected)
    assert small.pixels.shape == (20, 30, 3)
    assert small.alpha.shape == (20, 30)


def test_unsupported_formats_are_named(tmp_path: Path) -> None:
    for name in ("a.gif", "b.HEIC", "sub/c.jxl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    made = prepare([str(tmp_path)], str(tmp_path / "out"))
    assert not made.jobs
    assert made.failures == [
        f"{tmp_path / 'a.gif'}: GIF cannot be read",
        f"{tmp_path / 'b.HEIC'}: HEIC cannot be read",
        f"{tmp_path / 'sub/c.jxl'}: JPEG XL cannot be read",
    ]
