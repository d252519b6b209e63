"""Reading images: decoded samples, and refused files."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import chunk, encoded, exif, pixels, png, png_16
from PIL import ExifTags, Image, ImageOps

from srgan_jax.images import decode, encode
from srgan_jax.images.image import Image as Decoded
from srgan_jax.images.image import ImageError, Metadata


@pytest.mark.parametrize(
    ("mode", "shape", "alpha"),
    [
        ("L", (5, 7), False),
        ("LA", (5, 7), True),
        ("RGB", (5, 7, 3), False),
        ("RGBA", (5, 7, 3), True),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_8_bits_round_trip(
    tmp_path: Path, mode: str, shape: tuple, alpha: bool, suffix: str
) -> None:
    bands = pixels(5, 7, len(mode)).squeeze()
    bands[..., -1] |= 1  # WebP drops the colour where alpha is zero
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(bands, mode).save(path, lossless=True)
    image = decode.read(path)
    again = tmp_path / "again.png"
    encode.write(again, image)
    assert np.array_equal(np.asarray(decode.read(again).pixels), image.pixels)
    assert (image.alpha is not None) == alpha
    if suffix != ".webp":  # WebP has neither grey nor grey with alpha
        assert image.pixels.shape == shape
        with Image.open(again) as saved:
            assert np.array_equal(np.asarray(saved), bands)


def test_palette_and_bilevel_images_are_expanded(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 255)
    Image.fromarray(rgba).quantize(4).save(tmp_path / "palette.png")
    image = decode.read(tmp_path / "palette.png")
    assert image.alpha is not None
    assert image.pixels[0, 0].tolist() == [255, 0, 0]
    assert image.alpha[:, 0].tolist() == [255, 255, 0, 0]

    Image.fromarray(pixels(4, 4) > 127).save(tmp_path / "bilevel.png")
    bilevel = decode.read(tmp_path / "bilevel.png")
    assert bilevel.pixels.shape == (4, 4)
    assert set(np.unique(bilevel.pixels)) <= {0, 255}


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_round_trip(tmp_path: Path, colour_type: int, channels: int) -> None:
    samples = pixels(5, 6, channels, dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(png_16(samples, colour_type))
    image = decode.read(path)
    assert image.pixels.dtype == np.uint16
    colours = samples[..., :-1] if channels in (2, 4) else samples
    assert np.array_equal(image.pixels, colours.squeeze())
    if channels in (2, 4):
        assert np.array_equal(image.alpha, samples[..., -1])
    for name in ("b.png", "b.tif"):
        encode.write(tmp_path / name, Decoded(image.pixels, image.alpha))
        again = decode.read(tmp_path / name)
        assert np.array_equal(again.pixels, image.pixels)
        if channels in (2, 4):
            assert np.array_equal(again.alpha, image.alpha)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    source = Image.fromarray(pixels(16, 24, 3))
    source.save(path, exif=exif(orientation).tobytes(), lossless=True)
    image = decode.read(path)
    with Image.open(path) as saved:
        upright = np.asarray(ImageOps.exif_transpose(saved))
    assert np.array_equal(image.pixels, upright)
    tags = Image.Exif()
    tags.load(image.metadata.exif)
    assert ExifTags.Base.Orientation not in tags
    assert tags[ExifTags.Base.Make] == "Maker"


def test_orientation_of_avif_is_applied(tmp_path: Path) -> None:
    ramp = np.zeros((16, 24, 3), np.uint8)
    ramp[:, :12] = 200
    Image.fromarray(ramp).save(tmp_path / "a.avif", exif=exif(6).tobytes())
    image = decode.read(tmp_path / "a.avif")
    expected = np.rot90(ramp, -1).astype(int)
    assert np.abs(image.pixels - expected).max() < 10


def test_orientation_of_16_bits_is_applied(tmp_path: Path) -> None:
    samples = pixels(4, 6, 3, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(
        png_16(samples, 2, chunk(b"eXIf", exif(6).tobytes()[6:]))
    )
    tag = (int(ExifTags.Base.Orientation), "H", 1, 6, True)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[tag])
    for name in ("a.png", "a.tif"):
        upright = decode.read(tmp_path / name).pixels
        assert np.array_equal(upright, np.rot90(samples, -1))


def test_orientation_in_xmp_is_reset(tmp_path: Path) -> None:
    xmp = b'<x tiff:Orientation="6" other="6"/>'
    source = Image.fromarray(pixels(4, 6, 3))
    source.save(tmp_path / "a.jpg", exif=exif(6), xmp=xmp)
    image = decode.read(tmp_path / "a.jpg")
    assert image.metadata.xmp == b'<x tiff:Orientation="1" other="6"/>'


def test_a_fully_opaque_alpha_channel_is_dropped(tmp_path: Path) -> None:
    opaque = np.dstack((pixels(4, 4, 3), np.full((4, 4), 255, np.uint8)))
    Image.fromarray(opaque).save(tmp_path / "a.png")
    assert decode.read(tmp_path / "a.png").alpha is None


def test_cmyk_without_a_profile_is_converted_with_a_note(tmp_path: Path) -> None:
    inks = pixels(4, 4, 4)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")
    image = decode.read(tmp_path / "a.tif")
    paper = 1 - inks / 255
    expected = 255 * paper[..., :3] * paper[..., 3:]
    assert np.abs(image.pixels - expected).max() <= 0.5 + 1e-9
    (note,) = image.notes
    assert note.startswith("CMYK with no colour profile is converted by RGB = ")

    Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg")
    assert decode.read(tmp_path / "a.jpg").notes == image.notes


def test_animations_and_several_pages_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(8, 8, 3)) for _ in range(3)]
    for name in ("a.png", "a.webp", "a.tiff", "a.avif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        for refuse in (decode.read, decode.check):
            with pytest.raises(ImageError, match=rf"{name}: has 3 frames or pages"):
                refuse(tmp_path / name)


def test_damaged_and_unknown_files_are_refused_by_name(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(8, 8, 3))
    cases = {
        "empty.png": (b"", "the file is empty"),
        "text.jpg": (b"no image at all", "not an image"),
        "gif.png": (encoded(image, "GIF"), "is GIF; expected one of PNG"),
        "heic.png": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC; expected one of"),
        "jpeg.png": (encoded(image, "JPEG"), "is JPEG in spite of its name"),
        "cut.png": (encoded(image, "PNG")[:90], "truncated"),
        "cut.jpg": (encoded(image, "JPEG")[:-90], "truncated"),
        "cut.tif": (encoded(image, "TIFF")[:-90], "truncated"),
        "cut.webp": (encoded(image, "WEBP")[:-9], "truncated"),
        "cut.avif": (encoded(image, "AVIF")[:-9], "truncated"),
        "cut.bmp": (encoded(image, "BMP")[:-90], "truncated"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=rf"{name}: .*{reason}"):
            decode.read(tmp_path / name)
    with pytest.raises(ImageError, match=r"missing.png: No such file"):
        decode.read(tmp_path / "missing.png")


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
def test_tiff_samples_of_other_kinds_are_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 4), dtype))
    with pytest.raises(ImageError, match=r"a.tif: .*(samples|16 bits)"):
        decode.read(tmp_path / "a.tif")


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"60000x60000 pixels, more than"):
            decode.read(tmp_path / "a.png")
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp", ".avif"):
        path = tmp_path / f"b{suffix}"
        Image.fromarray(pixels(10, 10)).save(path)
        for refuse in (decode.read, decode.check):
            with pytest.raises(ImageError, match="more than the 99 allowed"):
                refuse(path, max_pixels=99)
            refuse(path, max_pixels=100)


def test_phone_photos_with_previews_are_read(tmp_path: Path) -> None:
    frame = Image.fromarray(pixels(16, 16, 3))
    frame.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[frame])
    image = decode.read(tmp_path / "a.jpg")
    assert image.pixels.shape == (16, 16, 3)
    assert image.notes == ("left out further images (previews, depth): 1",)


def test_an_image_with_damaged_exif_is_read(tmp_path: Path) -> None:
    source = Image.fromarray(pixels(4, 4, 3))
    for block in (b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0nonsense"):
        source.save(tmp_path / "a.jpg", exif=block)
        image = decode.read(tmp_path / "a.jpg")
        assert image.pixels.shape == (4, 4, 3)
        assert image.metadata.exif is None
        assert image.notes == ("EXIF is damaged and left out",) or block == b"Exif\0\0"


def test_find_follows_links_and_visits_each_folder_once(tmp_path: Path) -> None:
    for name in ("z/b.png", "a.PNG", "z/deep/c.jpg", ".hidden/d.png", "z/.e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "z/deep/up").symlink_to("..")
    (tmp_path / "b").symlink_to("z")
    (tmp_path / "link.png").symlink_to("a.PNG")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png/f.png").touch()
    found = [str(path.relative_to(tmp_path)) for path in decode.find(tmp_path)]
    expected = ["a.PNG", "folder.png/f.png", "link.png", "z/b.png", "z/deep/c.jpg"]
    assert found == expected


def test_links_that_lead_nowhere_are_files(tmp_path: Path) -> None:
    for name, goal in (("circle.png", "circle.png"), ("dead.png", "nowhere")):
        (tmp_path / name).symlink_to(goal)
    found = decode.find(tmp_path)
    assert [path.name for path in found] == ["circle.png", "dead.png"]
    for path in found:
        with pytest.raises(ImageError, match=path.name):
            decode.check(path)


def test_find_takes_names_of_any_encoding(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    encode.write(tmp_path / name, Decoded(pixels(4, 4, 3)))
    (found,) = decode.find(tmp_path)
    assert decode.read(found).pixels.shape == (4, 4, 3)


def test_find_refuses_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder"):
        decode.find(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no image"):
        decode.find(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF"])
def test_header_agrees_with_the_decoded_image(kind: str) -> None:
    data = encoded(Image.fromarray(pixels(9, 7, 3)), kind)
    header = decode.read_header(io.BytesIO(data))
    assert header == (9, 7, kind == "JPEG")
    assert decode.read_header(io.BytesIO(data + bytes(99))) == header
    assert decode.decode(io.BytesIO(data), "a").shape == (9, 7, 3)


def test_read_image_returns_8_bit_rgb_as_stored(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 129, 32_768, 65_535]], np.uint16)
    encode.write(tmp_path / "a.png", Decoded(grey, metadata=Metadata()))
    rgb = decode.read_image(tmp_path / "a.png")
    assert rgb.tolist() == [[[v] * 3 for v in (0, 0, 1, 128, 255)]]
    turned = tmp_path / "b.png"
    Image.fromarray(pixels(4, 6, 3)).save(turned, exif=exif(6))
    assert decode.read_image(turned).shape == (4, 6, 3)


def test_transparent_colours_of_every_depth_become_alpha(tmp_path: Path) -> None:
    for depth in (1, 2, 4, 8, 16):
        value = (1 << depth) // 2
        if depth < 16:
            packed = bytes([sum(value << i for i in range(0, 8, depth))] * depth)
        else:
            packed = struct.pack(">H", value) * 8
        clear = chunk(b"tRNS", struct.pack(">H", value))
        (tmp_path / "a.png").write_bytes(png([packed], 8, depth, 0, clear))
        image = decode.read(tmp_path / "a.png")
        assert image.pixels.shape == (1, 8)
        assert not image.alpha.any()
        (tmp_path / "b.png").write_bytes(
            png([packed], 8, depth, 0, chunk(b"tRNS", b"\0\0"))
        )
        assert decode.read(tmp_path / "b.png").alpha is None
