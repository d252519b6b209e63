"""LR/HR pairs of files: which files belong together, and their pixels.

A folder holds originals, whose LR is then made by MATLAB's bicubic, or `*_HR` and
`*_LR` files; or HR and LR lie in one folder each. LR files are used as they are. Files
without a partner are refused, and so are pairs whose sizes do not match.
"""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from srgan_jax.data.resize import imresize, mod_crop
from srgan_jax.data.source import SourceError, printable
from srgan_jax.images import decode

Image = npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """An image of an evaluation set.

    Attributes:
      name: the HR file's name without its extension.
      lr: uint8 `[height, width, 3]`.
      hr: uint8 `[scale * height, scale * width, 3]`.
      grey: True if the HR file has a single channel; protocols score such images
        differently.
    """

    name: str
    lr: Image
    hr: Image
    grey: bool


class Files(NamedTuple):
    """The files of a pair; LR is made from HR if `lr` is None."""

    name: str
    hr: Path
    lr: Path | None


def split_folders(argument: str) -> tuple[Path, Path | None]:
    """The folders of `HR,LR`, or one folder for both."""
    whole = Path(argument).expanduser()
    hr, comma, lr = argument.partition(",")
    if whole.is_dir() or not comma:
        return whole, None
    return Path(hr).expanduser(), Path(lr).expanduser()


def find_pairs(
    folder: str | os.PathLike[str], lr_dir: str | os.PathLike[str] | None = None
) -> list[Files]:
    """Lists the pairs below a folder without reading them.

    Args:
      folder: HR files, or pairs `NAME_HR.png` and `NAME_LR.png`.
      lr_dir: a folder with one LR file for each HR file. Its name is the HR file's
        name, the same with `_LR` in place of `_HR`, or the same followed by the scale
        (`0802x4`, as in DIV2K).

    Raises:
      SourceError: a folder is missing or empty, or a file has no partner.
    """
    try:
        found = decode.find(Path(folder))
        lr_files = None if lr_dir is None else decode.find(Path(lr_dir))
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
                "of its folder; rename it or move it elsewhere"
            )
    return _match(hr_files or found, Path(folder), lr_files, Path(lr_dir or folder))


def check_sizes(
    files: Files, hr: tuple[int, int], lr: tuple[int, int], scale: int
) -> None:
    """Checks that LR has the size of HR divided by `scale` and rounded down.

    Args:
      files: the pair, for the message.
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
    """Reads a pair. HR is cut to multiples of `scale`, as the makers of LR files do.

    Args:
      files: of the pair.
      scale: HR size over LR size.
      border: of an LR image that is made here, `mirrored` or `clamped`.

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
            "leave it out or give a larger one"
        )
    if files.lr is None:
        lr = imresize(hr, Fraction(1, scale), border=border)
    else:
        lr = decode.read_image(files.lr)
        check_sizes(files, whole.shape[:2], lr.shape[:2], scale)
    return Pair(files.name, lr, hr, grey)


def _match(
    hr_files: Sequence[Path], hr_dir: Path, lr_files: Sequence[Path], lr_dir: Path
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
