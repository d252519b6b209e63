"""Decodes and encodes JPEG, WebP, AVIF and BMP with Pillow, in 8 bits.

Metadata is copied as bytes. AVIF of 10 or 12 bits is read as 8 bits.
"""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.WebPImagePlugin import WebPImageFile

from srgan_jax.images import colour
from srgan_jax.images.image import Image, Metadata, Refusal, check_pixels, split_alpha

_PREFIX = b"Exif\0\0"  # stands before the EXIF block in a JPEG
_INCHES = {1: 1.0, 2: 2.54}  # length of an inch in the units of JPEG's density
_OPENERS: dict[str, Callable[[BinaryIO], PIL.ImageFile.ImageFile]] = {
    "JPEG": jpeg_factory,
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
}
_LOCK = threading.Lock()

JPEG_MAX_EXIF = 65_533 - len(_PREFIX)
JPEG_MAX_XMP = 65_533 - 29
JPEG_MAX_COMMENT = 65_533


def size(kind: str, file: BinaryIO) -> tuple[int, int]:
    """Reads width and height from the header.

    Raises:
      Refusal: the file is an animation.
    """
    with _opened(kind, file) as image:
        return image.size


def jpeg_header(file: BinaryIO) -> tuple[int, int, bool]:
    """A JPEG's width and height, and whether regions can be decoded on their own."""
    with _opened("JPEG", file) as image:
        croppable = image.format == "JPEG" and image.mode in ("L", "RGB")
        return image.width, image.height, croppable


def decode(kind: str, data: bytes, max_pixels: int | None) -> Image:
    """Decodes one image; CMYK becomes sRGB."""
    with _opened(kind, io.BytesIO(data)) as image:
        check_pixels(*image.size, max_pixels)
        image.load()
        metadata = _metadata(image)
        more = getattr(image, "n_frames", 1) - 1  # of an MPO
        notes = (f"left out further images (previews, depth): {more}",) if more else ()
        if image.mode == "CMYK":
            pixels, note = colour.from_cmyk(np.asarray(image), metadata.icc)
            metadata = Metadata(
                *(None, metadata.exif, metadata.xmp, metadata.comment, metadata.dpi)
            )
            return Image(pixels, None, metadata, (*notes, note) if note else notes)
        grey = image.mode in ("1", "L") or (metadata.icc or b"")[16:20] == b"GRAY"
        mode = "L" if grey else "RGB"
        mode += "A" if image.has_transparency_data else ""
        pixels, alpha = split_alpha(np.asarray(image.convert(mode)))
        return Image(pixels, alpha, metadata, notes)


def encode_jpeg(
    file: BinaryIO, image: Image, *, quality: int | None = None, **_: object
) -> None:
    """Encodes without chroma subsampling; the default quality is 95."""
    known = image.metadata
    options: dict[str, Any] = {}
    if known.exif:
        options["exif"] = _PREFIX + known.exif
    if known.dpi:
        options["dpi"] = known.dpi
    if known.comment:
        options["comment"] = known.comment
    _save(
        file,
        image,
        "JPEG",
        quality=95 if quality is None else quality,
        subsampling=0,
        xmp=known.xmp,
        icc_profile=known.icc,
        **options,
    )


def encode_webp(
    file: BinaryIO, image: Image, *, quality: int | None = None, lossless: bool = False
) -> None:
    """Encodes losslessly or with the given quality, by default 95."""
    lossy = {"quality": 95 if quality is None else quality}
    options = {"lossless": True, "exact": True} if lossless else lossy
    _save(file, image, "WEBP", **_carried(image), **options)


def encode_avif(
    file: BinaryIO, image: Image, *, quality: int | None = None, **_: object
) -> None:
    """Encodes without chroma subsampling; the default quality is 90."""
    chroma = {} if image.pixels.ndim == 2 else {"subsampling": "4:4:4"}
    quality = 90 if quality is None else quality
    options = _carried(image) | chroma | {"exif": _RawExif(image.metadata.exif or b"")}
    _save(file, image, "AVIF", **options, quality=quality)


def encode_bmp(file: BinaryIO, image: Image, **_: object) -> None:
    """Encodes 8 bits of grey or RGB, and dpi."""
    options = {"dpi": image.metadata.dpi} if image.metadata.dpi else {}
    _save(file, image, "BMP", **options)


class _RawExif(PIL.Image.Exif):
    """An EXIF block that Pillow writes unchanged; it would re-encode plain bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._raw = data

    def __bool__(self) -> bool:
        return bool(self._raw)

    def tobytes(self, offset: int = 8) -> bytes:
        return self._raw


def _carried(image: Image) -> dict[str, Any]:
    known = image.metadata
    return {
        "icc_profile": known.icc or b"",
        "exif": known.exif or b"",
        "xmp": known.xmp or b"",
    }


def _save(file: BinaryIO, image: Image, kind: str, **options: Any) -> None:
    samples = image.pixels
    if image.alpha is not None:
        samples = np.dstack((samples, image.alpha))
    PIL.Image.fromarray(np.ascontiguousarray(samples)).save(file, kind, **options)


@contextmanager
def _opened(kind: str, file: BinaryIO) -> Iterator[PIL.Image.Image]:
    """Opens an image and checks that it has a single frame.

    Pillow's own limit on pixels does not apply: only `PIL.Image.open` checks it.
    """
    with _LOCK, warnings.catch_warnings():  # catch_warnings is not thread-safe
        warnings.simplefilter("ignore")  # odd EXIF causes warnings; it is kept as is
        image = _OPENERS[kind](file)
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # an MPO's other frames are previews
            raise Refusal(f"has {frames} frames or pages; extract one of them first")
        yield image


def _metadata(image: PIL.Image.Image) -> Metadata:
    info = image.info
    exif = (info.get("exif") or b"").removeprefix(_PREFIX)
    dpi = None
    if image.format in ("JPEG", "MPO"):
        scale = _INCHES.get(info.get("jfif_unit", 0))
        if scale and all(info["jfif_density"]):
            x, y = info["jfif_density"]
            dpi = x * scale, y * scale
    elif image.format == "BMP":
        dpi = info.get("dpi")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif or None,
        xmp=info.get("xmp") or None,
        comment=info.get("comment") or None,
        dpi=dpi if dpi and all(dpi) else None,
    )
