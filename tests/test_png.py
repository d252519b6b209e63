"""PNG of every kind, compared with Pillow and with the written arrays."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from image_files import chunk, pixels, png, png_16
from PIL import Image, ImageCms

from srgan_jax.images import decode
from srgan_jax.images import png as png_
from srgan_jax.images.image import Image as Decoded
from srgan_jax.images.image import ImageError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"XML:com.adobe.xmp\0"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
CLEAR = {0: struct.pack(">H", 1), 2: struct.pack(">HHH", 1, 2, 3), 3: bytes((0, 128))}


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize(
    ("colour_type", "depth"),
    [
        *((0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (4, 8), (6, 8)),
        *((3, 1), (3, 2), (3, 4), (3, 8)),
    ],
)
def test_pixels_of_8_bits_and_fewer_equal_pillows(
    colour_type: int, depth: int, clear: bool
) -> None:
    width = 13
    length = -(-width * CHANNELS[colour_type] * depth // 8)
    rows = [pixels(length).tobytes() for _ in range(9)]
    chunks = chunk(b"PLTE", pixels(3 * 2**depth).tobytes()) if colour_type == 3 else b""
    if clear and colour_type in CLEAR:
        chunks += chunk(b"tRNS", CLEAR[colour_type])
    data = png(rows, width, depth, colour_type, chunks)
    image = decode.decode_image(data, "a.png")
    assert (image.pixels.ndim == 2) == (colour_type in (0, 4))
    with Image.open(io.BytesIO(data)) as saved:
        rgba = np.asarray(saved.convert("RGBA"))
        if clear and colour_type == 0 and depth in (2, 4):  # Pillow reads these wrongly
            rgba = rgba.copy()
            rgba[..., 3] = np.where(rgba[..., 0] == 255 // (2**depth - 1), 0, 255)
    assert np.array_equal(decode.to_rgb(image.pixels), rgba[..., :3])
    alpha = np.full_like(rgba[..., 3], 255) if image.alpha is None else image.alpha
    assert np.array_equal(alpha, rgba[..., 3])


def test_pixels_of_16_bits_equal_opencvs() -> None:
    samples = pixels(7, 9, 4, dtype=np.uint16)
    data = cv2.imencode(".png", samples[..., (2, 1, 0, 3)])[1].tobytes()
    image = decode.decode_image(data, "a.png")
    assert np.array_equal(image.pixels, samples[..., :3])
    assert np.array_equal(image.alpha, samples[..., 3])


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_transparent_colour_of_16_bits_becomes_alpha(colour_type: int) -> None:
    samples = pixels(2, 2, CHANNELS[colour_type], dtype=np.uint16)
    clear = chunk(b"tRNS", samples[1, 1].astype(">u2").tobytes())
    image = decode.decode_image(png_16(samples, colour_type, clear), "a.png")
    assert image.alpha.tolist() == [[65_535, 65_535], [65_535, 0]]


def test_interlaced_files_are_read() -> None:
    """A 2x2 image has rows in only a few of the seven passes of Adam7."""
    samples = pixels(2, 2)
    passes = [samples[:1, :1], samples[:1, 1:], samples[1:, :]]
    data = zlib.compress(b"".join(b"\0" + part.tobytes() for part in passes))
    data = (
        png_.SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )
    assert np.array_equal(decode.decode_image(data, "a.png").pixels, samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_files_written_here_are_read_by_others(dtype: type, channels: int) -> None:
    samples = pixels(5, 7, channels, dtype=dtype)
    alpha = samples[..., -1] if channels in (2, 4) else None
    colours = samples[..., : channels - (alpha is not None)].squeeze()
    file = io.BytesIO()
    png_.encode(file, Decoded(colours, alpha))
    by_opencv = cv2.imdecode(
        np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED
    )
    order = {1: (0,), 2: (0, 3), 3: (2, 1, 0), 4: (2, 1, 0, 3)}[channels]
    found = by_opencv[..., None] if by_opencv.ndim == 2 else by_opencv
    assert by_opencv.dtype == dtype
    assert np.array_equal(found[..., order], samples)


def test_a_damaged_byte_is_detected() -> None:
    whole = png([pixels(24).tobytes()] * 8, 8, 8, 2)
    for place in range(41, len(whole) - 12):  # in IDAT
        data = bytearray(whole)
        data[place] ^= 1
        with pytest.raises(ImageError, match=r"a\.png: "):
            decode.decode_image(bytes(data), "a.png")


def test_an_image_with_damaged_metadata_is_read() -> None:
    text, icc = chunk(b"tEXt", b"a\0b"), chunk(b"iCCP", b"name\0\0nonsense")
    broken = text[:-1] + bytes([text[-1] ^ 1])
    short = chunk(b"iCCP", b"name\0\0" + zlib.compress(SRGB)[:-50])
    for chunks, note in (
        (broken, "chunk tEXt is damaged and left out"),
        (icc, "the colour profile is damaged and left out"),
        (short, "the colour profile is damaged and left out"),
        (chunk(b"gAMA", b"\1"), "chunk gAMA is damaged and left out"),
        (chunk(b"pHYs", b"\1\1"), "chunk pHYs is damaged and left out"),
        (chunk(b"iTXt", XMP + b"\1\0\0\0none"), "XMP is damaged and left out"),
    ):
        data = png([bytes(24)] * 8, 8, 8, 2, chunks)
        image = decode.decode_image(data, "a.png")
        assert image.notes == (note,)
        assert image.metadata.icc is None
        assert image.metadata.chunks == ()


def test_compressed_xmp_is_read() -> None:
    packet = chunk(b"iTXt", XMP + b"\1\0\0\0" + zlib.compress(b"<x/>"))
    image = decode.decode_image(png([bytes(24)] * 8, 8, 8, 2, packet), "a.png")
    assert image.metadata.xmp == b"<x/>"
    assert image.metadata.chunks == image.notes == ()


def test_one_column_of_any_strides_is_written() -> None:
    column = np.ascontiguousarray(pixels(1, 9, 3).swapaxes(0, 1))
    assert column.strides != (3, 3, 1)
    file = io.BytesIO()
    png_.encode(file, Decoded(column))
    assert np.array_equal(np.asarray(Image.open(file)), column)
