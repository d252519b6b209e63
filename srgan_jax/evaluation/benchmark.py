"""Scores generators, and images made by other programs, on folders of original images.

Every image is scored once, at its own size. An image that cannot be read or scored is
reported and left out of every mean, so that the rows of a table stay comparable.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from srgan_jax.data import pairs, resize
from srgan_jax.evaluation import figures, lpips, matching, metrics
from srgan_jax.evaluation.datasets import Dataset
from srgan_jax.evaluation.rows import BUILT_IN, ORIGINAL, Upscale
from srgan_jax.evaluation.scores import Result, Score, score_image
from srgan_jax.images import decode
from srgan_jax.paths import AnyPath


@dataclasses.dataclass
class Report:
    """The outcome of a benchmark.

    Attributes:
      results: the scores, ordered by data set, protocol and row.
      failures: one sentence for each image that was left out.
      cut: maps each row to the files that were cropped to their original's size.
      kept: maps `(data set, image)` to the images of every row and the `original`,
        uint8 `[height, width, 3]`; see `Benchmark.keep`.
      seconds: time spent on `generator`, `metrics` and `lpips`, compilation included.
    """

    results: list[Result] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    cut: dict[str, list[Path]] = dataclasses.field(default_factory=dict)
    kept: dict[tuple[str, str], dict[str, np.ndarray]] = dataclasses.field(
        default_factory=dict
    )
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"generator": 0.0, "metrics": 0.0, "lpips": 0.0}
    )

    @contextlib.contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Adds the time that the block takes to `seconds`."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def notes(self) -> list[str]:
        """Returns sentences on the time spent and on images cropped or left out."""
        spent = ", ".join(f"{part} {s:.1f} s" for part, s in self.seconds.items())
        sentences = [f"time: {spent}"]
        for row, paths in self.cut.items():
            names = ", ".join(path.name for path in paths)
            sentences.append(
                f"{row}: {len(paths)} images are cropped to the size of their "
                f"originals, which are cropped to a multiple of the scale: {names}"
            )
        sentences += [f"left out: {failure}" for failure in self.failures]
        return sentences


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """The rows of a table and how they are scored.

    The rows are nearest neighbour, bicubic, the generators and the folders of images.

    Attributes:
      generators: maps names to functions from uint8 `[h, w, 3]` to
        `[scale h, scale w, 3]`.
      scale: upscaling factor of the generators and images.
      images: maps names to the image file of each HR file; see `rows.match_images`.
      protocols: protocols of PSNR and SSIM; each gives one `Result` per row.
      distance: LPIPS, or None to leave it out.
      border: border handling of the bicubic that makes LR and the row `bicubic`.
      keep: names of images whose pixels the report keeps.
      extremes: the report also keeps this many of the worst and of the best images,
        ranked by the scores of `subject`. Large images are cropped to the part where
        the rows differ most, see `figures.crop_large`.
    """

    generators: Mapping[str, Upscale]
    scale: int = 4
    images: Mapping[str, Mapping[AnyPath, Path]] = dataclasses.field(
        default_factory=dict
    )
    protocols: Sequence[metrics.Protocol] = ("standard",)
    distance: lpips.Lpips | None = None
    border: resize.Border = "mirrored"
    keep: Collection[str] = ()
    extremes: int = 0

    def check_rows(self, names: Sequence[str]) -> None:
        """Raises a ValueError unless every name is a row."""
        rows = (*BUILT_IN, *self.generators, *self.images)
        for name in names:
            if name not in rows:
                raise ValueError(
                    f"no row is named {name}: choose from {', '.join(rows)}"
                )

    @property
    def subject(self) -> str:
        """The row that ranks the images: the first one that is not built in."""
        return next(iter([*self.generators, *self.images]), "bicubic")

    def run(
        self,
        datasets: Sequence[Dataset],
        advance: Callable[[], None] = lambda: None,
    ) -> Report:
        """Scores every image of the data sets.

        Args:
          datasets: the data sets to score.
          advance: called after each image.
        """
        report = Report()
        ranks: dict[tuple[str, str], float] = {}
        for dataset in datasets:
            scores: dict[tuple[str, str], list[Score]] = {}
            for files in dataset.images:
                found = self._attempt(dataset.name, files, report)
                for key, score in found.items():
                    scores.setdefault(key, []).append(score)
                if found:
                    score = found[self.protocols[0], self.subject]
                    ranks[dataset.name, files.name] = quality(score)
                    self._forget(report, ranks)
                advance()
            for (protocol, name), per_image in scores.items():
                result = Result(name, dataset.name, protocol, tuple(per_image))
                report.results.append(result)
        return report

    def upscale(
        self, pair: pairs.Pair, hr_file: AnyPath, report: Report
    ) -> dict[str, np.ndarray]:
        """Returns the image of every row, uint8 `[height, width, 3]`, of HR's size.

        Args:
          pair: LR and HR.
          hr_file: the original's file, the key to other programs' images in `images`.
          report: receives the time spent and the files that were cropped.

        Raises:
          OSError: another program's image cannot be read.
          ValueError: another program's image does not have its original's size.
        """
        images = {
            "nearest": pair.lr.repeat(self.scale, axis=0).repeat(self.scale, axis=1),
            "bicubic": resize.imresize(pair.lr, self.scale, border=self.border),
        }
        with report.timing("generator"):
            for name, generator in self.generators.items():
                images[name] = generator(pair.lr)
        for name, image_files in self.images.items():
            path = image_files[hr_file]
            image = decode.read_image(path)
            try:
                if image.shape == pair.hr.shape:
                    images[name] = image
                    continue
                whole = decode.read_image(hr_file).shape
                images[name] = matching.cut_to(image, pair.hr, whole)
            except ValueError as error:
                raise ValueError(f"{path} {error}") from None
            if images[name].shape != image.shape:
                report.cut.setdefault(name, []).append(path)
        return images

    def _attempt(
        self, dataset: str, files: pairs.Files, report: Report
    ) -> dict[tuple[str, str], Score]:
        """Scores one image; a failure goes to the report and gives an empty dict."""
        try:
            pair = pairs.read_pair(files, scale=self.scale, border=self.border)
        except (OSError, ValueError) as error:  # both name the file
            report.failures.append(str(error))
            return {}
        try:
            images = self.upscale(pair, files.hr, report)
            scores = self._score(pair, images, report)
        except (OSError, ValueError, MemoryError, RuntimeError) as error:
            report.failures.append(f"{files.hr}: {error}")
            return {}
        images[ORIGINAL] = pair.hr
        if pair.name in self.keep:
            report.kept[dataset, pair.name] = images
        elif self.extremes:
            report.kept[dataset, pair.name] = figures.crop_large(images)
        return scores

    def _score(
        self, pair: pairs.Pair, images: Mapping[str, np.ndarray], report: Report
    ) -> dict[tuple[str, str], Score]:
        distances: dict[str, float] = {}
        if self.distance:
            with report.timing("lpips"):
                for name, sr in images.items():
                    distances[name] = self.distance(sr, pair.hr)
        with report.timing("metrics"):
            return {
                (protocol, name): score_image(
                    pair, sr, protocol=protocol, lpips=distances.get(name)
                )
                for protocol in self.protocols
                for name, sr in images.items()
            }

    def _forget(self, report: Report, ranks: Mapping[tuple[str, str], float]) -> None:
        """Drops images that are neither in `keep` nor among the extremes so far."""
        ranked = sorted(ranks, key=lambda key: ranks[key])
        for key in ranked[self.extremes : len(ranked) - self.extremes]:
            if key[1] not in self.keep:
                report.kept.pop(key, None)


def quality(score: Score) -> float:
    """Returns the number that ranks images; larger is better.

    It is the negative LPIPS if LPIPS was measured, PSNR otherwise.
    """
    return score.psnr if score.lpips is None else -score.lpips
