"""Pictures read, upscaled and written: what must survive, and what must be refused."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps

from srgan_jax.images import encode as writing
from srgan_jax.images import picture as images
from srgan_jax.images.decode import ImageError
from srgan_jax.images.picture import Picture

RNG = np.random.default_rng(0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def double(image: np.ndarray) -> np.ndarray:
    """Stands in for an upscaler."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def png_16(samples: np.ndarray, colour_type: int, chunks: bytes = b"") -> bytes:
    """A PNG as the specification has it, since no library writes all kinds."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunks
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "Maker"
    tags[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: (1.0, 100.0),
        ExifTags.Base.ExifImageWidth: 7,
    }
    tags[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return tags


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
    bands[..., -1] |= 1  # WebP forgets the colour where alpha is zero
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(bands, mode).save(path, lossless=True)
    picture = images.read(path)
    again = tmp_path / "again.png"
    writing.write(again, picture)
    assert np.array_equal(np.asarray(images.read(again).pixels), picture.pixels)
    assert (picture.alpha is not None) == alpha
    if suffix != ".webp":  # which has neither grey nor grey with alpha
        assert picture.pixels.shape == shape
        with Image.open(again) as image:
            assert np.array_equal(np.asarray(image), bands)


def test_palette_and_bilevel(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 255)
    Image.fromarray(rgba).quantize(4).save(tmp_path / "palette.png")
    picture = images.read(tmp_path / "palette.png")
    assert picture.alpha is not None
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert picture.alpha[:, 0].tolist() == [255, 255, 0, 0]

    Image.fromarray(pixels(4, 4) > 127).save(tmp_path / "bilevel.png")
    bilevel = images.read(tmp_path / "bilevel.png")
    assert bilevel.pixels.shape == (4, 4)
    assert set(np.unique(bilevel.pixels)) <= {0, 255}


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png(tmp_path: Path, colour_type: int, channels: int) -> None:
    samples = pixels(5, 6, channels, dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(png_16(samples, colour_type))
    picture = images.read(path)
    assert picture.pixels.dtype == np.uint16
    colours = samples[..., :-1] if channels in (2, 4) else samples
    assert np.array_equal(picture.pixels, colours.squeeze())
    if channels in (2, 4):
        assert np.array_equal(picture.alpha, samples[..., -1])
    for name in ("b.png", "b.tif"):
        writing.write(tmp_path / name, Picture(picture.pixels, picture.alpha))
        if (name, channels) == ("b.tif", 2):
            continue  # no reader here knows grey with alpha
        again = images.read(tmp_path / name)
        grey_as_rgb = again.pixels.ndim > picture.pixels.ndim
        assert np.array_equal(
            again.pixels[..., 0] if grey_as_rgb else again.pixels, picture.pixels
        )
        if channels == 4:
            assert np.array_equal(again.alpha, picture.alpha)


def test_16_bit_png_with_a_transparent_colour(tmp_path: Path) -> None:
    grey = np.array([[0, 1], [2, 40_000]], np.uint16)
    clear = chunk(b"tRNS", struct.pack(">H", 40_000))
    (tmp_path / "a.png").write_bytes(png_16(grey, 0, clear))
    picture = images.read(tmp_path / "a.png")
    assert picture.alpha.tolist() == [[65_535, 65_535], [65_535, 0]]


def test_16_bits_are_rounded_for_formats_of_8(tmp_path: Path) -> None:
    samples = np.array([[0, 128, 129, 32_768, 65_535]], np.uint16)
    writing.write(tmp_path / "a.bmp", Picture(samples))
    assert images.read(tmp_path / "a.bmp").pixels.tolist() == [[0, 0, 1, 128, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(pixels(16, 24, 3))
    image.save(path, exif=exif(orientation).tobytes())
    picture = images.read(path)
    with Image.open(path) as saved:
        upright = np.asarray(ImageOps.exif_transpose(saved))
    assert np.array_equal(picture.pixels, upright)
    assert ExifTags.Base.Orientation not in picture.exif


def test_orientation_of_16_bits(tmp_path: Path) -> None:
    samples = pixels(4, 6, 3, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(
        png_16(samples, 2, chunk(b"eXIf", exif(6).tobytes()[6:]))
    )
    tag = (int(ExifTags.Base.Orientation), "H", 1, 6, True)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[tag])
    for name in ("a.png", "a.tif"):
        upright = images.read(tmp_path / name).pixels
        assert np.array_equal(upright, np.rot90(samples, -1))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_and_profile_travel(tmp_path: Path, suffix: str, dtype: type) -> None:
    source = tmp_path / "source.jpg"
    Image.fromarray(pixels(8, 7, 3)).save(source, exif=exif(3), icc_profile=SRGB)
    picture = images.upscale(images.read(source), lambda p: double(p).astype(dtype))
    writing.write(tmp_path / f"a{suffix}", picture)
    again = images.read(tmp_path / f"a{suffix}")
    assert again.icc == SRGB
    assert again.exif[ExifTags.Base.Make] == "Maker"
    if (suffix, dtype) != (".tif", np.uint16):
        camera = again.exif[ExifTags.IFD.Exif]
        assert camera[ExifTags.Base.ExposureTime] == (1.0, 100.0)
        assert camera[ExifTags.Base.ExifImageWidth] == 14
        assert again.exif[ExifTags.IFD.GPSInfo][ExifTags.GPS.GPSLatitudeRef] == "N"


def test_colour_hidden_by_alpha_does_not_show() -> None:
    """A white disc on hidden black, blurred by the upscaler, stays white."""
    y, x = np.mgrid[:32, :32]
    disc = (y - 16) ** 2 + (x - 16) ** 2 < 100
    alpha = np.where(disc, 255, 0).astype(np.uint8)
    picture = Picture(np.repeat(alpha[..., None], 3, axis=-1), alpha)

    def blur(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(double(image), (9, 9), 0)

    big = images.upscale(picture, blur)
    assert big.alpha.shape == (64, 64)
    assert big.pixels[big.alpha > 0].min() == 255
    assert (big.alpha.min(), big.alpha.max()) == (0, 255)
    assert np.count_nonzero((big.alpha > 0) & (big.alpha < 255)) > 0


def test_alpha_of_16_bits_is_bicubic() -> None:
    alpha = np.linspace(1000, 60_000, 64).astype(np.uint16).reshape(8, 8)
    big = images.upscale(Picture(np.zeros((8, 8), np.uint16), alpha), double).alpha
    assert big.dtype == np.uint16
    expected = cv2.resize(alpha, (16, 16), interpolation=cv2.INTER_CUBIC)
    assert np.abs(big.astype(int) - expected).max() < 1200  # another cubic


def test_wholly_transparent_and_wholly_opaque(tmp_path: Path) -> None:
    clear = Picture(pixels(4, 4, 3), np.zeros((4, 4), np.uint8))
    assert not images.upscale(clear, double).alpha.any()
    opaque = np.dstack((pixels(4, 4, 3), np.full((4, 4), 255, np.uint8)))
    Image.fromarray(opaque).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png").alpha is None


def test_cmyk_needs_a_profile(tmp_path: Path) -> None:
    Image.fromarray(pixels(4, 4, 4), "CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"a.jpg: is CMYK without a colour profile"):
        images.read(tmp_path / "a.jpg")


def test_refusals(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(8, 8, 3)) for _ in range(3)]
    for name in ("a.png", "a.webp", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match=rf"{name}: has 3 frames or pages"):
            images.read(tmp_path / name)

    cases = {
        "empty.png": (b"", "the file is empty"),
        "text.jpg": (b"not a picture", "not a picture"),
        "gif.png": (encoded(frames[0], "GIF"), "is GIF; expected one of PNG"),
        "jpeg.png": (encoded(frames[0], "JPEG"), "is JPEG in spite of its name"),
        "cut.png": (encoded(frames[0], "PNG")[:90], "truncated"),
        "cut.jpg": (encoded(frames[0], "JPEG")[:-90], "Truncated"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=rf"{name}: .*{reason}"):
            images.read(tmp_path / name)
    with pytest.raises(ImageError, match=r"missing.png: No such file"):
        images.read(tmp_path / "missing.png")


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
def test_other_samples_are_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 4), dtype))
    with pytest.raises(ImageError, match=r"a.tif: .*(samples|16 bits)"):
        images.read(tmp_path / "a.tif")


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"60000x60000 pixels, more than"):
            images.read(tmp_path / "a.png")
    Image.fromarray(pixels(10, 10)).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match="more than the 99 allowed"):
        images.read(tmp_path / "b.png", max_pixels=99)
    images.read(tmp_path / "b.png", max_pixels=100)


def test_what_formats_cannot_hold(tmp_path: Path) -> None:
    clear = Picture(pixels(4, 4, 3), pixels(4, 4))
    for name in ("a.jpg", "a.bmp"):
        with pytest.raises(ImageError, match="holds no transparency"):
            writing.write(tmp_path / name, clear)
    long = Picture(pixels(1, 5000))
    with pytest.raises(ImageError, match="at most, not 20000"):
        writing.check_output(tmp_path / "a.webp", long, scale=4)
    with pytest.raises(ImageError, match="none of the formats written"):
        writing.write(tmp_path / "a.xyz", long)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "a.png"
    old.write_bytes(b"old")

    def full(self: Image.Image, file: io.BufferedWriter, *_: object, **__: object):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ImageError, match=r"a.png: No space left on device"):
        writing.write(old, Picture(pixels(4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert old.read_bytes() == b"old"


def test_phone_photographs_with_previews_are_read(tmp_path: Path) -> None:
    frame = Image.fromarray(pixels(16, 16, 3))
    frame.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[frame])
    assert images.read(tmp_path / "a.jpg").pixels.shape == (16, 16, 3)
