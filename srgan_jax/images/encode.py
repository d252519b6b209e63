"""Writes images atomically.

Formats that cannot be written and samples that a format cannot hold are refused.
Metadata that a format cannot hold is converted or left out, and a note says so.
"""

import dataclasses
import io
from pathlib import Path
from typing import NamedTuple

from srgan_jax.images import colour, exif, pillow_codecs, png, tiff
from srgan_jax.images.formats import BY_SUFFIX, FORMATS, Format
from srgan_jax.images.image import Image, ImageError, Metadata, to_8_bits
from srgan_jax.paths import replacing

_NAMES = {"exif": "EXIF", "xmp": "XMP", "comment": "the comment"}


class Settings(NamedTuple):
    """How an image is encoded.

    Attributes:
      quality: 1 to 100 for JPEG, WebP and AVIF; None for the format's default.
      lossless: True to keep every sample exactly.
    """

    quality: int | None = None
    lossless: bool = False


DEFAULT = Settings()


def format_of(path: Path) -> str:
    """The name of the format that belongs to a file's suffix.

    Raises:
      ImageError: no format that can be written has this suffix.
    """
    kind = BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        expected = ", ".join(BY_SUFFIX)
        raise ImageError(f"{path}: the suffix names no format; expected {expected}")
    return kind


def check_output(
    label: str, kind: str, size: tuple[int, int], alpha: bool, settings: Settings
) -> None:
    """Checks, before an image is computed, that `write` will accept it.

    Args:
      label: name of the output.
      kind: format of the output.
      size: height and width of the output.
      alpha: whether the output has transparency.
      settings: how the output will be encoded.

    Raises:
      ImageError: the format has no alpha, cannot hold sides of that length, or is not
        lossless although `settings` asks for it.
    """
    form = FORMATS[kind]
    if alpha and not form.alpha:
        raise ImageError(
            f"{label}: {kind} holds no transparency; choose png, webp, avif or tiff"
        )
    if max(size) > form.longest_side:
        raise ImageError(
            f"{label}: {kind} holds sides of {form.longest_side} pixels at most, "
            f"not {max(size)}; choose png or tiff"
        )
    if settings.lossless and not form.lossless:
        raise ImageError(f"{label}: {kind} is never lossless; choose png, webp or tiff")


def write(path: Path, image: Image, settings: Settings = DEFAULT) -> list[str]:
    """Writes an image atomically, in the format of the file's suffix.

    PNG and TIFF keep 16 bits; for other formats they are rounded to 8.

    Returns:
      A note for each piece of metadata that was converted or left out.

    Raises:
      ImageError: the format cannot hold the image, or the file cannot be written.
    """
    kind = format_of(path)
    has_alpha = image.alpha is not None
    check_output(str(path), kind, image.pixels.shape[:2], has_alpha, settings)
    image, notes = fit(image, kind)
    try:
        with (
            replacing(path) as unfinished,
            io.BufferedWriter(_WithoutFileno(unfinished, "wb")) as file,
        ):
            FORMATS[kind].encode(file, image, **settings._asdict())
    except Exception as error:  # encoders raise exceptions of any type
        raise _describe_error(str(path), error) from error
    return notes


def encode(
    image: Image, kind: str, label: str, settings: Settings
) -> tuple[bytes, list[str]]:
    """Encodes an image as the bytes of a file; also returns the notes of `write`.

    Raises:
      ImageError: the format cannot hold the image.
    """
    has_alpha = image.alpha is not None
    check_output(label, kind, image.pixels.shape[:2], has_alpha, settings)
    image, notes = fit(image, kind)
    file = io.BytesIO()
    try:
        FORMATS[kind].encode(file, image, **settings._asdict())
    except Exception as error:  # encoders raise exceptions of any type
        raise _describe_error(label, error) from error
    return file.getvalue(), notes


def _describe_error(label: str, error: Exception) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError(f"{label}: there is not enough memory to encode it")
    reason = getattr(error, "strerror", None) or "its encoder failed"
    return ImageError(f"{label}: {reason}")


class _WithoutFileno(io.FileIO):
    """A file that Pillow must write with `write`.

    Given a file descriptor, Pillow writes to it directly and ignores short writes.
    """

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def fit(image: Image, kind: str) -> tuple[Image, list[str]]:
    """Converts an image to what a format can hold; notes say what was changed."""
    form = FORMATS[kind]
    notes: list[str] = []
    if not form.deep:
        alpha = None if image.alpha is None else to_8_bits(image.alpha)
        image = dataclasses.replace(image, pixels=to_8_bits(image.pixels), alpha=alpha)
    image = _convert_colours(image, form, kind, notes)
    metadata = image.metadata
    if metadata.exif:
        height, width = image.pixels.shape[:2]
        block = exif.resized(metadata.exif, width, height)
        metadata = dataclasses.replace(metadata, exif=block)
    unusual = metadata.dpi and not all(1 <= value < 2**16 for value in metadata.dpi)
    if unusual and kind in ("JPEG", "BMP"):
        metadata = dataclasses.replace(metadata, dpi=None)
        notes.append(f"left out, as {kind} holds 1 to 65535 dpi: the resolution")
    if metadata.dpi and "dpi" not in form.holds and not metadata.exif:
        block = exif.build(exif.Tags("<", exif.resolution(metadata.dpi, "<")))
        metadata = dataclasses.replace(metadata, exif=block)
    if kind == "JPEG":
        metadata = _fit_jpeg_segments(metadata, notes)
    if kind == "TIFF" and metadata.exif and (tags := tiff.lost_tags(metadata.exif)):
        notes.append(f"tags are left out: {', '.join(tags)}")
    lost = {field for field in ("exif", "xmp", "comment") if getattr(metadata, field)}
    names = [_NAMES[field] for field in sorted(lost - form.holds)]
    if "chunks" not in form.holds:
        names += [_keyword(c) for c in metadata.chunks if c[0] in png.TEXT_CHUNKS]
    if names:
        notes.append(f"left out, as {kind} cannot hold it: {', '.join(names)}")
    return dataclasses.replace(image, metadata=metadata), notes


def _keyword(chunk: tuple[bytes, bytes]) -> str:
    keyword, _, _ = chunk[1].partition(b"\0")
    return f"the text {keyword.decode('latin-1')!r}"


def _convert_colours(image: Image, form: Format, kind: str, notes: list[str]) -> Image:
    """Converts to sRGB if the format cannot store the image's colour space."""
    metadata = image.metadata
    icc, chunks = metadata.icc, dict(metadata.chunks)
    grey_profile = icc is not None and icc[16:20] == b"GRAY"
    try:
        if icc and ("icc" not in form.holds or (grey_profile and not form.grey)):
            metadata = dataclasses.replace(metadata, icc=None)
            pixels = colour.from_icc(image.pixels, icc)
        elif chunks and not icc and "chunks" not in form.holds:
            pixels = colour.from_chunks(image.pixels, chunks)
        else:
            return image
    except ValueError as error:
        notes.append(f"{error}, and is left out: colours may look different")
        pixels = image.pixels
    return dataclasses.replace(image, pixels=pixels, metadata=metadata)


def _fit_jpeg_segments(metadata: Metadata, notes: list[str]) -> Metadata:
    """Drops the metadata that does not fit into a JPEG's segments of 64 kB."""
    names: list[str] = []
    if metadata.exif and len(metadata.exif) > pillow_codecs.JPEG_MAX_EXIF:
        block, names = exif.shrunk(metadata.exif, pillow_codecs.JPEG_MAX_EXIF)
        metadata = dataclasses.replace(metadata, exif=block)
    if metadata.xmp and len(metadata.xmp) > pillow_codecs.JPEG_MAX_XMP:
        names.append("XMP")
        metadata = dataclasses.replace(metadata, xmp=None)
    if metadata.comment and len(metadata.comment) > pillow_codecs.JPEG_MAX_COMMENT:
        names.append("the comment")
        metadata = dataclasses.replace(metadata, comment=None)
    if names:
        notes.append(
            f"left out, as a JPEG holds 64 kB of each kind: {', '.join(names)}"
        )
    return metadata
