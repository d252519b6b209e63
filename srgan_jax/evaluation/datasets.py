"""The data sets of a benchmark: which images there are and how they are named."""

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import NamedTuple

from srgan_jax import paths
from srgan_jax.data import pairs
from srgan_jax.data.source import printable
from srgan_jax.paths import AnyPath

# Folders inside a data set's folder in the supplementary material of SelfExSR.
INNER_FOLDER = re.compile(r"HR|LR|image_SRF_\d+")


class Dataset(NamedTuple):
    """A named list of images to score.

    Attributes:
      name: the label in tables.
      images: the files. Each is named by the HR file's path below the folder, without
        extension, so that equal file names in sub-folders stay distinct.
    """

    name: str
    images: list[pairs.Files]


def open_datasets(
    hr_folders: Sequence[str | os.PathLike[str]],
    lr_folders: Sequence[str | os.PathLike[str]] = (),
) -> list[Dataset]:
    """Lists the images of each folder, without reading them.

    Args:
      hr_folders: folders as in `data.pairs.find_pairs`; `folder:PATH` is the same as
        `PATH`.
      lr_folders: one folder for each of `hr_folders`, or none.

    Returns:
      Data sets labelled by the last folder of their path that is not `HR`, `LR` or
      `image_SRF_N`. If two labels coincide, both become the whole path.

    Raises:
      ValueError: a folder is missing or empty, or its files do not pair up.
    """
    if lr_folders and len(lr_folders) != len(hr_folders):
        raise ValueError(
            f"{len(hr_folders)} folders of HR images but {len(lr_folders)} of LR "
            "images: give one LR folder for each HR folder, in the same order, or none"
        )
    folders = [
        paths.parse(os.fspath(folder).removeprefix("folder:")).expanduser()
        for folder in hr_folders
    ]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ValueError(f"{folder} is given twice: score it once, or in two runs")
    labels = [_label(folder) for folder in folders]
    return [
        Dataset(
            printable(label if labels.count(label) == 1 else folder),
            _with_labels(pairs.find_pairs(folder, lr), folder),
        )
        for label, folder, lr in zip_longest(labels, folders, lr_folders)
    ]


def select(images: Collection[str], datasets: Sequence[Dataset]) -> dict[str, str]:
    """Finds the full names of images that may be given without their sub-folders.

    Args:
      images: names such as `x/img`, or `img` if only one image has this file name.
      datasets: the data sets to search.

    Returns:
      A mapping from given name to full name.

    Raises:
      ValueError: no image has this name, or images in several sub-folders have it.
    """
    known = {files.name for dataset in datasets for files in dataset.images}
    selected = {}
    for image in images:
        found = [name for name in known if name == image] or sorted(
            name for name in known if name.rpartition("/")[2] == image
        )
        if not found:
            raise ValueError(
                f"there is no image named {image}: "
                f"expected one of {', '.join(sorted(known))}"
            )
        if len(found) > 1:
            raise ValueError(f"{image} is ambiguous: choose from {', '.join(found)}")
        selected[image] = found[0]
    return selected


def find(image: str, datasets: Sequence[Dataset]) -> list[pairs.Files]:
    """Returns the files of an image in every data set that has it; see `select`.

    Raises:
      ValueError: no image has this name, or images in several sub-folders have it.
    """
    (name,) = select([image], datasets).values()
    return [files for _, images in datasets for files in images if files.name == name]


def _label(folder: AnyPath) -> str:
    parts = folder.resolve().parts
    named = [part for part in parts if not INNER_FOLDER.fullmatch(part)]
    return named[-1]


def _with_labels(images: Sequence[pairs.Files], folder: AnyPath) -> list[pairs.Files]:
    """Names images by path, with the extension if paths differ only in that."""
    places = [files.hr.relative_to(folder).parent / files.name for files in images]
    count = Counter(places)
    return [
        files._replace(
            name=printable(place) + (files.hr.suffix if count[place] > 1 else "")
        )
        for files, place in zip(images, places, strict=True)
    ]
