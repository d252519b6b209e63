"""Evaluation sets: LR and HR as benchmarks have them.

A set is a folder of originals (LR is then made by MATLAB's bicubic), a folder of `*_HR`
and `*_LR` pairs, one folder of each, or a source of training photographs. Supplied LR
files are used as they are. Files that do not pair up are refused, and so are pairs
whose sizes do not belong together.
"""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from srgan_jax.data import sources
from srgan_jax.data.resize import imresize, mod_crop
from srgan_jax.images import decode as pictures

Image = npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """An image of an evaluation set.

    Attributes:
        name: the HR file's name without its extension.
        lr: uint8 `[height, width, 3]`.
        hr: uint8 `[scale * height, scale * width, 3]`.
        grey: whether the HR file has a single channel, which protocols score apart.
    """

    name: str
    lr: Image
    hr: Image
    grey: bool


class Files(NamedTuple):
    """The files of a pair; without `lr`, LR is made from `hr`."""

    name: str
    hr: Path
    lr: Path | None


def evaluation_pairs(
    spec: str,
    *,
    scale: int,
    border: str = "mirrored",
    lr_dir: str | os.PathLike[str] | None = None,
) -> list[Pair]:
    """All pairs of an evaluation set, in memory.

    Args:
        spec: as for `sources.open_source`; of `tfds:NAME` the split `validation`
            unless another is named.
        scale: HR size over LR size.
        border: of the LR that is made here, `mirrored` or `clamped`.
        lr_dir: a folder with the LR files of a `folder:` spec, see `find_pairs`.

    Raises:
        sources.SourceError: no such set, or files that do not pair up.
        sources.ImageError: a file that cannot be read.
        ValueError: LR and HR whose sizes do not belong together.
    """
    kind, _, argument = spec.partition(":")
    if kind == "folder" and argument:
        files = find_pairs(argument, lr_dir)
        return [read_pair(pair, scale=scale, border=border) for pair in files]
    if lr_dir is not None:
        raise sources.SourceError(
            f"A folder of LR files belongs to 'folder:PATH', not to {spec!r}."
        )
    if kind == "tfds" and ":" not in argument:
        spec += ":validation"
    source = sources.open_source(spec, minimum_size=scale)
    pairs = []
    for index, label in enumerate(source.labels):
        hr = mod_crop(source.image(index), scale)
        lr = imresize(hr, Fraction(1, scale), border=border)
        pairs.append(Pair(label, lr, hr, grey=False))
    return pairs


def find_pairs(
    folder: str | os.PathLike[str], lr_dir: str | os.PathLike[str] | None = None
) -> list[Files]:
    """Lists the pairs below a folder without reading them.

    Args:
        folder: of HR files, or of pairs `NAME_HR.png` and `NAME_LR.png`.
        lr_dir: a folder with an LR file for each HR file, of the same name but for
            `_LR` in place of `_HR`, or the scale (`0802x4`, as DIV2K has it).

    Raises:
        sources.SourceError: a folder is missing or empty, or its files do not pair up.
    """
    try:
        found = pictures.find(Path(folder))
        lr_files = None if lr_dir is None else pictures.find(Path(lr_dir))
    except ValueError as error:
        raise sources.SourceError(str(error)) from error
    hr_files = [path for path in found if path.stem.endswith("_HR")]
    if lr_files is None and not hr_files:
        return [Files(path.stem, path, None) for path in found]
    if lr_files is None:
        lr_files = [path for path in found if path.stem.endswith("_LR")]
        odd = set(found) - set(hr_files) - set(lr_files)
        if odd:
            raise sources.SourceError(
                f"{min(odd)} is neither *_HR nor *_LR, as other files beside it are."
            )
    return _match(hr_files or found, Path(folder), lr_files, Path(lr_dir or folder))


def read_pair(files: Files, *, scale: int, border: str = "mirrored") -> Pair:
    """Reads a pair; HR is cut to a multiple of `scale`, as the makers of LR do.

    Raises:
        sources.ImageError: a file cannot be read.
        ValueError: the supplied LR is not HR's size divided by `scale`.
    """
    stored = pictures.decode_image(pictures.read_bytes(files.hr), str(files.hr)).pixels
    whole, grey = pictures.to_rgb(stored), stored.ndim == 2
    hr = mod_crop(whole, scale)
    if not hr.size:
        raise ValueError(f"{files.hr} has fewer than {scale}x{scale} pixels.")
    if files.lr is None:
        return Pair(
            files.name, imresize(hr, Fraction(1, scale), border=border), hr, grey
        )
    lr = pictures.read_image(files.lr)
    if hr.shape[:2] != (scale * lr.shape[0], scale * lr.shape[1]):
        raise ValueError(
            f"{files.hr} of {whole.shape[1]}x{whole.shape[0]} pixels is not {scale} "
            f"times {files.lr} of {lr.shape[1]}x{lr.shape[0]}: expected the LR file "
            "that belongs to it, at the generator's scale."
        )
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
            raise sources.SourceError(
                f"{path} has {len(found)} LR files in {lr_dir}: expected one of the "
                f"same name, {name}_LR, or {name} and the scale, such as {name}x4."
            )
        pairs.append(Files(name, path, found[0]))
    if left:
        raise sources.SourceError(f"{min(left.values())} has no HR file in {hr_dir}.")
    return pairs
