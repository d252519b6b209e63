"""Reads and writes PNG.

libpng decodes and encodes the samples; this module reads and writes the metadata chunks
(PNG specification, third edition).
"""

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np

from srgan_jax.images.image import Image, Metadata, Refusal, check_pixels, split_alpha

# Our own error or note reports what is wrong with a file; don't log it twice.
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_LENGTHS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"pHYs": 9}
_XMP = b"XML:com.adobe.xmp\0"
_METRE = 0.0254  # metres in an inch
_MAX_ICC = 16 << 20  # bytes that a compressed profile may expand to
_COMPRESSION = 3  # takes a third of the default's time; files are a tenth larger


def size(file: BinaryIO) -> tuple[int, int]:
    """Reads width and height from the header.

    Raises:
      Refusal: the file has no valid header, or is an animation.
    """
    frames, header = 1, b""
    for kind, length in _headers(file):
        if kind == b"IHDR":
            header = file.read(length)
        elif kind == b"acTL":
            frames = struct.unpack(">I", file.read(4).rjust(4, b"\0"))[0]
        elif kind == b"IDAT":
            break
    if len(header) != 13:
        raise Refusal("has no header")
    if frames > 1:
        raise Refusal(f"has {frames} frames or pages; extract one of them first")
    width, height = struct.unpack(">II", header[:8])
    return width, height


def decode(data: bytes, max_pixels: int | None) -> Image:
    """Decodes every kind of PNG: 1 to 16 bits, grey, palette, RGB, transparency."""
    check_pixels(*size(io.BytesIO(data)), max_pixels)
    samples = imagecodecs.png_decode(data)
    pixels, alpha = split_alpha(samples)
    metadata, notes = _metadata(data)
    return Image(pixels, alpha, metadata, notes)


def encode(file: BinaryIO, image: Image, **_: object) -> None:
    """Encodes 8 or 16 bits, with all metadata."""
    samples = image.pixels
    if image.alpha is not None:
        samples = np.dstack((samples, image.alpha))
    # libpng needs the strides of a flat array, for sides of one pixel too.
    samples = samples.reshape(-1).reshape(samples.shape)
    data = imagecodecs.png_encode(samples, level=_COMPRESSION)
    after_header = len(SIGNATURE) + 25
    file.write(data[:after_header])
    for kind, body in _chunks(image.metadata):
        head = struct.pack(">I", len(body)) + kind
        file.write(head + body + struct.pack(">I", zlib.crc32(kind + body)))
    file.write(memoryview(data)[after_header:])


def _headers(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields type and length of each chunk, with the file positioned at its data."""
    position = len(SIGNATURE)
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        length, kind = struct.unpack(">I4s", header)
        yield kind, length
        position += 12 + length


def _metadata(data: bytes) -> tuple[Metadata, tuple[str, ...]]:
    file = io.BytesIO(data)
    found: dict[str, bytes] = {}
    dpi, chunks, notes = None, [], []
    for kind, length in _headers(file):
        wanted = (b"iCCP", b"eXIf", b"pHYs", *COLOUR_CHUNKS, *TEXT_CHUNKS)
        if kind not in wanted:
            continue
        body, crc = file.read(length), file.read(4)
        checked = struct.pack(">I", zlib.crc32(kind + body))
        if crc != checked or length != _LENGTHS.get(kind, length):
            notes.append(f"chunk {kind.decode()} is damaged and left out")
        elif kind == b"iCCP":
            profile = _inflated(body.partition(b"\0")[2][1:])
            if profile is None:
                notes.append("the colour profile is damaged and left out")
            else:
                found["icc"] = profile
        elif kind == b"eXIf":
            found["exif"] = body
        elif kind == b"iTXt" and body.startswith(_XMP):
            text = body[len(_XMP) + 2 :].split(b"\0", 2)[-1]
            packet = _inflated(text) if body[len(_XMP) :][:1] == b"\1" else text
            if packet is None:
                notes.append("XMP is damaged and left out")
            else:
                found["xmp"] = packet
        elif kind == b"pHYs" and body[8:] == b"\x01":
            x, y = struct.unpack(">II", body[:8])
            dpi = x * _METRE, y * _METRE
        else:
            chunks.append((kind, body))
    return Metadata(**found, dpi=dpi, chunks=tuple(chunks)), tuple(notes)


def _inflated(data: bytes) -> bytes | None:
    """Decompresses a profile; returns None if it is damaged or too large."""
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(data, _MAX_ICC)
    except zlib.error:
        return None
    return profile if stream.eof else None


def _chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    yield from (c for c in metadata.chunks if c[0] in COLOUR_CHUNKS)
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        ppm = (min(round(d / _METRE), 2**31 - 1) for d in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", *ppm, 1)
    yield from (c for c in metadata.chunks if c[0] not in COLOUR_CHUNKS)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", _XMP + b"\0\0\0\0" + metadata.xmp
    if metadata.comment:
        yield b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b"")
