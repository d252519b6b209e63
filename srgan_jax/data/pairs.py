"""Finds and reads LR/HR pairs of image files.

There are three layouts: a folder of HR images, whose LR is made by MATLAB's bicubic; a
folder of `*_HR` and `*_LR` files; or one folder of HR and another of LR files. LR files
are used unchanged. Files without a partner are refused, and so are pairs whose sizes do
not match.
"""

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from srgan_jax import paths
from srgan_jax.data.resize import imresize, mod_crop
from srgan_jax.data.source import SourceError, printable
from srgan_jax.images import decode
from srgan_jax.paths import AnyPath

Image = npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """An LR/HR pair of an evaluation set.

    Attributes:
      name: the HR file's name without its suffix.
      lr: uint8 `[height, width, 3]`.
      hr: uint8 `[scale * height, scale * width, 3]`.
      grey: True if the HR file has a single channel, which some evaluation protocols
        score differently.
    """

    name: str
    lr: Image
    hr: Image
    grey: bool


class Files(NamedTuple):
    """The files of a pair; if `lr` is None, LR is made from HR."""

    name: str
    hr: AnyPath
    lr: AnyPath | None


def split_folders(argument: str) -> tuple[AnyPath, AnyPath | None]:
    """Splits `HR,LR` into two folders; a single folder gives (folder, None)."""
    whole = paths.parse(argument).expanduser()
    hr, comma, lr = argument.partition(",")
    if whole.is_dir() or not comma:
        return whole, None
    return paths.parse(hr).expanduser(), paths.parse(lr).expanduser()


def find_pairs(
    folder: str | os.PathLike[str], lr_dir: str | os.PathLike[str] | None = None
) -> list[Files]:
    """Lists the pairs below a folder without reading them.

    Args:
      folder: folder of HR files, or of pairs `NAME_HR.png` and `NAME_LR.png`.
      lr_dir: folder with one LR file for each HR file. The LR file has the HR file's
        name, the name with `_LR` in place of `_HR`, or the name followed by the scale
        (`0802x4`, as in DIV2K).

    Raises:
      SourceError: a folder is missing or empty, or a file has no partner.
    """
    try:
        found = decode.find(paths.parse(folder))
        lr_files = None if lr_dir is None else decode.find(paths.parse(lr_dir))
    except ValueError as error:
        raise SourceError(str(error)) from error
    hr_files = [path for path in found if path.stem.endswith("_HR")]
    if lr_files is None and not hr_files:
        return [Files(printable(path.stem), path, None) for path in found]
    if lr_files is None:
        lr_files = [path for path in found if path.stem.endswith("_LR")]
        odd = set(found) - set(hr_files) - set(lr_files)
        if odd:
            raise SourceError(
                f"{printable(min(odd))} is neither *_HR nor *_LR, unlike other files "
                "in its folder; rename it or move it elsewhere"
            )
    lr_folder = paths.parse(lr_dir or folder)
    return _match(hr_files or found, paths.parse(folder), lr_files, lr_folder)


def check_sizes(
    files: Files, hr: tuple[int, int], lr: tuple[int, int], scale: int
) -> None:
    """Checks that the size of LR is that of HR divided by `scale` and rounded down.

    Args:
      files: the pair, named in the error message.
      hr: height and width of the HR file.
      lr: height and width of the LR file.
      scale: HR size over LR size.

    Raises:
      SourceError: the sizes do not match.
    """
    if (hr[0] // scale, hr[1] // scale) != lr:
        raise SourceError(
            f"{printable(files.hr)} of {hr[1]}x{hr[0]} pixels is not {scale} times "
            f"{printable(files.lr or '')} of {lr[1]}x{lr[0]} pixels; expected its own "
            "LR file, at the generator's scale"
        )


def read_pair(files: Files, *, scale: int, border: str = "mirrored") -> Pair:
    """Reads a pair, and cuts HR to multiples of `scale`, as benchmarks do.

    Args:
      files: the files of the pair.
      scale: HR size over LR size.
      border: border of the bicubic that makes a missing LR image, `mirrored` or
        `clamped`.

    Raises:
      ImageError: a file cannot be read.
      ValueError: HR is smaller than `scale`, or the sizes do not match.
    """
    stored = decode.decode_image(decode.read_bytes(files.hr), str(files.hr)).pixels
    whole, grey = decode.to_rgb(stored), stored.ndim == 2
    hr = mod_crop(whole, scale)
    if not hr.size:
        raise ValueError(
            f"{printable(files.hr)} has fewer than {scale}x{scale} pixels; "
            "remove it or give a larger image"
        )
    if files.lr is None:
        lr = imresize(hr, Fraction(1, scale), border=border)
    else:
        lr = decode.read_image(files.lr)
        check_sizes(files, whole.shape[:2], lr.shape[:2], scale)
    return Pair(files.name, lr, hr, grey)


def _match(
    hr_files: Sequence[AnyPath],
    hr_dir: AnyPath,
    lr_files: Sequence[AnyPath],
    lr_dir: AnyPath,
) -> list[Files]:
    left = {path.relative_to(lr_dir).with_suffix(""): path for path in lr_files}
    pairs = []
    for path in hr_files:
        place = path.relative_to(hr_dir).parent
        name = path.stem.removesuffix("_HR")
        stems = [
            path.stem,
            f"{name}_LR",
            *(f"{name}x{scale}" for scale in (2, 3, 4, 8)),
        ]
        found = [left.pop(place / stem) for stem in stems if place / stem in left]
        if len(found) != 1:
            raise SourceError(
                f"{printable(path)} has {len(found)} LR files in {printable(lr_dir)}; "
                f"expected exactly one, named {printable(path.stem)}, "
                f"{printable(name)}_LR or, with the scale, {printable(name)}x4"
            )
        pairs.append(Files(printable(name), path, found[0]))
    if left:
        raise SourceError(
            f"{printable(min(left.values()))} has no HR file in {printable(hr_dir)}; "
            "add it or remove the LR file"
        )
    return pairs
