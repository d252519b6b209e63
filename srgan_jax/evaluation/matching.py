"""Finds the images that another program made from the originals of a data set.

Programs rename their outputs: `baby.png` becomes `baby_SRGAN.png`, `0801.png` becomes
`0801x4.png`. The images match if one prefix and one suffix, the same for all, turn
every original's label into the name of a file in the folder. Nothing is guessed: a
missing or ambiguous match is an error that names the image.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from srgan_jax.data.source import printable
from srgan_jax.images import decode


def find_images(
    labels: Sequence[str], folder: Path, dataset: str = ""
) -> dict[str, Path]:
    """Matches each label to an image file.

    Args:
      labels: the originals' paths below their folder, without extension.
      folder: folder of the images, or a pattern such as `FOLDER/*_SRGAN.png`.
      dataset: if there are images below a sub-folder of this name, only they count.

    Returns:
      A mapping from label to file.

    Raises:
      ValueError: there is no such folder, or a label has no file or several.
    """
    stems: dict[str, list[Path]] = {}
    listed = _list(folder)
    inside = [
        (place, path)
        for place, path in listed
        if f"/{dataset}/" in f"/{place.parent.as_posix()}/"
    ]
    for place, path in inside or listed:
        stems.setdefault(printable(place.with_suffix("")), []).append(path)
    affixes = [_affixes(label, stems) for label in labels]
    shared = set.intersection(*affixes)
    if not shared:
        raise ValueError(_describe_missing(labels, affixes, folder))
    found = {
        label: sorted({path for affix in shared for path in stems[label.join(affix)]})
        for label in labels
    }
    for label, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(str(path) for path in paths)
            raise ValueError(
                f"'{label}' has {len(paths)} images in {folder} ({names}): select the "
                "right ones with a pattern such as 'FOLDER/*_SRGAN.png'"
            )
    return {label: paths[0] for label, paths in found.items()}


def cut_to(image: np.ndarray, hr: np.ndarray, whole: tuple[int, ...]) -> np.ndarray:
    """Crops an image to the original's size if the mod-crop explains the difference.

    Args:
      image: `[h, w, 3]`, as another program wrote it.
      hr: the original `[height, width, 3]`, cropped to multiples of the scale.
      whole: height and width of the original before that.

    Returns:
      The top-left part of `image`, which has the original's size.

    Raises:
      ValueError: the image has neither of the two sizes.
    """
    height, width = hr.shape[:2]
    if not (
        image.shape[0] in (height, whole[0]) and image.shape[1] in (width, whole[1])
    ):
        raise ValueError(
            f"is {image.shape[1]}x{image.shape[0]} but its original "
            f"{width}x{height}: expected this size, or the original's size before it "
            f"was cropped to a multiple of the scale, {whole[1]}x{whole[0]}"
        )
    return image[:height, :width]


def _list(folder: Path) -> list[tuple[Path, Path]]:
    """Lists each image file as its path relative to the folder and its full path."""
    parts = folder.parts
    fixed = list(itertools.takewhile(lambda part: "*" not in part, parts))
    root = Path(*fixed)
    if root == folder:
        paths = decode.find(folder)
    else:
        paths = sorted(root.glob(str(Path(*parts[len(fixed) :]))))
    if not paths:
        raise ValueError(
            f"no file matches '{folder}': expected a folder of images, or a pattern"
        )
    return [(path.relative_to(root), path) for path in paths]


def _affixes(label: str, stems: Iterable[str]) -> set[tuple[str, str]]:
    """Returns the prefix and suffix of the label in each stem that contains the label.

    A separator must stand between them and the label, so that `img_1` is not found in
    `img_10`. Only a scale, as in `0801x4`, needs no separator.
    """
    # The lookahead finds overlapping occurrences of the label too.
    start = re.compile(
        rf"(?<![0-9A-Za-z])(?={re.escape(label)}($|[^0-9A-Za-z]|x[0-9]+$))"
    )
    return {
        (stem[: at.start()], stem[at.start() + len(label) :])
        for stem in stems
        for at in start.finditer(stem)
    }


def _describe_missing(
    labels: Sequence[str], affixes: Sequence[set[tuple[str, str]]], folder: Path
) -> str:
    counted = [affix for found in affixes for affix in found]
    if not counted:
        return (
            f"{folder} has no image for any of the originals, such as '{labels[0]}': "
            "expected the original's name with a common prefix or suffix"
        )
    prefix, suffix = max(sorted(set(counted)), key=counted.count)
    missing = [
        label
        for label, found in zip(labels, affixes, strict=True)
        if (prefix, suffix) not in found
    ]
    names = ", ".join(f"'{prefix}{label}{suffix}'" for label in missing)
    return (
        f"{folder} has no image named {names}, but the other images are named like "
        "this: add the image or rename it"
    )
