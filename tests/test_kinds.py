"""Kinds of images, by way of a stand-in for an upscaler."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from image_files import pixels
from PIL import Image, ImageCms

from srgan_jax.inference.kinds import open_image


def double(image: Any) -> Any:
    """Twice as high and wide by nearest neighbour."""
    samples, alpha, close = open_image(image)
    larger = samples.repeat(2, axis=1).repeat(2, axis=2)
    return close(larger, None if alpha is None else alpha.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3), (3, 4, 4), (2, 3, 4, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "bfloat16"])
def test_arrays_come_back_as_they_were(shape: tuple[int, ...], dtype: str) -> None:
    levels = pixels(*shape)
    is_float = "float" in dtype
    image = jnp.asarray(levels / 255 if is_float else levels).astype(dtype)
    for given in (image, np.asarray(image)):
        result = double(given)
        assert type(result) is type(given)
        assert result.dtype == given.dtype
        axis = len(shape) == 4
        assert result.shape[axis : axis + 2] == (6, 8)
        corner = (slice(None),) * axis + (slice(None, None, 2),) * 2
        assert np.array_equal(result[corner], given)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((1, 1, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        "photo.jpg",
        None,
    ],
)
def test_other_arrays_are_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="expected uint8 or uint16 or float"):
        open_image(image)


@pytest.mark.parametrize("value", [1.1, 255.0, -0.01, np.nan, np.inf])
def test_floats_beyond_their_range_are_refused(value: float) -> None:
    image = np.full((2, 2, 3), 0.5, np.float32)
    image[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"expected \[0, 1\]: divide"):
        open_image(image)


def test_overshoot_of_rounding_is_clipped() -> None:
    image = np.array([[-1e-7, 1 + 1e-6]], np.float64)
    assert np.array_equal(double(image)[0, ::2], [0, 1])


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [
        *(("1", "L"), ("L", "L"), ("LA", "LA"), ("La", "LA"), ("P", "RGB")),
        *(("PA", "RGBA"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("RGBa", "RGBA")),
        *(("RGBX", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("I;16", "I;16")),
    ],
)
def test_pil_images_are_converted_by_their_mode(mode: str, becomes: str) -> None:
    bands = Image.fromarray(pixels(3, 5, 4))
    if mode == "I;16":
        image = Image.fromarray(pixels(3, 5, dtype=np.uint16))
    elif mode in ("La", "RGBa"):
        image = bands.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    else:
        image = bands.convert("RGB").convert(mode)
    result = double(image)
    assert (result.mode, result.size) == (becomes, (10, 6))
    same = image if mode == "I;16" else image.convert(becomes)
    assert np.array_equal(np.asarray(result)[::2, ::2], same)


def test_a_palette_is_no_grey_and_keeps_its_transparency() -> None:
    image = Image.new("P", (3, 2))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert double(image).getpixel((0, 0)) == (10, 20, 30)
    image.info["transparency"] = 1
    clear = double(image)
    assert clear.mode == "RGBA"
    assert clear.getpixel((2, 0)) == (40, 50, 60, 0)
    assert "transparency" not in clear.info


def test_metadata_of_pil_images_is_kept() -> None:
    image = Image.fromarray(pixels(2, 3, 3))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info = {"icc_profile": profile, "dpi": (300, 300)}
    assert double(image).info == image.info


def test_cmyk_becomes_rgb_and_says_how() -> None:
    image = Image.new("CMYK", (2, 2), (255, 0, 0, 51))
    with pytest.warns(UserWarning, match="CMYK with no colour profile is converted"):
        result = double(image)
    assert result.mode == "RGB"
    assert result.getpixel((0, 0)) == (0, 204, 204)


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_other_modes_of_pil_are_refused_by_name(mode: str) -> None:
    with pytest.raises(ValueError, match=f"PIL's mode '{mode}'; expected one of 1, L"):
        open_image(Image.new(mode, (2, 2)))


def test_pil_images_without_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="0x3 pixels"):
        open_image(Image.new("RGB", (0, 3)))
