"""Converts colours to sRGB, for formats that cannot store a colour space."""

import io
import struct
from collections.abc import Mapping

import numpy as np
import PIL.Image
from PIL import ImageCms

# Chromaticities (x, y) of white, red, green and blue; codes of ITU-T H.273.
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: (_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # sRGB, BT.709
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}  # exponents of the pure power transfer functions
_SRGB = 13  # sRGB's transfer function
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_ROWS = 64  # rows converted at a time


def from_icc(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Converts pixels to sRGB by their ICC profile.

    Args:
      pixels: uint8 grey `[h, w]`, RGB `[h, w, 3]` or CMYK `[h, w, 4]`.
      icc: the ICC profile.

    Returns:
      uint8 `[h, w]` for grey, otherwise `[h, w, 3]`.

    Raises:
      ValueError: the profile is damaged, or is for another kind of pixels.
    """
    mode = "L" if pixels.ndim == 2 else {3: "RGB", 4: "CMYK"}[pixels.shape[-1]]
    image = PIL.Image.fromarray(np.ascontiguousarray(pixels), mode)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        srgb = ImageCms.createProfile("sRGB")
        # LittleCMS's own tables would be up to 10 levels wrong in dark grey.
        exact = ImageCms.Flags.NOOPTIMIZE
        rgb = ImageCms.profileToProfile(
            image, profile, srgb, outputMode="RGB", flags=exact
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError("the colour profile cannot be used") from error
    converted = np.asarray(rgb)
    return converted[..., 0] if pixels.ndim == 2 else converted


def from_cmyk(inks: np.ndarray, icc: bytes | None) -> tuple[np.ndarray, str | None]:
    """Converts CMYK to sRGB.

    Without a usable profile each channel becomes (1 - ink) (1 - black).

    Args:
      inks: uint8 `[h, w, 4]`; 255 is full ink.
      icc: the ICC profile, if there is one.

    Returns:
      uint8 RGB `[h, w, 3]`, and None, or a note if no profile could be used.
    """
    reason = "no colour profile"
    if icc:
        try:
            return from_icc(inks, icc), None
        except ValueError:
            reason = "no usable colour profile"
    paper = 255 - inks.astype(np.uint32)
    rgb = (paper[..., :3] * paper[..., 3:] + 127) // 255
    note = f"CMYK with {reason} is converted by RGB = (1 - CMY) (1 - K)"
    return rgb.astype(np.uint8), note


def from_chunks(pixels: np.ndarray, chunks: Mapping[bytes, bytes]) -> np.ndarray:
    """Converts grey or RGB to sRGB by a PNG's cICP, sRGB, gAMA and cHRM chunks.

    Args:
      pixels: uint8 or uint16 `[h, w]` or `[h, w, 3]`.
      chunks: data of the PNG's chunks by type. cICP takes precedence over sRGB, and
        sRGB over gAMA and cHRM.

    Raises:
      ValueError: the chunks are damaged or name unknown colours.
    """
    gamma, primaries = _parse_chunks(chunks)
    top = np.iinfo(pixels.dtype).max
    levels = np.arange(top + 1) / top
    matrix = _to_xyz(_PRIMARIES[1])
    same = primaries is None or np.allclose(primaries, _PRIMARIES[1], atol=2e-3)
    if pixels.ndim == 2 or same:
        if gamma is None or abs(gamma - 2.2) < 0.02:  # gAMA writes sRGB as 2.2
            return pixels
        return _rounded(_encoded(levels**gamma), pixels.dtype)[pixels]
    assert primaries is not None
    linear = _linear(levels) if gamma is None else levels**gamma
    matrix = np.linalg.solve(matrix, _adapted(primaries))
    converted = np.empty_like(pixels)
    for row in range(0, len(pixels), _ROWS):
        rgb = linear[pixels[row : row + _ROWS]] @ matrix.T
        converted[row : row + _ROWS] = _rounded(_encoded(rgb), pixels.dtype)
    return converted


Primaries = tuple[tuple[float, float], ...]


def _parse_chunks(
    chunks: Mapping[bytes, bytes],
) -> tuple[float | None, Primaries | None]:
    """The exponent that linearises samples (None for sRGB's curve), and primaries."""
    try:
        if b"cICP" in chunks:
            code, transfer = struct.unpack_from("2B", chunks[b"cICP"])
            if code not in _PRIMARIES or transfer not in (_SRGB, *_GAMMAS):
                raise ValueError(f"cICP {code}/{transfer} names unknown colours")
            return _GAMMAS.get(transfer), _PRIMARIES[code]
        if b"sRGB" in chunks:
            return None, None
        gamma = primaries = None
        if b"gAMA" in chunks:
            gamma = 100_000 / struct.unpack(">I", chunks[b"gAMA"])[0]
        if b"cHRM" in chunks:
            values = np.array(struct.unpack(">8I", chunks[b"cHRM"])) / 100_000
            primaries = tuple((x, y) for x, y in values.reshape(4, 2).tolist())
            np.linalg.inv(_to_xyz(primaries))
    except (struct.error, ZeroDivisionError, np.linalg.LinAlgError) as error:
        raise ValueError("the cICP, gAMA or cHRM chunk is damaged") from error
    return gamma, primaries


def _to_xyz(primaries: Primaries) -> np.ndarray:
    """The matrix `[3, 3]` from linear RGB to XYZ; white has Y = 1 (SMPTE RP 177)."""
    white, *colours = (np.array((x / y, 1, (1 - x - y) / y)) for x, y in primaries)
    columns = np.stack(colours, axis=1)
    return columns * np.linalg.solve(columns, white)


def _adapted(primaries: Primaries) -> np.ndarray:
    """The matrix `[3, 3]` from linear RGB to XYZ, adapted to D65 (Bradford)."""
    to_xyz = _to_xyz(primaries)
    white = np.ones(3)
    ratio = (_BRADFORD @ _to_xyz(_PRIMARIES[1]) @ white) / (_BRADFORD @ to_xyz @ white)
    return np.linalg.solve(_BRADFORD, np.diag(ratio) @ _BRADFORD @ to_xyz)


def _linear(encoded: np.ndarray) -> np.ndarray:
    """Decodes sRGB's transfer curve (IEC 61966-2-1)."""
    low = encoded <= 0.04045
    return np.where(low, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encoded(linear: np.ndarray) -> np.ndarray:
    """Encodes by sRGB's transfer curve (IEC 61966-2-1); clips to [0, 1]."""
    linear = np.clip(linear, 0, 1)
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curve)


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return (values * np.iinfo(dtype).max + 0.5).astype(dtype)
