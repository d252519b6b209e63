"""Reads and writes EXIF and TIFF tags, and copies their values as raw bytes.

A tag may hold anything (wrong types, text in any encoding) and is still copied from
file to file. Only the directories are parsed: EXIF 2.32, section 4.6.2; TIFF 6.0,
section 2; BigTIFF.
"""

import dataclasses
import struct
from collections.abc import Iterable, Iterator

from PIL.ExifTags import TAGS, Base

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_CAMERA, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tag: number, TIFF type, number of values, and their bytes."""

    tag: int
    type: int
    count: int
    value: bytes


@dataclasses.dataclass(frozen=True)
class Tags:
    """The directories of an EXIF block or of a TIFF page.

    Attributes:
      order: byte order of all values, `<` or `>`.
      image: entries of the main directory, without pointers to the other two.
      camera: entries of the Exif directory.
      gps: entries of the GPS directory.
      damaged: names of tags whose type is unknown or whose value is not in the file.
    """

    order: str
    image: list[Entry]
    camera: list[Entry] = dataclasses.field(default_factory=list)
    gps: list[Entry] = dataclasses.field(default_factory=list)
    damaged: list[str] = dataclasses.field(default_factory=list)

    def get(self, tag: int) -> Entry | None:
        """The entry of a tag in the main directory, or None."""
        return next((entry for entry in self.image if entry.tag == tag), None)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a directory is laid out: `struct` formats, and bytes of an inline value."""

    count: str
    entry: str
    offset: str
    inline: int


_CLASSIC, _BIG = _Layout("H", "HHI", "I", 4), _Layout("Q", "HHQ", "Q", 8)


def name(tag: int) -> str:
    """A tag's name, or its number if it has no name."""
    return TAGS.get(tag, f"{tag:#06x}")


def parse(data: bytes, offset: int | None = None) -> Tags:
    """Reads the directories of an EXIF block or of a TIFF file.

    Args:
      data: bytes that begin with a TIFF header.
      offset: where the main directory begins; None for the header's own offset.

    Raises:
      ValueError: the header is missing, or no directory is found at the offset.
    """
    order, layout, first = _header(data)
    damaged: list[str] = []
    image: list[Entry] = []
    camera: list[Entry] = []
    gps: list[Entry] = []
    for position, tag in _positions(data, order, layout, offset or first):
        if tag in (_CAMERA, _GPS):
            entry = _entry(data, order, layout, position)
            directory = camera if tag == _CAMERA else gps
            start = _number(order, entry)
            if start is None:
                damaged.append(name(tag))
                continue
            try:
                found = list(_positions(data, order, layout, start))
            except ValueError:
                damaged.append(name(tag))
                continue
        else:
            directory, found = image, [(position, tag)]
        for place, inner in found:
            if inner == _INTEROPERABILITY:  # an offset into the original file
                continue
            entry = _entry(data, order, layout, place)
            if entry is None:
                damaged.append(name(inner))
            else:
                directory.append(entry)
    return Tags(order, image, camera, gps, damaged)


def build(tags: Tags) -> bytes:
    """Builds an EXIF block of the given tags, beginning with its TIFF header."""
    mark = b"II*\0" if tags.order == "<" else b"MM\0*"
    return mark + struct.pack(tags.order + "I", 8) + directories(tags, 8)


def directories(tags: Tags, start: int, big: bool = False) -> bytes:
    """Serialises the directories for offset `start` of a file.

    Args:
      tags: the tags; their values are written unchanged.
      start: offset of the main directory.
      big: True for BigTIFF.
    """
    layout = _BIG if big else _CLASSIC
    blocks = b""
    image = list(tags.image)
    below = [(_CAMERA, tags.camera), (_GPS, tags.gps)]
    pointers = [tag for tag, entries in below if entries]
    here = start + _length(layout, len(image) + len(pointers))
    for tag, entries in below:
        if not entries:
            continue
        pointer = struct.pack(tags.order + layout.offset, here + len(blocks))
        image.append(Entry(tag, LONG8 if big else LONG, 1, pointer))
        blocks += _directory(tags.order, layout, entries, here + len(blocks))
    table, values = _table(tags.order, layout, image, here + len(blocks))
    return table + blocks + values


def upright(data: bytes) -> tuple[int, bytes]:
    """Removes the orientation (EXIF tag 274) and the thumbnail from a block.

    All other bytes keep their offsets, because MakerNotes may point into the block. An
    orientation of the wrong type counts as 1, upright.

    Returns:
      The orientation, and the block without it.

    Raises:
      ValueError: the block has no header or no directory.
    """
    order, layout, start = _header(data)
    patched = bytearray(data)
    orientation = 1
    entry_size = struct.calcsize("=" + layout.entry) + layout.inline
    positions = list(_positions(data, order, layout, start))
    left = len(positions)
    for position, tag in reversed(positions):
        if tag == Base.Orientation:
            entry = _entry(data, order, layout, position)
            if entry is not None and entry.type == SHORT:
                orientation = _number(order, entry) or 1
            del patched[position : position + entry_size]
            at = positions[0][0] + entry_size * (len(positions) - 1)
            at = min(at, len(patched))
            patched[at:at] = bytes(entry_size)
            left -= 1
    struct.pack_into(order + layout.count, patched, start, left)
    # The entries are followed by the offset of the thumbnail's directory.
    end = positions[0][0] + left * entry_size if positions else start + 2
    size = struct.calcsize("=" + layout.offset)
    patched[end : end + size] = bytes(len(patched[end : end + size]))
    return orientation, bytes(patched)


def resized(data: bytes, width: int, height: int) -> bytes:
    """Sets the width and height in every size tag that the block already has."""
    order, layout, start = _header(data)
    patched = bytearray(data)
    sizes = {Base.ExifImageWidth: width, Base.ExifImageHeight: height}
    sizes |= {Base.ImageWidth: width, Base.ImageLength: height}
    positions = list(_positions(data, order, layout, start))
    for position, tag in list(positions):
        if tag == _CAMERA:
            offset = _number(order, _entry(data, order, layout, position))
            try:
                positions += _positions(data, order, layout, offset or len(data))
            except ValueError:
                continue
    for position, tag in positions:
        if tag in sizes:
            value = sizes[Base(tag)]
            struct.pack_into(order + "HHI", patched, position, tag, LONG, 1)
            struct.pack_into(order + "I", patched, position + 8, value)
    return bytes(patched)


def dpi(tags: Tags) -> tuple[float, float] | None:
    """Horizontal and vertical pixels per inch, or None if the tags do not say."""
    found = []
    for tag in (Base.XResolution, Base.YResolution):
        entry = tags.get(tag)
        if entry is None or (entry.type, entry.count) != (RATIONAL, 1):
            return None
        above, below = struct.unpack(tags.order + "II", entry.value)
        if not above or not below:
            return None
        found.append(above / below)
    unit = _number(tags.order, tags.get(Base.ResolutionUnit)) or 2
    scale = {2: 1.0, 3: 2.54}.get(unit)
    return None if scale is None else (found[0] * scale, found[1] * scale)


def resolution(dpi: tuple[float, float], order: str) -> list[Entry]:
    """The resolution entries that `dpi` reads."""
    entries = [Entry(Base.ResolutionUnit, SHORT, 1, struct.pack(order + "H", 2))]
    for tag, value in zip((Base.XResolution, Base.YResolution), dpi, strict=True):
        ratio = struct.pack(order + "II", round(min(value, 4e5) * 10_000), 10_000)
        entries.append(Entry(tag, RATIONAL, 1, ratio))
    return entries


def shrunk(data: bytes, most: int) -> tuple[bytes, list[str]]:
    """Removes the largest tags until the block has at most `most` bytes.

    Returns:
      The block, and the names of the tags that are left out.
    """
    tags, names = parse(data), []
    while len(data := build(tags)) > most:
        lists = (tags.image, tags.camera, tags.gps)
        largest = max((e for entries in lists for e in entries), key=lambda e: e.count)
        for entries in lists:
            if largest in entries:
                entries.remove(largest)
        names.append(name(largest.tag))
    return data, names + tags.damaged


def _header(data: bytes) -> tuple[str, _Layout, int]:
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    try:
        if order is None:
            raise ValueError
        (version,) = struct.unpack_from(order + "H", data, 2)
        if version == 42:
            return order, _CLASSIC, struct.unpack_from(order + "I", data, 4)[0]
        if version == 43:
            return order, _BIG, struct.unpack_from(order + "Q", data, 8)[0]
    except (struct.error, ValueError):
        pass
    raise ValueError("no TIFF header")


def _positions(
    data: bytes, order: str, layout: _Layout, start: int
) -> Iterator[tuple[int, int]]:
    """Offset and tag of each entry of the directory at `start`."""
    try:
        (count,) = struct.unpack_from(order + layout.count, data, start)
    except (struct.error, OverflowError):
        raise ValueError("no directory of tags") from None
    first = start + struct.calcsize("=" + layout.count)
    size = struct.calcsize("=" + layout.entry) + layout.inline
    for position in range(first, first + count * size, size):
        if position + size > len(data):
            return
        yield position, struct.unpack_from(order + "H", data, position)[0]


def _entry(data: bytes, order: str, layout: _Layout, position: int) -> Entry | None:
    tag, type_, count = struct.unpack_from(order + layout.entry, data, position)
    at = position + struct.calcsize("=" + layout.entry)
    length = _SIZES.get(type_, 0) * count
    if length > layout.inline:
        (at,) = struct.unpack_from(order + layout.offset, data, at)
    value = bytes(data[at : at + length])
    return Entry(tag, type_, count, value) if length and len(value) == length else None


def _number(order: str, entry: Entry | None) -> int | None:
    """The value of an entry that holds one unsigned integer, otherwise None."""
    formats = {SHORT: "H", LONG: "I", 13: "I", LONG8: "Q"}
    if entry is None or entry.count != 1 or entry.type not in formats:
        return None
    return struct.unpack(order + formats[entry.type], entry.value)[0]


def _length(layout: _Layout, entries: int) -> int:
    size = struct.calcsize("=" + layout.entry) + layout.inline
    ends = struct.calcsize("=" + layout.count), struct.calcsize("=" + layout.offset)
    return sum(ends) + entries * size


def _directory(
    order: str, layout: _Layout, entries: Iterable[Entry], start: int
) -> bytes:
    entries = list(entries)
    table, values = _table(
        order, layout, entries, start + _length(layout, len(entries))
    )
    return table + values


def _table(
    order: str, layout: _Layout, entries: list[Entry], values_at: int
) -> tuple[bytes, bytes]:
    """A directory, and the values that its entries point to, placed at `values_at`."""
    table, values = struct.pack(order + layout.count, len(entries)), b""
    for entry in sorted(entries, key=lambda entry: entry.tag):
        value = entry.value
        table += struct.pack(order + layout.entry, entry.tag, entry.type, entry.count)
        if len(value) <= layout.inline:
            table += value.ljust(layout.inline, b"\0")
        else:
            table += struct.pack(order + layout.offset, values_at + len(values))
            values += value + bytes(len(value) % 2)  # values begin at even offsets
    return table + bytes(struct.calcsize("=" + layout.offset)), values
