"""The table of image formats: suffixes, decoder, encoder, and what each can hold."""

from collections.abc import Callable
from functools import partial
from typing import BinaryIO, NamedTuple

from srgan_jax.images import pillow_codecs, png, tiff
from srgan_jax.images.image import Image


class Format(NamedTuple):
    """An image format that can be read and written.

    Attributes:
      suffixes: file name suffixes; new files get the first one.
      size: function that returns the width and height of an open file.
      decode: function that takes the file's bytes and the largest number of pixels
        (None for no limit), and returns an Image whose orientation tag has not been
        applied. Its library's exceptions pass through.
      encode: function that writes an Image to an open file; takes `quality` and
        `lossless`.
      holds: fields of `image.Metadata` that the format can hold.
      alpha: True if it can hold transparency.
      deep: True if it can hold 16 bits.
      grey: True if it can hold a single channel.
      lossy: True if its encoder takes a quality.
      lossless: True if it can keep every sample exactly.
      longest_side: the largest width or height, in pixels.
    """

    suffixes: tuple[str, ...]
    size: Callable[[BinaryIO], tuple[int, int]]
    decode: Callable[[bytes, int | None], Image]
    encode: Callable[..., None]
    holds: frozenset[str]
    alpha: bool = False
    deep: bool = False
    grey: bool = True
    lossy: bool = True
    lossless: bool = False
    longest_side: int = 2**31 - 1


_EXIF = frozenset({"icc", "exif", "xmp"})

FORMATS = {
    "PNG": Format(
        suffixes=(".png",),
        size=png.size,
        decode=png.decode,
        encode=png.encode,
        holds=_EXIF | {"comment", "dpi", "chunks"},
        alpha=True,
        deep=True,
        lossy=False,
        lossless=True,
    ),
    "JPEG": Format(
        suffixes=(".jpg", ".jpeg", ".jfif"),
        size=partial(pillow_codecs.size, "JPEG"),
        decode=partial(pillow_codecs.decode, "JPEG"),
        encode=pillow_codecs.encode_jpeg,
        holds=_EXIF | {"comment", "dpi"},
        longest_side=65_500,
    ),
    "WEBP": Format(
        suffixes=(".webp",),
        size=partial(pillow_codecs.size, "WEBP"),
        decode=partial(pillow_codecs.decode, "WEBP"),
        encode=pillow_codecs.encode_webp,
        holds=_EXIF,
        alpha=True,
        grey=False,
        lossless=True,
        longest_side=16_383,
    ),
    "AVIF": Format(
        suffixes=(".avif",),
        size=partial(pillow_codecs.size, "AVIF"),
        decode=partial(pillow_codecs.decode, "AVIF"),
        encode=pillow_codecs.encode_avif,
        holds=_EXIF,
        alpha=True,
        longest_side=65_536,
    ),
    "TIFF": Format(
        suffixes=(".tif", ".tiff"),
        size=tiff.size,
        decode=tiff.decode,
        encode=tiff.encode,
        holds=_EXIF | {"dpi"},
        alpha=True,
        deep=True,
        lossy=False,
        lossless=True,
    ),
    "BMP": Format(
        suffixes=(".bmp",),
        size=partial(pillow_codecs.size, "BMP"),
        decode=partial(pillow_codecs.decode, "BMP"),
        encode=pillow_codecs.encode_bmp,
        holds=frozenset({"dpi"}),
        lossy=False,
        lossless=True,
    ),
}
BY_SUFFIX = {suffix: name for name, f in FORMATS.items() for suffix in f.suffixes}

# Common formats that cannot be read, for error messages.
UNREAD = {
    **{".gif": "GIF", ".heic": "HEIC", ".heif": "HEIC", ".jxl": "JPEG XL"},
    **{".jp2": "JPEG 2000", ".svg": "SVG", ".psd": "PSD", ".dng": "DNG", ".cr2": "CR2"},
    **{".ppm": "PNM", ".pgm": "PNM", ".pnm": "PNM", ".tga": "TGA", ".exr": "OpenEXR"},
    **{".apng": "APNG", ".ico": "ICO", ".xcf": "XCF", ".rw2": "RW2", ".j2k": "J2K"},
    **{".cr3": "CR3", ".nef": "NEF", ".arw": "ARW", ".raf": "RAF", ".orf": "ORF"},
}
EXPECTED = ", ".join(FORMATS)


def identify(start: bytes) -> str | None:
    """Identifies a format, supported or not, by the first 32 bytes of a file."""
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        brands = start[8:12], *(start[i : i + 4] for i in range(16, len(start), 4))
        if any(brand in (b"avif", b"avis") for brand in brands):
            return "AVIF"
        return "HEIC" if start[8:10] in (b"he", b"mi", b"ms") else "a video"
    signatures = {
        png.SIGNATURE: "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"BM": "BMP",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"II+\0": "TIFF",
        b"MM\0+": "TIFF",
        b"GIF8": "GIF",
        b"\xff\x0a": "JPEG XL",
        b"\0\0\0\x0cJXL ": "JPEG XL",
        b"\0\0\0\x0cjP  ": "JPEG 2000",
        b"8BPS": "PSD",
        b"%PDF": "PDF",
    }
    return next((n for mark, n in signatures.items() if start.startswith(mark)), None)
