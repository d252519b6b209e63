"""EXIF is copied as bytes: images are read and written whatever their tags hold."""

import io
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import encoded, pixels
from PIL import ExifTags, Image

from srgan_jax.images import decode, encode, exif
from srgan_jax.images.exif import Entry, Tags

SAMPLES = pixels(6, 8, 3)


def jpeg(block: bytes) -> bytes:
    return encoded(Image.fromarray(SAMPLES), "JPEG", exif=b"Exif\0\0" + block)


def one_entry(order: str, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """An EXIF block of a single entry, whose value follows the directory."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    table = struct.pack(order + "IHHHI", 8, 1, tag, kind, count)
    if len(value) <= 4:
        return mark + table + value.ljust(4, b"\0") + bytes(4)
    return mark + table + struct.pack(order + "I", 26) + bytes(4) + value


TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def test_an_image_is_read_whatever_the_types_of_its_tags(tmp_path: Path) -> None:
    tags = (0x100, 0x10E, 0x112, 0x11A, 0x128, 0x132, 0x13B, 0x8298, 0x8769, 0x8825)
    tags += (0x9C9B, 0x927C, 0xA005, 0x02BC)
    kinds = (0, *TYPES, 13, 16, 99)
    for tag, kind, count in itertools.product(tags, kinds, (0, 1, 3, 2**31)):
        value = bytes(range(1, 25))[: TYPES.get(kind, 4) * min(count, 3)]
        data = jpeg(one_entry("<", tag, kind, count, value))
        image = decode.decode_upright(data, "a.jpg", None)
        if tag != 0x112:  # a random orientation would turn the image
            assert image.pixels.shape == (6, 8, 3)
        for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
            if name == "AVIF" and (tag, count) != (0x11A, 1):
                continue  # slow, and the same code path as WebP
            written, notes = encode.encode(image, name, "a", encode.DEFAULT)
            again = decode.decode_upright(written, "a", None)
            assert again.pixels.shape[-1] == 3
            if name in ("JPEG", "PNG", "WEBP") and image.metadata.exif:
                assert value in again.metadata.exif or tag in (0x100, 0x112)
            if name == "TIFF" and (tag, kind, count) == (0x11A, 2, 3):
                assert notes == ["tags are left out: XResolution"]


@pytest.mark.parametrize("text", ["© José 日本".encode(), "© José".encode("latin-1")])
@pytest.mark.parametrize("tag", [ExifTags.Base.Artist, ExifTags.Base.Copyright])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_text_in_any_encoding_is_kept(
    tmp_path: Path, text: bytes, tag: int, suffix: str
) -> None:
    value = text + b"\0"
    (tmp_path / "a.jpg").write_bytes(jpeg(one_entry(">", tag, 2, len(value), value)))
    assert encode.write(tmp_path / f"b{suffix}", decode.read(tmp_path / "a.jpg")) == []
    metadata = decode.read(tmp_path / f"b{suffix}").metadata
    assert exif.parse(metadata.exif).get(tag).value == value


def entries(size: int = 60) -> st.SearchStrategy[list[Entry]]:
    def entry(tag: int, kind: int, values: bytes) -> Entry:
        count = 1 + len(values) // TYPES[kind]
        return Entry(
            tag,
            kind,
            count,
            values.ljust(count * TYPES[kind], b"x")[: count * TYPES[kind]],
        )

    tags = st.integers(1, 60_000).filter(lambda t: t not in (0x8769, 0x8825, 0xA005))
    one = st.builds(entry, tags, st.sampled_from(list(TYPES)), st.binary(max_size=size))
    return st.lists(one, unique_by=lambda e: e.tag, max_size=6)


@given(st.sampled_from("<>"), entries(), entries(), entries())
def test_a_built_block_is_parsed_back(order, image, camera, gps) -> None:
    def by_tag(listed):
        return sorted(listed, key=lambda entry: entry.tag)

    tags = Tags(order, by_tag(image), by_tag(camera), by_tag(gps))
    assert exif.parse(exif.build(tags)) == tags
    data = b"II+\0\x08\0\0\0" if order == "<" else b"MM\0+\0\x08\0\0"
    data += struct.pack(order + "Q", 16) + exif.directories(tags, 16, big=True)
    assert exif.parse(data) == tags


@given(st.sampled_from("<>"), entries(), entries(), st.integers(1, 8))
def test_upright_keeps_the_offsets_of_values(order, image, camera, orientation) -> None:
    image = [e for e in image if e.tag != ExifTags.Base.Orientation]
    turned = Entry(274, 3, 1, struct.pack(order + "H", orientation))
    block = exif.build(Tags(order, [*image, turned], camera))
    found, patched = exif.upright(block)
    assert found == orientation
    expected = exif.parse(exif.build(Tags(order, image, camera)))
    again = exif.parse(patched)
    assert (again.image, again.camera) == (expected.image, expected.camera)
    assert len(patched) == len(block)
    start = 8 + 2 + 12 * (len(image) + 1 + bool(camera)) + 4
    assert patched[start:] == block[start:]


@given(st.binary(max_size=200), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0"]))
def test_random_bytes_are_parsed_or_refused(noise: bytes, header: bytes) -> None:
    for data in (noise, header + noise, header + b"\x08\0\0\0" + noise):
        try:
            tags = exif.parse(data)
            _, patched = exif.upright(data)
            exif.resized(patched, 4, 4)
        except ValueError:
            continue
        exif.build(tags)


def test_the_pointer_to_a_thumbnail_is_removed() -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Maker"
    block = bytearray(tags.tobytes().removeprefix(b"Exif\0\0"))
    end = 8 + 2 + 12
    block[end : end + 4] = struct.pack(">I" if block[:2] == b"MM" else "<I", 12)
    _, patched = exif.upright(bytes(block))
    assert patched[end : end + 4] == bytes(4)


def test_size_tags_are_updated() -> None:
    tags = Image.Exif()
    tags[ExifTags.IFD.Exif] = {40_962: 7, 40_963: 5}
    tags[ExifTags.Base.ImageWidth] = 7
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    again = Image.Exif()
    again.load(exif.resized(block, 70_000, 50))
    assert again[ExifTags.Base.ImageWidth] == 70_000
    assert again.get_ifd(ExifTags.IFD.Exif) == {40_962: 70_000, 40_963: 50}


def test_the_largest_tags_are_removed_first() -> None:
    small, large = Entry(1, 7, 10, b"s" * 10), Entry(2, 7, 500, b"l" * 500)
    block, names = exif.shrunk(exif.build(Tags("<", [small], [large])), 100)
    assert exif.parse(block).image == [small]
    assert exif.parse(block).camera == []
    assert names == ["0x0002"]


def test_samples_are_unchanged() -> None:
    data = jpeg(one_entry("<", 0x10F, 2, 3, b"ab\0"))
    with Image.open(io.BytesIO(data)) as saved:
        assert np.array_equal(
            decode.decode_upright(data, "a", None).pixels, np.asarray(saved)
        )
