"""TIFF: every supported variant, compared with another reader or the written array."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import encoded, exif, pixels
from PIL import ExifTags, Image

from srgan_jax.images import decode, encode, tiff
from srgan_jax.images.image import Image as Decoded
from srgan_jax.images.image import ImageError, Metadata, to_8_bits

SETTINGS = [
    (photometric, bits, planar, extra, compression, layout)
    for photometric, bits, planar, extra, (compression, layout) in itertools.product(
        ("minisblack", "miniswhite", "rgb"),
        (8, 16),
        ("contig", "separate"),
        ((), ("unassalpha",), ("unspecified",), ("unspecified", "unassalpha")),
        (
            *((None, {}), (None, {"byteorder": ">"}), (None, {"tile": (16, 16)})),
            *(("lzw", {"rowsperstrip": 5}), ("deflate", {"tile": (16, 16)})),
            *(("packbits", {}), ("zstd", {}), ("lzma", {})),
        ),
    )
    if not (planar == "separate" and photometric != "rgb" and not extra)
]


@pytest.mark.parametrize(
    ("photometric", "bits", "planar", "extra", "compression", "layout"), SETTINGS
)
def test_grey_and_rgb_equal_the_array_that_was_written(
    photometric: str,
    bits: int,
    planar: str,
    extra: tuple[str, ...],
    compression: str | None,
    layout: dict,
) -> None:
    colours = 3 if photometric == "rgb" else 1
    dtype = np.uint8 if bits == 8 else np.uint16
    samples = pixels(20, 33, colours + len(extra), dtype=dtype)
    stored = samples.squeeze()
    if planar == "separate":
        stored = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
    predictor = {"predictor": True} if compression in ("lzw", "deflate") else {}
    image = read(
        stored,
        photometric=photometric,
        planarconfig=planar if samples.shape[-1] > 1 else None,
        extrasamples=list(extra) or None,
        compression=compression,
        **predictor,
        **layout,
    )
    expected = samples[..., :colours].squeeze()
    if photometric == "miniswhite":
        expected = np.iinfo(dtype).max - expected
    assert image.pixels.dtype == dtype
    assert np.array_equal(image.pixels, expected)
    if "unassalpha" in extra:
        assert np.array_equal(image.alpha, samples[..., -1])
    else:
        assert image.alpha is None
    assert bool(image.notes) == ("unspecified" in extra)


def read(array: np.ndarray, **options: object) -> Decoded:
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return decode.decode_image(file.getvalue(), "a.tif")


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *itertools.product(
            ("L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA"),
            ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"),
        ),
        *itertools.product(("L", "RGB", "CMYK", "YCbCr"), ("jpeg",)),
        *itertools.product(("1",), ("raw", "group3", "group4", "tiff_ccitt")),
    ],
)
def test_files_written_by_pillow_are_read_as_pillow_reads_them(
    mode: str, compression: str
) -> None:
    smooth = Image.fromarray(pixels(4, 5, 3)).resize((37, 20))
    source = smooth.convert(mode if mode not in ("RGBA", "LA") else mode[:-1])
    if mode in ("RGBA", "LA"):
        source.putalpha(smooth.convert("L"))
    data = encoded(source, "TIFF", compression=compression)
    if mode == "YCbCr" and compression != "jpeg":
        with pytest.raises(ImageError, match="YCbCr that is not compressed by JPEG"):
            decode.decode_image(data, "a.tif")
        return
    image = decode.decode_image(data, "a.tif")
    with Image.open(io.BytesIO(data)) as saved:
        grey = mode in ("1", "L", "LA")
        expected = np.asarray(saved.convert("L" if grey else "RGB")).astype(int)
    tolerance = 1 if mode == "CMYK" else 3 if compression == "jpeg" else 0
    assert np.abs(image.pixels - expected).max() <= tolerance
    assert (image.alpha is not None) == (mode in ("RGBA", "LA"))
    if image.alpha is not None:
        assert np.array_equal(image.alpha, np.asarray(source.getchannel("A")))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "palette"])
def test_samples_of_fewer_than_8_bits_are_expanded(bits: int, photometric: str) -> None:
    values = pixels(9, 16) >> (8 - bits)
    options = {}
    table = pixels(3, 2**bits).astype(np.uint16) * 257
    if photometric == "palette":
        options["colormap"] = table
    image = read_packed(values, bits, photometric, **options)
    scaled = values * (255 // (2**bits - 1))
    if photometric == "palette":
        scaled = to_8_bits(table).T[values]
    if photometric == "miniswhite":
        scaled = 255 - scaled
    assert np.array_equal(image.pixels, scaled)


def read_packed(
    values: np.ndarray, bits: int, photometric: str, colormap: np.ndarray | None = None
) -> Decoded:
    """Writes and reads packed samples, which tifffile does not write."""
    unpacked = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
    packed = np.packbits(unpacked.reshape(len(values), -1), axis=-1)
    code = {"miniswhite": 0, "minisblack": 1, "palette": 3}[photometric]
    order = "<"
    structure = tiff._structure(packed, order, 8, False)
    changed = {256: values.shape[1], 258: bits, 262: code}
    entries = [
        tiff.Entry(
            e.tag, e.type, e.count, changed[e.tag].to_bytes(len(e.value), "little")
        )
        if e.tag in changed
        else e
        for e in structure
    ]
    if colormap is not None:
        table = colormap.astype("<u2").tobytes()
        entries.append(tiff.Entry(320, tiff.SHORT, colormap.size, table))
    start = 8 + packed.nbytes + packed.nbytes % 2
    data = b"II*\0" + start.to_bytes(4, "little") + packed.tobytes()
    data += bytes(packed.nbytes % 2)
    data += tiff.exif.directories(tiff.exif.Tags(order, entries), start)
    with Image.open(io.BytesIO(data)) as saved:  # the test file itself is valid
        mode = "RGB" if photometric == "palette" else "L"
        by_pillow = np.asarray(saved.convert(mode))
    image = decode.decode_image(data, "a.tif")
    assert np.array_equal(image.pixels, by_pillow)
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_colours_are_divided_by_alpha(dtype: type) -> None:
    alpha = pixels(6, 7, dtype=dtype)
    alpha[0] = 0
    colours = pixels(6, 7, 3, dtype=dtype)
    top = np.iinfo(dtype).max
    stored = np.round(colours.astype(float) * alpha[..., None] / top).astype(dtype)
    image = read(
        np.dstack((stored, alpha)), photometric="rgb", extrasamples=["assocalpha"]
    )
    again = np.round(image.pixels.astype(float) * alpha[..., None] / top)
    visible = alpha > 0
    assert np.array_equal(again[visible], stored[visible])
    assert np.array_equal(image.alpha, alpha)


def test_16_bit_cmyk_is_rounded_and_converted() -> None:
    inks = pixels(6, 7, 4, dtype=np.uint16)
    image = read(inks, photometric="separated")
    small = read(to_8_bits(inks), photometric="separated")
    assert np.array_equal(image.pixels, small.pixels)


def test_thumbnail_and_mask_pages_are_ignored(tmp_path: Path) -> None:
    large, small = pixels(16, 16, 3), pixels(4, 4, 3)
    mask = large[..., 0] > 127
    for order in (
        *([(large, 0), (small, 1)], [(small, 1), (large, 0)]),
        [(large, 0), (mask, 4)],
    ):
        with tifffile.TiffWriter(tmp_path / "a.tif") as out:
            for page, kind in order:
                photometric = "minisblack" if page is mask else "rgb"
                out.write(page, photometric=photometric, subfiletype=kind)
        assert np.array_equal(decode.read(tmp_path / "a.tif").pixels, large)


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (pixels(4, 4, 3), {"photometric": "cielab"}, "TIFF of cielab"),
        (pixels(4, 4), {"photometric": "cfa"}, "TIFF of cfa"),
        (pixels(4, 4, 3), {"photometric": "ycbcr"}, "YCbCr"),
        (pixels(4, 4), {"compression": "webp"}, "compressed by webp"),
        (pixels(4, 4, 3), {"compression": "jpegxl"}, "compressed by jpegxl"),
        (pixels(16, 16, 16), {"volumetric": True, "tile": (16, 16, 16)}, "a volume"),
        (np.ones((4, 4), np.float16), {}, "16 bits, signed or floating"),
    ],
)  # fmt: skip
def test_unsupported_variants_are_refused_by_name(
    array: np.ndarray, options: dict, reason: str
) -> None:
    if options.get("compression") == "webp":
        array = pixels(16, 16, 3)
    with pytest.raises(ImageError, match=rf"a.tif: .*{reason}"):
        read(array, **options)


def test_missing_strips_are_refused() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels(64, 64), rowsperstrip=8, metadata=None)
    data = file.getvalue()
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as saved:
        tag = saved.pages[0].tags[279]
        start = tag.valueoffset
    sparse = data[:start] + bytes(4) + data[start + 4 :]
    with pytest.raises(ImageError, match="a part of its samples is missing"):
        decode.decode_image(sparse, "a.tif")


def test_a_truncated_strip_is_refused() -> None:
    """JPEG is the compression whose decoder fills in what is missing."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels(64, 64, 3), compression="jpeg", photometric="rgb")
    with pytest.raises(ImageError, match="a part of its samples is missing"):
        decode.decode_image(file.getvalue()[:-900], "a.tif")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_files_written_here_are_read_by_others(
    big: bool, dtype: type, channels: int, order: str
) -> None:
    samples = pixels(5, 7, channels, dtype=dtype)
    alpha = samples[..., -1] if channels in (2, 4) else None
    colours = samples[..., : channels - (alpha is not None)].squeeze()
    tags = exif()
    tags.endian = order
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    image = Decoded(colours, alpha, Metadata(b"icc", block, b"<xmp/>", dpi=(300, 72)))
    file = io.BytesIO()
    tiff.encode(file, image, big=big)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as saved:
        assert saved.is_bigtiff == big
        page = saved.pages[0]
        assert np.array_equal(page.asarray(), samples.squeeze())
        assert page.tags["Make"].value == "Maker"
        assert page.tags["ExifTag"].value["ExposureTime"] == (1, 100)
        assert page.tags["GPSTag"].value["GPSLatitudeRef"] == "N"
        assert page.iccprofile == b"icc"
        assert page.tags["XMP"].value == b"<xmp/>"
        assert page.get_resolution("inch") == (300, 72)
    again = decode.decode_image(file.getvalue(), "a.tif")
    assert np.array_equal(again.pixels, colours)
    assert again.metadata.dpi == (300, 72)
    if not big and (dtype, channels) != (np.uint16, 2):
        with Image.open(io.BytesIO(file.getvalue())) as saved_:
            camera = saved_.getexif().get_ifd(ExifTags.IFD.Exif)
            assert camera[ExifTags.Base.ExposureTime] == (1.0, 100.0)


def test_lost_tags_are_named(tmp_path: Path) -> None:
    extra = [(33_550, "d", 3, (1.0, 1.0, 0.0), True), (315, "s", 0, "Me", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels(4, 4), extratags=extra, metadata=None)
    image = decode.read(tmp_path / "a.tif")
    assert image.notes == ("left out tags: 0x830e",)
    encode.write(tmp_path / "b.tif", image)
    with tifffile.TiffFile(tmp_path / "b.tif") as saved:
        assert saved.pages[0].tags["Artist"].value == "Me"


@pytest.mark.parametrize("ome", [False, True])
def test_descriptions_of_the_array_are_left_out(ome: bool) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels(8, 9, 3), photometric="rgb", ome=ome)
    image = tiff.decode(file.getvalue(), None)
    assert image.notes == ("left out tags: ImageDescription",)
    assert image.metadata.exif is None or b"shape" not in image.metadata.exif
