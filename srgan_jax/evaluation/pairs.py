"""Which LR belongs to which HR, in folders as benchmarks come.

A data set is a folder of originals (LR is then made by MATLAB's bicubic), a folder of
`*_HR` and `*_LR` pairs, or one folder of each; supplied LR files are used as they are.
Folders that are empty or do not pair up are refused, and so are pairs whose sizes do
not belong together.
"""

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from srgan_jax.data import resize, sources


class Files(NamedTuple):
    """One image of a data set; without `lr`, LR is made from `hr`."""

    name: str
    hr: Path
    lr: Path | None


class Dataset(NamedTuple):
    """A named list of images to score."""

    name: str
    images: list[Files]


def open_datasets(
    hr_folders: Sequence[str | os.PathLike[str]],
    lr_folders: Sequence[str | os.PathLike[str]] = (),
) -> list[Dataset]:
    """Lists the images of each folder, without reading them.

    Args:
        hr_folders: originals, or `*_HR` and `*_LR` pairs; subfolders are not searched.
        lr_folders: none, or one for each of `hr_folders`, with LR files named like
            their originals, or with `_LR`, or with the scale (`0802x4`, as in DIV2K).

    Raises:
        ValueError: a folder is missing or empty, or its files do not pair up.
    """
    if lr_folders and len(lr_folders) != len(hr_folders):
        raise ValueError(
            f"{len(hr_folders)} folders of HR images but {len(lr_folders)} of LR "
            "images: give one LR folder for each HR folder, in the same order, or none"
        )
    folders = [Path(folder) for folder in hr_folders]
    bases = [folder.resolve().name for folder in folders]
    datasets = []
    for index, (folder, base) in enumerate(zip(folders, bases, strict=True)):
        name = base if bases.count(base) == 1 else str(folder)
        lr = _images(Path(lr_folders[index])) if lr_folders else None
        datasets.append(Dataset(name, _pair(_images(folder), lr)))
    return datasets


def read_pair(
    files: Files, scale: int, border: resize.Border = "mirrored"
) -> tuple[np.ndarray, np.ndarray, bool]:
    """LR and HR as uint8 RGB `[height, width, 3]`, and whether HR's file is grey.

    HR is cropped to a multiple of `scale`, as LR's makers do.

    Raises:
        sources.ImageError: a file cannot be read.
        ValueError: the supplied LR is not HR's size divided by `scale`.
    """
    whole = sources.read_image(files.hr)
    with PIL.Image.open(files.hr) as image:
        grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    hr = resize.mod_crop(whole, scale)
    if files.lr is None:
        return resize.imresize(hr, Fraction(1, scale), border=border), hr, grey
    lr = sources.read_image(files.lr)
    if hr.shape[:2] != (scale * lr.shape[0], scale * lr.shape[1]):
        raise ValueError(
            f"its {whole.shape[1]}x{whole.shape[0]} pixels are not {scale} times the "
            f"{lr.shape[1]}x{lr.shape[0]} of {files.lr}: give the LR images that "
            "belong to it, or a generator of their scale"
        )
    return lr, hr, grey


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found = [p for p in folder.iterdir() if p.suffix.lower() in sources.EXTENSIONS]
    if not found:
        raise ValueError(
            f"the folder {folder} holds no image ({', '.join(sources.EXTENSIONS)}); "
            "its subfolders are not searched"
        )
    return sorted(found)


def _pair(images: list[Path], lr: list[Path] | None) -> list[Files]:
    hr = [path for path in images if path.stem.endswith("_HR")]
    if lr is None and not hr:
        return [Files(path.stem, path, None) for path in images]
    if lr is None:
        lr = [path for path in images if path not in hr]
    hr = hr or images
    partners: dict[str, list[Path]] = {}
    for path in (*hr, *lr):
        # Set5's img_001_SRF_4_HR and img_001_SRF_4_LR, DIV2K's 0802 and 0802x4
        partners.setdefault(re.sub("(_HR|_LR|x[248])$", "", path.stem), []).append(path)
    for found in partners.values():
        if len(found) != 2 or found[0] not in hr or found[1] not in lr:
            raise ValueError(
                f"{' and '.join(map(str, found))}: expected one HR and one LR image of "
                "this name (name.png or name_HR.png; name.png, name_LR.png or "
                "namex4.png)"
            )
    return [Files(found[0].stem, *found) for found in partners.values()]
