"""Samples and image files that several tests share."""

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image

RNG = np.random.default_rng(0)


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(
    rows: list[bytes], width: int, depth: int, colour_type: int, chunks: bytes = b""
) -> bytes:
    """A PNG of unfiltered rows, built as the specification says."""
    sizes = (width, len(rows), depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *sizes))
        + chunks
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def png_16(samples: np.ndarray, colour_type: int, chunks: bytes = b"") -> bytes:
    rows = [row.astype(">u2").tobytes() for row in samples]
    return png(rows, samples.shape[1], 16, colour_type, chunks)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "Maker"
    tags[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: (1.0, 100.0),
        ExifTags.Base.ExifImageWidth: 7,
    }
    tags[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return tags


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
