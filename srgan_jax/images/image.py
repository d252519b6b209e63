"""A decoded image: samples, alpha, metadata, and notes on what was lost."""

import dataclasses

import numpy as np


class ImageError(OSError):
    """An image cannot be read or written; the message begins with its name."""


class Refusal(ValueError):
    """The reason why an image is refused; the caller adds the image's name."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """A file's metadata, mostly as uninterpreted bytes.

    Attributes:
      icc: the ICC profile.
      exif: the EXIF block, beginning with its TIFF header.
      xmp: the XMP packet.
      comment: a JPEG's comment.
      dpi: pixels per inch, horizontal and vertical.
      chunks: type and data of PNG's colour and text chunks: gAMA, cHRM, cICP, tEXt...
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()


@dataclasses.dataclass(frozen=True)
class Image:
    """A decoded image.

    Attributes:
      pixels: uint8 or uint16 `[h, w, 3]` RGB or `[h, w]` grey, not premultiplied by
        alpha. The colour space is that of `metadata`, sRGB if it has none.
      alpha: `[h, w]` in the dtype of `pixels`, or None if every pixel is opaque.
      metadata: the file's metadata.
      notes: a note for each piece of metadata that was left out or converted.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()


def split_alpha(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Splits samples `[h, w]` or `[h, w, 1 to 4]` into colour (grey or RGB) and alpha.

    Alpha is None if there is no alpha channel or every pixel is opaque.
    """
    if samples.ndim == 2:
        return samples, None
    channels = samples.shape[-1]
    alpha = samples[..., -1] if channels in (2, 4) else None
    if alpha is not None and alpha.min() == np.iinfo(alpha.dtype).max:
        alpha = None
    return samples[..., 0] if channels < 3 else samples[..., :3], alpha


def to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Rounds uint16 samples to the nearest of 256 levels; returns uint8 unchanged."""
    if samples.dtype == np.uint8:
        return samples
    return ((samples.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)


def check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    """Checks the size of an image before it is decoded.

    Raises:
      Refusal: the image has no pixel, or more than `max_pixels`.
    """
    if width < 1 or height < 1:
        raise Refusal(f"has {width}x{height} pixels; expected at least one")
    if max_pixels is not None and width * height > max_pixels:
        raise Refusal(
            f"has {width}x{height} pixels, more than the {max_pixels} allowed; "
            "raise the limit if you trust the file"
        )
