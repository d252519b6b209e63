"""Scores of generators on folders of images, each figure with its protocol.

Every image is scored exactly once, at its own size. An image that cannot be read or
scored is named and left out of every mean, so that rows stay comparable.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import product, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax.data import pairs, resize
from srgan_jax.evaluation import lpips, metrics
from srgan_jax.evaluation.tables import Result, Score
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.weights import store

BUILT_IN = ("nearest", "bicubic")

Upscale = Callable[[np.ndarray], np.ndarray]


class Dataset(NamedTuple):
    """A named list of images to score."""

    name: str
    images: list[pairs.Files]


@dataclasses.dataclass
class Report:
    """What a benchmark found.

    Attributes:
        results: in the order data set, protocol, generator.
        failures: a sentence for each image that was left out.
        kept: the pictures asked for: `(data set, image)` to each generator's SR, and
            the `original`.
        seconds: spent on `generator`, `metrics` and `lpips`, compilation included.
    """

    results: list[Result] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    kept: dict[tuple[str, str], dict[str, np.ndarray]] = dataclasses.field(
        default_factory=dict
    )
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"generator": 0.0, "metrics": 0.0, "lpips": 0.0}
    )

    @contextlib.contextmanager
    def timing(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Nearest neighbour, bicubic and any generators, and how they are scored.

    Attributes:
        generators: name to function, uint8 `[h, w, 3]` to `[scale h, scale w, 3]`.
        scale: of the generators.
        protocols: one `Result` for each.
        distance: LPIPS, or None to leave it out.
        border: of the bicubic that makes LR and the row `bicubic`.
        keep: names of the images whose pictures the report shall hold.
    """

    generators: Mapping[str, Upscale]
    scale: int = 4
    protocols: Sequence[metrics.Protocol] = ("standard",)
    distance: lpips.Lpips | None = None
    border: resize.Border = "mirrored"
    keep: Collection[str] = ()

    def run(
        self,
        datasets: Sequence[Dataset],
        advance: Callable[[], None] = lambda: None,
    ) -> Report:
        """Scores every image of `datasets`; `advance` is called after each of them."""
        report = Report()
        for dataset in datasets:
            scores: dict[tuple[str, str], list[Score]] = {}
            for files in dataset.images:
                found = self._attempt(dataset.name, files, report)
                for key, score in found.items():
                    scores.setdefault(key, []).append(score)
                advance()
            for (protocol, name), per_image in scores.items():
                result = Result(name, dataset.name, protocol, tuple(per_image))
                report.results.append(result)
        return report

    def _attempt(
        self, dataset: str, files: pairs.Files, report: Report
    ) -> dict[tuple[str, str], Score]:
        """The scores of one image, or none and a failure in the report."""
        try:
            pair = pairs.read_pair(files, scale=self.scale, border=self.border)
        except (OSError, ValueError) as error:  # both name the file
            report.failures.append(str(error))
            return {}
        try:
            pictures = self._upscale(pair.lr, report)
            scores = self._score(pair, pictures, report)
        except (ValueError, MemoryError, RuntimeError) as error:  # or out of memory
            report.failures.append(f"{files.hr}: {error}")
            return {}
        if pair.name in self.keep:
            report.kept[dataset, pair.name] = pictures | {"original": pair.hr}
        return scores

    def _upscale(self, lr: np.ndarray, report: Report) -> dict[str, np.ndarray]:
        pictures = {
            "nearest": lr.repeat(self.scale, axis=0).repeat(self.scale, axis=1),
            "bicubic": resize.imresize(lr, self.scale, border=self.border),
        }
        with report.timing("generator"):
            for name, upscale in self.generators.items():
                pictures[name] = upscale(lr)
        return pictures

    def _score(
        self, pair: pairs.Pair, pictures: Mapping[str, np.ndarray], report: Report
    ) -> dict[tuple[str, str], Score]:
        distances: dict[str, float] = {}
        if self.distance:
            with report.timing("lpips"):
                for name, sr in pictures.items():
                    distances[name] = self.distance(sr, pair.hr)
        scores: dict[tuple[str, str], Score] = {}
        with report.timing("metrics"):
            for protocol, (name, sr) in product(self.protocols, pictures.items()):
                distance = distances.get(name)
                scores[protocol, name] = score(sr, pair, protocol, distance)
        return scores


def score(
    sr: np.ndarray,
    pair: pairs.Pair,
    protocol: metrics.Protocol,
    distance: float | None = None,
) -> Score:
    """PSNR and SSIM of an upscaled image under a protocol, with its LPIPS distance."""
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    psnr, ssim = (
        metric(sr, pair.hr, protocol=protocol, scale=scale, grey=pair.grey)
        for metric in (metrics.psnr, metrics.ssim)
    )
    return Score(pair.name, psnr, ssim, distance)


def load_generators(names: Sequence[str]) -> tuple[dict[str, Upscale], int]:
    """Name to upscaling function, and the scale that all of them share.

    Args:
        names: of the catalog, or of files; built-in rows need no loading.

    Raises:
        ValueError: weights that cannot be had, or generators of different scales.
    """
    generators = {
        name: Upscaler(*store.load_generator(name))
        for name in names
        if name not in BUILT_IN
    }
    scales = {name: generator.scale for name, generator in generators.items()}
    if len(set(scales.values())) > 1:
        raise ValueError(
            "generators of different scales cannot share a table: "
            + ", ".join(f"{name} is x{scale}" for name, scale in scales.items())
        )
    return dict(generators), next(iter(scales.values()), 4)


def check_names(images: Collection[str], datasets: Sequence[Dataset]) -> None:
    """Raises a ValueError unless each of `images` is one of the data sets'."""
    known = {files.name for dataset in datasets for files in dataset.images}
    unknown = sorted(set(images) - known)
    if unknown:
        raise ValueError(
            f"there is no image named {unknown[0]}: "
            f"expected one of {', '.join(sorted(known))}"
        )


def open_datasets(
    hr_folders: Sequence[str | os.PathLike[str]],
    lr_folders: Sequence[str | os.PathLike[str]] = (),
) -> list[Dataset]:
    """Lists the images of each folder, without reading them.

    Args:
        hr_folders: see `data.pairs.find_pairs`.
        lr_folders: none, or one for each of `hr_folders`.

    Returns:
        Data sets named like their folders; where names coincide, by the whole path.

    Raises:
        ValueError: a folder is missing or empty, or its files do not pair up.
    """
    if lr_folders and len(lr_folders) != len(hr_folders):
        raise ValueError(
            f"{len(hr_folders)} folders of HR images but {len(lr_folders)} of LR "
            "images: give one LR folder for each HR folder, in the same order, or none"
        )
    names = [Path(folder).resolve().name for folder in hr_folders]
    return [
        Dataset(name if names.count(name) == 1 else str(hr), pairs.find_pairs(hr, lr))
        for name, hr, lr in zip_longest(names, hr_folders, lr_folders)
    ]
