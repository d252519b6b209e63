"""Reads TIFF with tifffile and imagecodecs, and writes it uncompressed in one strip.

Variants that have not been tested are refused. Files of 4 GB and more are written as
BigTIFF.
"""

import io
import logging
import struct
from typing import BinaryIO

import numpy as np
import tifffile
from PIL.ExifTags import Base

from srgan_jax.images import colour, exif
from srgan_jax.images.exif import LONG, LONG8, SHORT, Entry
from srgan_jax.images.image import Image, Metadata, Refusal, check_pixels, to_8_bits

# Our own error or note reports what is wrong with a file; don't log it twice.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_PHOTOMETRIC = {
    **{0: "grey, white is zero", 1: "grey, black is zero", 2: "RGB", 3: "palette"},
    **{5: "CMYK", 6: "YCbCr"},
}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # colour samples of a pixel
_DEPTHS = {
    **{0: (1, 2, 4, 8, 16), 1: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8)},
    **{5: (8, 16), 6: (8,)},
}
_JPEG = 7
_COMPRESSIONS = {
    **{1: "none", 2: "CCITT RLE", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW"},
    **{_JPEG: "JPEG", 8: "Deflate", 32_946: "Deflate", 32_773: "PackBits"},
    **{34_925: "LZMA", 50_000: "Zstandard"},
}
_MAX_TILE = 2**26  # pixels
_MAX_EXTRA = 8  # channels besides colour
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of alpha among ExtraSamples
_ICC, _XMP, _RESOLUTION = 34_675, 700, (282, 283, 296)
# Tags that describe the scene and the camera; all hold text (type 2).
_KEPT = (
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime),
    *(Base.Artist, Base.HostComputer, Base.Copyright),
)
# Tags of the file's own layout, which a new file sets itself or does not need.
_STRUCTURE = {
    *range(254, 267), *range(273, 282), 284, *range(288, 294), 301, 317, 318, 319, 320,
    *range(321, 326), 330, 338, 339, 340, 341, 347, *range(512, 534), _ICC, _XMP,
    *_RESOLUTION,
}  # fmt: skip


def size(file: BinaryIO) -> tuple[int, int]:
    """Reads width and height of the only page.

    Raises:
      Refusal: the file has no page, or more than one.
    """
    with tifffile.TiffFile(file) as tiff:
        page = _only_page(tiff)
        return page.imagewidth, page.imagelength


def decode(data: bytes, max_pixels: int | None) -> Image:
    """Decodes the only page of a TIFF; `_check` refuses unsupported variants."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = _only_page(tiff)
        check_pixels(page.imagewidth, page.imagelength, max_pixels)
        _check(page, len(data))
        samples = page.asarray(squeeze=False)
        offset = page.offset
    planes, _, height, width, contiguous = samples.shape
    samples = np.moveaxis(samples[:, 0], 0, -2)  # from planes to pixels
    samples = samples.reshape(height, width, planes * contiguous)
    metadata, notes = _metadata(exif.parse(data, offset))
    return _image(page, samples, metadata, notes)


def encode(file: BinaryIO, image: Image, *, big: bool = False, **_: object) -> None:
    """Encodes 8 or 16 bits with alpha, ICC profile, EXIF, XMP and dpi.

    Args:
      file: the file to write to.
      image: the image to encode.
      big: write BigTIFF even if classic TIFF suffices.
    """
    samples = image.pixels
    if image.alpha is not None:
        samples = np.dstack((samples, image.alpha))
    metadata = image.metadata
    tags = exif.Tags("<", [])
    if metadata.exif:
        tags = exif.parse(metadata.exif)
        tags.image[:] = [entry for entry in tags.image if _is_kept(entry)]
    order = tags.order
    big = big or samples.nbytes > 2**32 - 2**24
    tags.image.extend(_structure(samples, order, 16 if big else 8, big))
    resolution = metadata.dpi
    if resolution is None and metadata.exif:
        resolution = exif.dpi(exif.parse(metadata.exif))
    if resolution:
        tags.image.extend(exif.resolution(resolution, order))
    if metadata.icc:
        tags.image.append(Entry(_ICC, 7, len(metadata.icc), metadata.icc))
    if metadata.xmp:
        tags.image.append(Entry(_XMP, 1, len(metadata.xmp), metadata.xmp))
    start = (16 if big else 8) + samples.nbytes + samples.nbytes % 2
    mark = b"II" if order == "<" else b"MM"
    if big:
        file.write(mark + struct.pack(order + "HHHQ", 43, 8, 0, start))
    else:
        file.write(mark + struct.pack(order + "HI", 42, start))
    ordered = np.ascontiguousarray(samples, f"{order}u{samples.dtype.itemsize}")
    file.write(ordered.view(np.uint8).data)
    file.write(bytes(samples.nbytes % 2))
    file.write(exif.directories(tags, start, big))


def lost_tags(data: bytes) -> list[str]:
    """Names of the tags of an EXIF block that `encode` leaves out."""
    tags = exif.parse(data)
    lost = [e.tag for e in tags.image if not (_is_kept(e) or e.tag in _STRUCTURE)]
    mistyped = [
        e.tag for e in tags.image if e.tag in _RESOLUTION and exif.dpi(tags) is None
    ]
    return [exif.name(tag) for tag in lost + mistyped] + tags.damaged


def _is_kept(entry: Entry) -> bool:
    text = entry.value.rstrip(b"\0\n ")
    # Descriptions by tifffile and OME tell the size, which changes.
    of_array = text.startswith(b'{"shape":') or text.endswith(b"OME>")
    return entry.tag in _KEPT and entry.type == 2 and not of_array


def _only_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    """The one page that is neither a reduced copy nor a mask of another page."""
    pages = [page.aspage() for page in tiff.pages]
    whole = [page for page in pages if not (page.is_reduced or page.is_mask)]
    whole = whole or pages[:1]
    if len(whole) != 1:
        count = len(whole)
        raise Refusal(f"has {count} frames or pages; extract one of them first")
    return whole[0]


def _check(page: tifffile.TiffPage, length: int) -> None:
    """Refuses variants of TIFF that have not been tested against another reader.

    Args:
      page: the page; only its tags have been read.
      length: size of the file in bytes.
    """
    photometric = -1 if page.photometric is None else int(page.photometric)
    if photometric not in _PHOTOMETRIC:
        raise Refusal(
            f"is a TIFF of {_described(page.photometric)}; expected grey, palette, "
            "RGB, CMYK or YCbCr"
        )
    if int(page.compression) not in _COMPRESSIONS:
        known = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise Refusal(
            f"is a TIFF compressed by {_described(page.compression)}; expected {known}"
        )
    _check_samples(page, photometric, int(page.compression))
    if int(page.predictor) not in (1, 2):
        raise Refusal(
            f"has the predictor {_described(page.predictor)}; expected none or "
            "horizontal"
        )
    if page.imagedepth != 1:
        raise Refusal("is a volume; extract one plane of it first")
    if page.is_tiled and page.tilewidth * page.tilelength > _MAX_TILE:
        raise Refusal(
            f"has tiles of {page.tilewidth}x{page.tilelength} pixels; expected at most "
            f"{_MAX_TILE} pixels"
        )
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if not count or offset + count > length:
            raise Refusal(
                "is truncated: a part of its samples is missing; get the file again"
            )


def _check_samples(page: tifffile.TiffPage, photometric: int, compression: int) -> None:
    bits, colours = page.bitspersample, _PHOTOMETRIC[photometric]
    if any(kind != 1 for kind in _sample_formats(page)):
        raise Refusal(
            f"has samples of {bits} bits, signed or floating point; expected 8 or 16 "
            "bits, unsigned"
        )
    if bits not in _DEPTHS[photometric]:
        raise Refusal(
            f"has samples of {bits} bits in {colours}; expected one of "
            f"{', '.join(map(str, _DEPTHS[photometric]))}"
        )
    if photometric == 6 and compression != _JPEG:
        raise Refusal("is YCbCr that is not compressed by JPEG; convert it to RGB")
    if compression == _JPEG and (bits != 8 or photometric == 3):
        raise Refusal(
            "is compressed by JPEG with other than 8 bits of grey or RGB; save it "
            "without compression"
        )
    if compression in (2, 3, 4) and bits != 1:
        raise Refusal(
            f"is compressed for fax with samples of {bits} bits; expected 1 bit"
        )
    extra = page.samplesperpixel - _COLOURS[photometric]
    if extra != len(page.extrasamples) or extra > _MAX_EXTRA:
        raise Refusal(
            f"has {page.samplesperpixel} samples per pixel for {colours}, of which "
            f"{len(page.extrasamples)} are extra; expected at most {_MAX_EXTRA}"
        )


def _described(value: object) -> str:
    name = getattr(value, "name", None)
    return name.replace("_", " ").lower() if name else f"kind {value}"


def _sample_formats(page: tifffile.TiffPage) -> tuple[int, ...]:
    tag = page.tags.get(339)
    value = tag.value if tag else 1
    return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)


def _image(
    page: tifffile.TiffPage,
    samples: np.ndarray,
    metadata: Metadata,
    notes: list[str],
) -> Image:
    photometric, bits = int(page.photometric), page.bitspersample
    count = _COLOURS[photometric]
    if photometric == 3:
        colours = _palette(page)[samples[..., 0].astype(np.intp)]
        samples = samples.astype(np.uint8)
    else:
        if bits < 8:
            samples = samples.astype(np.uint8) * (255 // (2**bits - 1))
        colours = samples[..., :count]
    alpha, kinds = None, [int(kind) for kind in page.extrasamples]
    for kind in (_UNASSOCIATED, _ASSOCIATED):
        if alpha is None and kind in kinds:
            alpha = samples[..., count + kinds.index(kind)]
            if kind == _ASSOCIATED:
                colours = _unpremultiply(colours, alpha)
    if len(kinds) > (alpha is not None):
        notes.append("channels that are neither colour nor alpha are left out")
    if photometric == 0:
        colours = np.iinfo(colours.dtype).max - colours
    if photometric == 5:
        colours, note = colour.from_cmyk(to_8_bits(colours), metadata.icc)
        alpha = None if alpha is None else to_8_bits(alpha)
        notes += [note] if note else []
        metadata = Metadata(None, metadata.exif, metadata.xmp, dpi=metadata.dpi)
    if colours.shape[-1] == 1:
        colours = colours[..., 0]
    if alpha is not None and alpha.min() == np.iinfo(alpha.dtype).max:
        alpha = None
    return Image(colours, alpha, metadata, tuple(notes))


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """The colours of a palette, uint8 `[colours, 3]`."""
    table = np.asarray(page.colormap, np.uint16).T
    if not (table % 256).any():  # Pillow writes 256 times the level, not 257
        return (table // 256).astype(np.uint8)
    return to_8_bits(table)


def _unpremultiply(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Divides colours that were premultiplied by alpha."""
    top = np.iinfo(colours.dtype).max
    share = np.maximum(alpha, 1)[..., None].astype(np.uint64)
    whole = (colours.astype(np.uint64) * top + share // 2) // share
    return np.minimum(whole, top).astype(colours.dtype)


def _metadata(tags: exif.Tags) -> tuple[Metadata, list[str]]:
    icc, xmp = tags.get(_ICC), tags.get(_XMP)
    kept = [e for e in tags.image if _is_kept(e) or e.tag == Base.Orientation]
    kept += [e for e in tags.image if e.tag in _RESOLUTION and exif.dpi(tags)]
    known = {*_STRUCTURE, *(entry.tag for entry in kept)}
    lost = [exif.name(e.tag) for e in tags.image if e.tag not in known] + tags.damaged
    notes = [f"left out tags: {', '.join(lost)}"] if lost else []
    block = None
    if kept or tags.camera or tags.gps:
        block = exif.build(exif.Tags(tags.order, kept, tags.camera, tags.gps))
    metadata = Metadata(
        icc=icc.value if icc else None,
        exif=block,
        xmp=xmp.value if xmp else None,
        dpi=exif.dpi(tags),
    )
    return metadata, notes


def _structure(samples: np.ndarray, order: str, offset: int, big: bool) -> list[Entry]:
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    bits = 8 * samples.dtype.itemsize

    def short(tag: int, *values: int) -> Entry:
        packed = struct.pack(f"{order}{len(values)}H", *values)
        return Entry(tag, SHORT, len(values), packed)

    def long(tag: int, value: int) -> Entry:
        packed = struct.pack(order + ("Q" if big else "I"), value)
        return Entry(tag, LONG8 if big else LONG, 1, packed)

    alpha = [short(338, _UNASSOCIATED)] if channels in (2, 4) else []
    return [
        *(long(256, width), long(257, height), short(258, *[bits] * channels)),
        *(short(259, 1), short(262, 2 if channels > 2 else 1), long(273, offset)),
        *(short(277, channels), long(278, height), long(279, samples.nbytes)),
        *(short(284, 1), *alpha),
    ]
