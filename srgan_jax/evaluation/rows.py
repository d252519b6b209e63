"""The rows of a table: generators, and folders of images that other programs made."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import srgan_jax
from srgan_jax.evaluation import matching
from srgan_jax.evaluation.datasets import Dataset
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
      names: of the catalog, or of files; built-in rows need no loading.
      scale: the scale they must have; None takes theirs, or 4 without generators.
      tile: see `srgan_jax.load`, also for `dtype` and `padding`.
      dtype: `float32` or `bfloat16`.
      padding: `zero`, as in training and in other programs, or `symmetric`.
      offline: refuse to download.

    Returns:
      Name to upscaling function, and the scale.

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
            f"the generators are x{found}, not x{scale}: leave out --scale"
        )
    return dict(generators), found


class Blend(NamedTuple):
    """How a generator was interpolated: `(1 - alpha) a + alpha b`."""

    a: str
    b: str
    alpha: float


def find_blends(names: Sequence[str]) -> dict[str, Blend]:
    """Returns which of the generators were interpolated, and between which two.

    Args:
      names: of the catalog, or of files, such as `srgan-jax weights blend` writes.
    """
    blends = {}
    for name in names:
        known = files.metadata(Path(name)) if Path(name).is_file() else {}
        if "blend" in known:
            a, b = known["blend"]
            blends[name] = Blend(a, b, known["alpha"])
    return blends


def match_images(
    specs: Sequence[str], datasets: Sequence[Dataset], generators: Collection[str] = ()
) -> dict[str, dict[Path, Path]]:
    """Finds the images that other programs made of the data sets' originals.

    Args:
      specs: `NAME=FOLDER`, where FOLDER may be a pattern such as `out/*_SRGAN.png`. A
        sub-folder named like a data set holds that set's images.
      datasets: the originals.
      generators: names that are rows already.

    Returns:
      Name to the image file of each HR file.

    Raises:
      ValueError: a spec is malformed, or an original's image is missing or ambiguous.
    """
    images: dict[str, dict[Path, Path]] = {}
    for spec in specs:
        name, _, place = spec.partition("=")
        if not name or not place:
            raise ValueError(f"'{spec}' is not NAME=FOLDER, as in SRGAN=outputs/set5")
        if name in (*BUILT_IN, ORIGINAL, *generators, *images):
            raise ValueError(f"'{name}' is the name of another row: choose another")
        images[name] = {}
        folder = Path(place).expanduser()
        for dataset in datasets:
            labels = [image.name for image in dataset.images]
            found = matching.find_images(labels, folder, dataset.name)
            images[name] |= {i.hr: found[i.name] for i in dataset.images}
    return images
