"""The rows of a table: generators, and folders of images made by other programs."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import srgan_jax
from srgan_jax import paths
from srgan_jax.evaluation import matching
from srgan_jax.evaluation.datasets import Dataset
from srgan_jax.paths import AnyPath
from srgan_jax.weights import files

BUILT_IN = ("nearest", "bicubic")
ORIGINAL = "original"

Upscale = Callable[[np.ndarray], np.ndarray]


def load_generators(
    names: Sequence[str],
    *,
    scale: int | None = None,
    tile: int | None = None,
    dtype: str = "float32",
    padding: str = "zero",
    offline: bool = False,
) -> tuple[dict[str, Upscale], int]:
    """Loads generators that share a scale.

    Args:
      names: catalog names or files; names of built-in rows are skipped.
      scale: the scale that the generators must have. None takes the generators' scale,
        or 4 if there are none.
      tile: see `srgan_jax.load`.
      dtype: `float32` or `bfloat16`.
      padding: `zero`, as in training and in other programs, or `symmetric`.
      offline: forbid downloads.

    Returns:
      A mapping from name to upscaling function, and the scale.

    Raises:
      ValueError: the weights are not available, or the scales differ.
    """
    generators = {
        name: srgan_jax.load(
            name, tile=tile, dtype=dtype, padding=padding, offline=offline
        )
        for name in names
        if name not in BUILT_IN
    }
    scales = {name: generator.scale for name, generator in generators.items()}
    if len(set(scales.values())) > 1:
        raise ValueError(
            "generators of different scales cannot share a table: "
            + ", ".join(f"{name} is x{scale}" for name, scale in scales.items())
        )
    found = next(iter(scales.values()), scale or 4)
    if scale not in (None, found):
        raise ValueError(
            f"--scale is {scale}, but the generators are x{found}: leave --scale out"
        )
    return dict(generators), found


class Blend(NamedTuple):
    """The generators and weight of an interpolation: `(1 - alpha) a + alpha b`."""

    a: str
    b: str
    alpha: float


def find_blends(names: Sequence[str]) -> dict[str, Blend]:
    """Finds the generators that were interpolated between two others.

    Args:
      names: catalog names, or files such as `srgan-jax weights blend` writes.

    Returns:
      A mapping from the name of each interpolated generator to its interpolation.
    """
    blends = {}
    for name in names:
        path = paths.parse(name)
        known = files.metadata(path) if path.is_file() else {}
        if "blend" in known:
            a, b = known["blend"]
            blends[name] = Blend(a, b, known["alpha"])
    return blends


def match_images(
    specs: Sequence[str], datasets: Sequence[Dataset], generators: Collection[str] = ()
) -> dict[str, dict[AnyPath, Path]]:
    """Finds the images that other programs made from the data sets' originals.

    Args:
      specs: `NAME=FOLDER`, where FOLDER may be a pattern such as `out/*_SRGAN.png`. A
        sub-folder named like a data set holds the images of that set.
      datasets: the originals.
      generators: names that other rows already use.

    Returns:
      A mapping from name to the image file of each HR file.

    Raises:
      ValueError: a spec is malformed, or an original's image is missing or ambiguous.
    """
    images: dict[str, dict[AnyPath, Path]] = {}
    for spec in specs:
        name, _, place = spec.partition("=")
        if not name or not place:
            raise ValueError(f"'{spec}' is not NAME=FOLDER, as in SRGAN=outputs/set5")
        if name in (*BUILT_IN, ORIGINAL, *generators, *images):
            raise ValueError(f"'{name}' is the name of another row: choose another")
        images[name] = {}
        folder = paths.parse_local(place).expanduser()
        for dataset in datasets:
            labels = [image.name for image in dataset.images]
            found = matching.find_images(labels, folder, dataset.name)
            images[name] |= {i.hr: found[i.name] for i in dataset.images}
    return images
