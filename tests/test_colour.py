"""Conversion to sRGB, against the specifications' formulas and LittleCMS."""

import struct

import numpy as np
import pytest
from image_files import pixels
from PIL import Image, ImageCms

from srgan_jax.images import colour

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def chromaticities(*values: float) -> bytes:
    return struct.pack(">8I", *(round(100_000 * value) for value in values))


SRGB_CHRM = chromaticities(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_declared_srgb_in_any_way_are_unchanged(dtype: type) -> None:
    samples = pixels(5, 6, 3, dtype=dtype)
    for chunks in (
        {},
        {b"sRGB": b"\0", b"gAMA": struct.pack(">I", 100_000)},
        {b"gAMA": struct.pack(">I", 45_455)},
        {b"cHRM": SRGB_CHRM},
        {b"gAMA": struct.pack(">I", 45_455), b"cHRM": SRGB_CHRM},
        {b"cICP": bytes((1, 13, 0, 1)), b"gAMA": struct.pack(">I", 100_000)},
        {b"tEXt": b"gAMA\0none"},
    ):
        assert np.array_equal(colour.from_chunks(samples, chunks), samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gamma_is_converted_to_the_srgb_curve(dtype: type) -> None:
    grey = pixels(5, 6, dtype=dtype)
    top = np.iinfo(dtype).max
    linear = (grey / top) ** 1.8
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    expected = np.round(top * np.where(linear <= 0.0031308, 12.92 * linear, curve))
    chunks = {b"gAMA": struct.pack(">I", round(100_000 / 1.8))}
    found = colour.from_chunks(grey, chunks)
    assert found.dtype == dtype
    assert np.abs(found - expected).max() <= max(1, top / 10_000)


def test_other_primaries_are_converted() -> None:
    """Display P3's red is outside sRGB; white and grey are unchanged."""
    samples = np.array(
        [[[255, 255, 255], [128, 128, 128], [255, 0, 0], [90, 120, 100]]], np.uint8
    )
    p3 = chromaticities(0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
    found = colour.from_chunks(samples, {b"cHRM": p3})
    assert np.array_equal(found[0, :2], samples[0, :2])
    assert found[0, 2].tolist() == [255, 0, 0]
    css = [[1.2249, -0.2249, 0], [-0.0421, 1.0421, 0], [-0.0196, -0.0786, 1.0983]]
    linear = css @ ((samples[0, 3] / 255 + 0.055) / 1.055) ** 2.4  # CSS Color 4
    assert np.abs(found[0, 3] - 255 * (1.055 * linear ** (1 / 2.4) - 0.055)).max() < 1
    assert np.array_equal(
        colour.from_chunks(samples, {b"cICP": b"\x0c\x0d\0\1"}), found
    )


def test_another_white_point_is_adapted_to_white() -> None:
    d50 = chromaticities(0.3457, 0.3585, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    grey = np.full((2, 2, 3), 200, np.uint8)
    assert np.array_equal(colour.from_chunks(grey, {b"cHRM": d50}), grey)


@pytest.mark.parametrize(
    "chunks",
    [
        {b"gAMA": b"\0\0"},
        {b"gAMA": bytes(4)},
        {b"cHRM": bytes(32)},
        {b"cHRM": b"\1"},
        {b"cICP": b""},
        {b"cICP": bytes((9, 16, 0, 1))},
    ],
)
def test_damaged_and_unknown_chunks_are_refused(chunks: dict) -> None:
    with pytest.raises(ValueError, match=r"damaged|unknown"):
        colour.from_chunks(pixels(2, 2, 3), chunks)


def test_profiles_are_applied_as_by_littlecms() -> None:
    samples = pixels(4, 5, 3)
    assert np.abs(colour.from_icc(samples, SRGB).astype(int) - samples).max() <= 1
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"", b"nonsense", lab):
        with pytest.raises(ValueError, match="profile"):
            colour.from_icc(samples, profile)


def test_cmyk_without_a_profile_is_converted_by_formula() -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 51, 0, 51]]])
    rgb, note = colour.from_cmyk(inks.astype(np.uint8), None)
    assert rgb.tolist() == [
        [[255, 255, 255], [0, 255, 255], [0, 0, 0], [204, 163, 204]]
    ]
    assert "no colour profile" in note
    rgb, note = colour.from_cmyk(inks.astype(np.uint8), SRGB)
    assert "no usable colour profile" in note
    image = Image.fromarray(inks.astype(np.uint8), "CMYK").convert("RGB")
    assert np.abs(np.asarray(image).astype(int) - rgb).max() <= 1
