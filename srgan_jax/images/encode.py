"""Writing pictures: PNG, JPEG, WebP, TIFF and BMP, with EXIF and colour profile.

A file appears whole or not at all. Refused: formats not among these, and what a format
cannot hold.
"""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.ExifTags import Base

from srgan_jax.images.decode import ImageError, describe_error
from srgan_jax.images.picture import FORMATS, KEPT_TAGS, Picture

OPAQUE = ("JPEG", "BMP")  # formats without alpha
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
SAVING: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 3},  # a third of the usual time, a tenth larger
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {},  # libtiff would compress, but not keep EXIF
    "BMP": {},
}


def check_output(path: Path, picture: Picture, scale: int = 1) -> None:
    """Says before the work what `write` would refuse of the upscaled picture.

    Raises:
      ImageError: the format is unknown, or holds no alpha or no side of that length.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path}: none of the formats written ({', '.join(FORMATS)})")
    if picture.alpha is not None and kind in OPAQUE:
        raise ImageError(
            f"{path}: {kind} holds no transparency; choose png, webp or tiff"
        )
    side = scale * max(picture.pixels.shape[:2])
    if side > LONGEST_SIDE.get(kind, side):
        raise ImageError(
            f"{path}: {kind} holds sides of {LONGEST_SIDE[kind]} pixels at most, "
            f"not {side}; choose png or tiff"
        )


def write(path: str | os.PathLike[str], picture: Picture) -> None:
    """Writes a picture in the format of its suffix, whole or not at all.

    16 bits are kept by PNG and TIFF, and rounded to 8 for the others. TIFF with 16 bits
    keeps the profile and the main texts of EXIF.

    Raises:
      ImageError: the format cannot hold it, or the file cannot be written.
    """
    path = Path(path)
    check_output(path, picture)
    part = path.with_name(f".{os.getpid()}.part")  # short, as a name may be long
    try:
        try:
            with io.BufferedWriter(_Unnumbered(part, "wb")) as file:
                _encode(file, FORMATS[path.suffix.lower()], picture)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except Exception as error:  # Pillow's plugins raise what they like
        raise describe_error(str(path), error) from error


class _Unnumbered(io.FileIO):
    """A file that Pillow must write by `write`: by number it ignores short writes."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def _encode(file: BinaryIO, kind: str, picture: Picture) -> None:
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is not None:
        pixels = np.dstack((pixels, alpha))
    if pixels.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        pixels = ((pixels.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)
    camera = picture.exif.get(ExifTags.IFD.Exif, {})
    lengths = {Base.ExifImageWidth: pixels.shape[1], Base.ExifImageHeight: len(pixels)}
    camera.update({tag: n for tag, n in lengths.items() if tag in camera})
    if pixels.dtype == np.uint8:
        carried = {"exif": picture.exif.tobytes()} if picture.exif else {}
        image = Image.fromarray(pixels)
        image.save(file, kind, icc_profile=picture.icc, **carried, **SAVING[kind])
    elif kind == "PNG":
        _encode_png_16(file, pixels, picture)
    else:
        _encode_tiff_16(file, pixels, picture)


def _encode_png_16(file: BinaryIO, pixels: np.ndarray, picture: Picture) -> None:
    import cv2

    carried = {}
    if picture.exif:
        tiff = picture.exif.tobytes().removeprefix(b"Exif\0\0")
        carried[cv2.IMAGE_METADATA_EXIF] = np.frombuffer(tiff, np.uint8)
    if picture.icc:
        carried[cv2.IMAGE_METADATA_ICCP] = np.frombuffer(picture.icc, np.uint8)
    if pixels.ndim == 3:
        if pixels.shape[-1] == 2:  # OpenCV has no grey with alpha
            pixels = pixels[..., (0, 0, 0, 1)]
        pixels = pixels[..., (2, 1, 0, 3)[: pixels.shape[-1]]]
    done, data = cv2.imencodeWithMetadata(
        ".png", pixels, list(carried), list(carried.values())
    )
    if not done:
        raise ValueError("OpenCV cannot encode it")
    file.write(data.tobytes())


def _encode_tiff_16(file: BinaryIO, pixels: np.ndarray, picture: Picture) -> None:
    import tifffile

    channels = pixels.shape[-1] if pixels.ndim == 3 else 1
    texts = [
        (int(tag), "s", 0, picture.exif[tag].encode(), True)
        for tag in KEPT_TAGS
        if isinstance(picture.exif.get(tag), str)
    ]
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        iccprofile=picture.icc,
        extratags=texts,
        software=False,
        metadata=None,
    )
