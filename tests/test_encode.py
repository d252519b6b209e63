"""Writing images: what each format keeps, converts and refuses."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import chunk, exif, pixels, png
from PIL import ExifTags, Image, ImageCms

from srgan_jax.images import decode, encode
from srgan_jax.images.encode import Settings
from srgan_jax.images.formats import BY_SUFFIX, FORMATS
from srgan_jax.images.image import Image as Decoded
from srgan_jax.images.image import ImageError, Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = exif().tobytes().removeprefix(b"Exif\0\0")


def test_16_bits_are_rounded_for_formats_of_8(tmp_path: Path) -> None:
    samples = np.array([[0, 128, 129, 32_768, 65_535]], np.uint16)
    encode.write(tmp_path / "a.bmp", Decoded(samples))
    assert decode.read(tmp_path / "a.bmp").pixels.tolist() == [[0, 0, 1, 128, 255]]


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_every_format_keeps_the_samples_or_comes_close(
    tmp_path: Path, suffix: str
) -> None:
    y, x = np.mgrid[:24, :32]
    smooth = np.stack([7 * x, 9 * y, 3 * (x + y)], axis=-1).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    encode.write(path, Decoded(smooth))
    difference = np.abs(decode.read(path).pixels.astype(int) - smooth)
    assert difference.max() <= (0 if not FORMATS[BY_SUFFIX[suffix]].lossy else 14)


def test_quality_and_lossless_are_applied(tmp_path: Path) -> None:
    image = Decoded(pixels(32, 32, 3))
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (20, 90):
            encode.write(tmp_path / f"a{suffix}", image, Settings(quality))
            sizes.append((tmp_path / f"a{suffix}").stat().st_size)
        assert sizes[0] < sizes[1]
    encode.write(tmp_path / "a.webp", image, Settings(lossless=True))
    assert np.array_equal(decode.read(tmp_path / "a.webp").pixels, image.pixels)
    clear = Decoded(image.pixels, np.zeros((32, 32), np.uint8))
    encode.write(tmp_path / "clear.webp", clear, Settings(lossless=True))
    assert np.array_equal(decode.read(tmp_path / "clear.webp").pixels, image.pixels)
    for suffix in (".jpg", ".avif"):
        with pytest.raises(ImageError, match="is never lossless; choose png"):
            encode.write(tmp_path / f"b{suffix}", image, Settings(lossless=True))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_and_profile_are_copied(tmp_path: Path, suffix: str, dtype: type) -> None:
    source = tmp_path / "source.jpg"
    Image.fromarray(pixels(8, 7, 3)).save(source, exif=exif(3), icc_profile=SRGB)
    metadata = decode.read(source).metadata
    image = Decoded(pixels(16, 14, 3, dtype=dtype), metadata=metadata)
    assert encode.write(tmp_path / f"a{suffix}", image) == []
    with Image.open(tmp_path / f"a{suffix}") as saved:
        assert saved.info["icc_profile"] == SRGB
        tags = saved.getexif()
        assert ExifTags.Base.Orientation not in tags
        assert tags[ExifTags.Base.Make] == "Maker"
        camera = tags.get_ifd(ExifTags.IFD.Exif)
        assert camera[ExifTags.Base.ExposureTime] == (1.0, 100.0)
        assert camera[ExifTags.Base.ExifImageWidth] == 14
        assert tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    again = decode.read(tmp_path / f"a{suffix}")
    assert again.metadata.icc == SRGB
    assert b"Maker" in again.metadata.exif


def test_text_colour_and_dpi_of_a_png_are_copied(tmp_path: Path) -> None:
    chunks = {
        b"cICP": b"\x0c\x0d\0\x01",
        b"gAMA": struct.pack(">I", 100_000),
        b"cHRM": struct.pack(">8I", *range(31_000, 39_000, 1000)),
        b"pHYs": struct.pack(">IIB", 11_811, 11_811, 1),
        b"tEXt": b"Author\0\xa9 latin-1",
        b"zTXt": b"Long\0\0" + zlib.compress(b"a" * 1_500_000),
        b"iTXt": b"x\0\1\0\0\0" + zlib.compress("日本".encode()),
    }
    joined = b"".join(chunk(kind, data) for kind, data in chunks.items())
    (tmp_path / "a.png").write_bytes(png([bytes(24)] * 8, 8, 8, 2, joined))
    assert encode.write(tmp_path / "b.png", decode.read(tmp_path / "a.png")) == []
    data = (tmp_path / "b.png").read_bytes()
    for kind, body in chunks.items():
        assert chunk(kind, body) in data
    assert data.index(b"gAMA") < data.index(b"IDAT")
    notes = encode.write(tmp_path / "c.jpg", decode.read(tmp_path / "a.png"))
    (note,) = notes
    assert note.startswith("left out, as JPEG cannot hold it: the text 'Author', ")


def test_xmp_comments_and_dpi_are_copied(tmp_path: Path) -> None:
    xmp = b"<x:xmpmeta>\xe2\x82\xac</x:xmpmeta>"
    Image.fromarray(pixels(8, 8, 3)).save(
        tmp_path / "a.jpg", xmp=xmp, comment=b"caf\xe9", dpi=(300, 150)
    )
    image = decode.read(tmp_path / "a.jpg")
    assert image.metadata == Metadata(None, None, xmp, b"caf\xe9", (300, 150))
    for name in ("b.jpg", "b.png", "b.webp", "b.avif", "b.tif"):
        notes = encode.write(tmp_path / name, image)
        assert ("comment" in str(notes)) == (name in ("b.webp", "b.avif", "b.tif"))
        again = decode.read(tmp_path / name).metadata
        assert again.xmp == xmp
        with Image.open(tmp_path / name) as saved:
            tags = saved.getexif()
            if name in ("b.webp", "b.avif"):
                assert tags[ExifTags.Base.XResolution] == 300
                assert tags[ExifTags.Base.YResolution] == 150
            else:
                assert np.allclose(saved.info["dpi"], (300, 150), atol=0.02)
    notes = encode.write(tmp_path / "b.bmp", image)
    assert notes == ["left out, as BMP cannot hold it: the comment, XMP"]
    with Image.open(tmp_path / "b.bmp") as saved:
        assert np.allclose(saved.info["dpi"], (300, 150), atol=0.1)


def test_grey_of_a_profile_becomes_srgb_in_webp(tmp_path: Path) -> None:
    """WebP holds RGB alone, to which a profile of grey does not belong."""
    linear = b"curv" + struct.pack(">4xIHxx", 1, 256)  # the power 1
    white = b"XYZ " + struct.pack(">4x3I", 63_190, 65_536, 54_061)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 14)
    header = struct.pack(">4xI4s4s4s12x4s28x3I48x", 0x2400000, *(b"mntr", b"GRAY"),
                         b"XYZ ", b"acsp", 63_190, 65_536, 54_061)  # fmt: skip
    profile = struct.pack(">I", 192) + header + tags + white + linear
    levels = np.arange(256, dtype=np.uint8).reshape(64, 4)
    image = Decoded(levels, None, Metadata(icc=profile))
    encode.write(tmp_path / "a.webp", image, Settings(lossless=True))
    saved = decode.read(tmp_path / "a.webp")
    assert saved.metadata.icc is None
    expected = 255 * (1.055 * (np.arange(256) / 255) ** (1 / 2.4) - 0.055)
    assert np.abs(saved.pixels[..., 0].ravel()[2:] - expected[2:]).max() < 1


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_chroma_is_not_subsampled(tmp_path: Path, suffix: str) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    encode.write(tmp_path / f"a{suffix}", Decoded(stripes))
    saved = decode.read(tmp_path / f"a{suffix}").pixels
    assert np.abs(saved.astype(int) - stripes).mean() < 10


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_no_resolution_costs_the_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for dpi in ((1e8, 0.03), (70_000.0, 300.0)):
        notes = encode.write(path, Decoded(pixels(4, 4, 3), metadata=Metadata(dpi=dpi)))
        assert len(notes) == (suffix in (".jpg", ".jpeg", ".jfif", ".bmp"))
        assert decode.read(path).pixels.shape == (4, 4, 3)


def test_metadata_larger_than_a_jpeg_segment_is_left_out(tmp_path: Path) -> None:
    tags = exif()
    tags[ExifTags.IFD.Exif][ExifTags.Base.MakerNote] = b"m" * 70_000
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    metadata = Metadata(exif=block, xmp=b"x" * 70_000, comment=b"c" * 70_000)
    image = Decoded(pixels(4, 4, 3), metadata=metadata)
    (note,) = encode.write(tmp_path / "a.jpg", image)
    assert note == (
        "left out, as a JPEG holds 64 kB of each kind: MakerNote, XMP, the comment"
    )
    with Image.open(tmp_path / "a.jpg") as saved:
        camera = saved.getexif().get_ifd(ExifTags.IFD.Exif)
        assert camera[ExifTags.Base.ExposureTime] == (1.0, 100.0)
    assert encode.write(tmp_path / "a.png", image) == []
    assert b"m" * 70_000 in (tmp_path / "a.png").read_bytes()


def test_pixels_are_converted_to_srgb_if_the_format_holds_no_profile(
    tmp_path: Path,
) -> None:
    linear = profile_of_gamma_1()
    image = Decoded(np.full((4, 4, 3), 64, np.uint8), metadata=Metadata(icc=linear))
    assert encode.write(tmp_path / "a.bmp", image) == []
    # 64 of 255, linear: 0.251 -> sRGB 0.5371 -> 137
    assert abs(int(decode.read(tmp_path / "a.bmp").pixels[0, 0, 0]) - 137) <= 1
    bad = Decoded(image.pixels, metadata=Metadata(icc=b"nonsense"))
    (note,) = encode.write(tmp_path / "a.bmp", bad)
    assert note.startswith("the colour profile cannot be used")


def profile_of_gamma_1() -> bytes:
    """An edited profile of LittleCMS: sRGB's primaries with a linear curve."""
    data = bytearray(SRGB)
    for i in range(struct.unpack_from(">I", data, 128)[0]):
        tag, at, _ = struct.unpack_from(">4sII", data, 132 + 12 * i)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[at : at + 12] = b"curv" + bytes(8)  # no entries: linear
    return bytes(data)


def test_pixels_are_converted_to_srgb_if_the_format_holds_no_gamma(
    tmp_path: Path,
) -> None:
    gamma = ((b"gAMA", struct.pack(">I", 100_000)),)
    image = Decoded(np.full((4, 4, 3), 64, np.uint8), metadata=Metadata(chunks=gamma))
    encode.write(tmp_path / "a.tif", image)
    assert decode.read(tmp_path / "a.tif").pixels[0, 0, 0] == 137
    encode.write(tmp_path / "a.png", image)
    assert decode.read(tmp_path / "a.png").pixels[0, 0, 0] == 64
    unknown = Decoded(
        image.pixels, metadata=Metadata(chunks=((b"cICP", b"\x09\x10\0\1"),))
    )
    (note,) = encode.write(tmp_path / "a.jpg", unknown)
    assert note.startswith("cICP 9/16 names unknown colours, and is left out")


def test_images_that_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    clear = Decoded(pixels(4, 4, 3), pixels(4, 4))
    for name in ("a.jpg", "a.bmp"):
        with pytest.raises(ImageError, match="holds no transparency"):
            encode.write(tmp_path / name, clear)
    with pytest.raises(ImageError, match="at most, not 20000"):
        encode.check_output("a.webp", "WEBP", (4, 20_000), False, Settings())
    with pytest.raises(ImageError, match="the suffix names no format"):
        encode.write(tmp_path / "a.xyz", clear)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_a_failed_write_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    old = tmp_path / f"a{suffix}"
    old.write_bytes(b"old")

    def full(file: io.BufferedWriter, *_: object, **__: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    kind = BY_SUFFIX[suffix]
    monkeypatch.setitem(FORMATS, kind, FORMATS[kind]._replace(encode=full))
    with pytest.raises(ImageError, match=rf"a{suffix}: No space left on device"):
        encode.write(old, Decoded(pixels(4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"old"


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    encode.write(tmp_path / ("a" * 251 + ".png"), Decoded(pixels(4, 4)))


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        encode.write(tmp_path / "a.png", Decoded(pixels(4, 4)))
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640
