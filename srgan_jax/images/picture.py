"""Pictures as people have them: 8 or 16 bits, grey, palette, alpha, EXIF, ICC profile.

JPEG, PNG, WebP, TIFF and BMP. Refused, each in a sentence that names the file: damaged
and empty files, content that its name belies, animations and several pages, more pixels
than allowed, CMYK without a profile, samples of other than 8 or 16 bits.
"""

import contextlib
import dataclasses
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile
from scipy import ndimage

from srgan_jax.images.decode import describe_error

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
MAX_PIXELS = 2**26  # of an input, 67 million: at x4 its picture takes 3 GB
# The tags that tell of the scene and the camera. The others are about the file.
KEPT_TAGS = (
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime),
    *(Base.Artist, Base.HostComputer, Base.Copyright),
    *(Base.XResolution, Base.YResolution, Base.ResolutionUnit),
)
KEPT_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture and what travels with it.

    Attributes:
      pixels: uint8 or uint16 `[h, w, 3]` RGB or `[h, w]` grey; not multiplied by alpha.
      alpha: of the same type `[h, w]`, or None if all is opaque.
      exif: without the orientation, which has been applied.
      icc: the colour profile, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: Image.Exif = dataclasses.field(default_factory=Image.Exif)
    icc: bytes | None = None


def read(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture.

    Raises:
      ImageError: see the module's first lines; the message begins with the name.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if not data:
            raise ValueError("the file is empty")
        with _undisturbed(), Image.open(io.BytesIO(data)) as image:
            _check_header(image, path, max_pixels)
            return _decode(image, data)
    except Exception as error:  # Pillow's plugins raise what they like
        raise describe_error(str(path), error) from error


def upscale(picture: Picture, upscaler: Callable[[np.ndarray], np.ndarray]) -> Picture:
    """Upscales colour by the upscaler and alpha by bicubic.

    Whatever colour hides where alpha is zero would show at the edges: there the nearest
    colour that is seen takes its place first.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return dataclasses.replace(picture, pixels=upscaler(pixels))
    if alpha.any():
        rows, columns = ndimage.distance_transform_edt(
            alpha == 0, return_distances=False, return_indices=True
        )
        pixels = pixels[rows, columns]
    pixels = upscaler(pixels)
    plane = Image.fromarray(alpha.astype(np.float32))
    plane = plane.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
    levels = np.clip(np.asarray(plane) + 0.5, 0, np.iinfo(alpha.dtype).max)
    return dataclasses.replace(picture, pixels=pixels, alpha=levels.astype(alpha.dtype))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Lifts Pillow's limit on pixels, ours being told, and its warnings of odd tags."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_header(image: Image.Image, path: Path, max_pixels: int) -> None:
    kind = "JPEG" if image.format == "MPO" else image.format
    if kind not in FORMATS.values():
        known = ", ".join(dict.fromkeys(FORMATS.values()))
        raise ValueError(f"is {kind}; expected one of {known}")
    if FORMATS.get(path.suffix.lower(), kind) != kind:
        raise ValueError(f"is {kind} in spite of its name; rename it")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph and its previews
        raise ValueError(f"has {frames} frames or pages; extract one of them first")
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"has {image.width}x{image.height} pixels, more than the {max_pixels} "
            "allowed; raise the limit if you trust it"
        )


def _decode(image: Image.Image, data: bytes) -> Picture:
    tags = image.getexif()
    bits = _bits(image, data)
    image.load()  # finds damage, which OpenCV passes over
    icc = image.info.get("icc_profile")
    if image.mode == "CMYK":
        pixels, alpha = np.asarray(_to_srgb(image, icc)), None
        icc = None
    elif bits == 16:
        pixels, alpha = _samples_of_16_bits(image, data)
    else:
        pixels, alpha = _samples_of_8_bits(image)
    if alpha is not None and alpha.min() == np.iinfo(alpha.dtype).max:
        alpha = None
    if image.format != "TIFF":  # whose decoders do it
        orientation = tags.get(Base.Orientation, 1)
        pixels = _turn(pixels, orientation)
        alpha = None if alpha is None else _turn(alpha, orientation)
    return Picture(pixels, alpha, _kept(tags), icc)


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits of a sample, which Pillow does not tell: it reads colour as 8 bits."""
    if image.format == "PNG":
        return data[24]  # of the header chunk
    if isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(Base.BitsPerSample, (1,)))
        if bits not in (1, 2, 4, 8, 16):
            raise ValueError(f"has samples of {bits} bits; expected 8 or 16")
        if bits == 16 and 1 in image.tag_v2.get(Base.ExtraSamples, ()):
            raise ValueError("has 16 bits multiplied by alpha; save it unassociated")
        return bits
    return 8


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc is None:
        raise ValueError("is CMYK without a colour profile; convert it to RGB first")
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    assert converted is not None  # as it was not asked to work in place
    return converted


def _samples_of_16_bits(
    image: Image.Image, data: bytes
) -> tuple[np.ndarray, np.ndarray | None]:
    import cv2  # only for such pictures

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.shape[1::-1] != image.size or values.dtype != np.uint16:
        raise ValueError("its 16 bits cannot be decoded")
    if values.ndim == 2:
        clear = image.info.get("transparency")
        if clear is None:
            return values, None
        return values, np.where(values == clear, 0, 65_535).astype(np.uint16)
    grey = image.format == "PNG" and data[25] == 4  # header: colour type grey, alpha
    pixels = values[..., 0] if grey else values[..., 2::-1]
    return pixels, values[..., 3] if values.shape[-1] == 4 else None


def _samples_of_8_bits(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if image.mode in ("I", "F", "LAB", "HSV") or image.mode.startswith("I;"):
        raise ValueError(f"has samples of kind {image.mode}; expected grey or RGB")
    grey = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return np.asarray(image.convert(grey)), None
    values = np.asarray(image.convert(grey + "A"))
    return values[..., 0] if grey == "L" else values[..., :3], values[..., -1]


def _turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """The picture upright (EXIF 2.3, tag 274); an unknown orientation is upright."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _kept(tags: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in KEPT_TAGS:
        if tag in tags:
            kept[tag] = tags[tag]
    for directory in KEPT_DIRECTORIES:
        if entries := dict(tags.get_ifd(directory)):
            entries.pop(ExifTags.IFD.Interop, None)  # an offset into the old file
            kept[directory] = entries
    kept.tobytes()  # tags that cannot be written shall be known now
    return kept
