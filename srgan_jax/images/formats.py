"""The one table of formats: suffixes, decoder, encoder, and what each can hold."""

from collections.abc import Callable
from functools import partial
from typing import BinaryIO, NamedTuple

from srgan_jax.images import pillow_codecs, png, tiff
from srgan_jax.images.image import Image


class Format(NamedTuple):
    """A format that is read and written.

    Attributes:
      suffixes: the first one is given to new files.
      size: width and height of an open file.
      decode: bytes and the largest number of pixels (None: any) to an image, whose
        orientation tag has not been applied. Raises what its library raises.
      encode: writes an image to a file; takes `quality` and `lossless`.
      holds: the metadata it holds, by the names of `image.Metadata`.
      alpha: whether it holds transparency.
      deep: whether it holds 16 bits.
      grey: whether it holds grey as such.
      lossy: whether it takes a quality.
      lossless: whether it can keep every sample.
      longest_side: in pixels.
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
        suffixes=(".jpg", ".jpeg"),
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

# Formats that people have images in and that are not read.
UNREAD = {
    **{".gif": "GIF", ".heic": "HEIC", ".heif": "HEIC", ".jxl": "JPEG XL"},
    **{".jp2": "JPEG 2000", ".svg": "SVG", ".psd": "PSD", ".dng": "DNG", ".cr2": "CR2"},
    **{".cr3": "CR3", ".nef": "NEF", ".arw": "ARW", ".raf": "RAF", ".orf": "ORF"},
}
EXPECTED = ", ".join(FORMATS)


def identify(start: bytes) -> str | None:
    """The name of the format, read or not, that a file's first 32 bytes tell."""
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
