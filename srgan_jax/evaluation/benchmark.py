"""Scores of generators on folders of images, each figure with its protocol.

Every image is scored exactly once, whole and at its own size. An image that cannot be
read or scored is named and left out of every mean, so that rows stay comparable.
"""

import contextlib
import csv
import dataclasses
import io
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from srgan_jax.data import resize, sources
from srgan_jax.evaluation import lpips, metrics, pairs

BUILT_IN = ("nearest", "bicubic")

Upscale = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one image; `lpips` is None where it was not asked for."""

    image: str
    psnr: float
    ssim: float
    lpips: float | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """Scores of one generator on one data set under one protocol."""

    weights: str
    dataset: str
    protocol: str
    per_image: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        """The mean over images of each score, as every paper takes it."""
        distances = [s.lpips for s in self.per_image if s.lpips is not None]
        return Score(
            image="mean",
            psnr=float(np.mean([score.psnr for score in self.per_image])),
            ssim=float(np.mean([score.ssim for score in self.per_image])),
            lpips=float(np.mean(distances)) if distances else None,
        )


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
        datasets: Sequence[pairs.Dataset],
        advance: Callable[[], None] = lambda: None,
    ) -> Report:
        """Scores every image of `datasets`; `advance` is called after each of them."""
        report = Report()
        for dataset in datasets:
            scores: dict[tuple[str, str], list[Score]] = {}
            for files in dataset.images:
                try:
                    lr, hr, grey = pairs.read_pair(files, self.scale, self.border)
                    pictures = self._upscale(lr, report)
                    found = self._score(files.name, pictures, hr, grey, report)
                except sources.ImageError as error:  # says itself which file
                    report.failures.append(str(error))
                except ValueError as error:
                    report.failures.append(f"{files.hr}: {error}")
                else:
                    for key, score in found.items():
                        scores.setdefault(key, []).append(score)
                    if files.name in self.keep:
                        pictures["original"] = hr
                        report.kept[dataset.name, files.name] = pictures
                advance()
            for (protocol, name), per_image in scores.items():
                result = Result(name, dataset.name, protocol, tuple(per_image))
                report.results.append(result)
        return report

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
        self,
        image: str,
        pictures: Mapping[str, np.ndarray],
        hr: np.ndarray,
        grey: bool,
        report: Report,
    ) -> dict[tuple[str, str], Score]:
        distances: dict[str, float] = {}
        if self.distance:
            with report.timing("lpips"):
                distances = {n: self.distance(sr, hr) for n, sr in pictures.items()}
        scores: dict[tuple[str, str], Score] = {}
        with report.timing("metrics"):
            for protocol in self.protocols:
                for name, sr in pictures.items():
                    scores[protocol, name] = Score(
                        image,
                        metrics.psnr(
                            sr, hr, protocol=protocol, scale=self.scale, grey=grey
                        ),
                        metrics.ssim(
                            sr, hr, protocol=protocol, scale=self.scale, grey=grey
                        ),
                        distances.get(name),
                    )
        return scores


def as_csv(results: Sequence[Result]) -> str:
    """Every image's scores, one line each, and after them the line of their mean."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "protocol", "weights", "image", "psnr", "ssim", "lpips"]
    )
    for result in results:
        for score in (*result.per_image, result.mean):
            row = dataclasses.astuple(score)
            writer.writerow([result.dataset, result.protocol, result.weights, *row])
    return text.getvalue()


def as_json(results: Sequence[Result]) -> str:
    """The results as a JSON list; an infinite PSNR (equal images) becomes null."""
    records = [
        {
            "weights": result.weights,
            "dataset": result.dataset,
            "protocol": result.protocol,
            "psnr": result.mean.psnr,
            "ssim": result.mean.ssim,
            "lpips": result.mean.lpips,
            "images": len(result.per_image),
            "per_image": [dataclasses.asdict(score) for score in result.per_image],
        }
        for result in results
    ]
    finite = json.loads(json.dumps(records), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, ensure_ascii=False) + "\n"
