"""Scores of generators on folders of images, each figure with its protocol."""

import dataclasses
import math
from typing import Any

import numpy as np


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
    def images(self) -> int:
        return len(self.per_image)

    @property
    def mean(self) -> Score:
        """The mean over images of each score, as every paper takes it."""
        lpips = [score.lpips for score in self.per_image if score.lpips is not None]
        return Score(
            image="mean",
            psnr=float(np.mean([score.psnr for score in self.per_image])),
            ssim=float(np.mean([score.ssim for score in self.per_image])),
            lpips=float(np.mean(lpips)) if lpips else None,
        )

    def record(self) -> dict[str, Any]:
        """The result as JSON has it; an infinite PSNR (equal images) becomes None."""
        mean = _finite(self.mean)
        return {
            "weights": self.weights,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "psnr": mean["psnr"],
            "ssim": mean["ssim"],
            "lpips": mean["lpips"],
            "images": self.images,
            "per_image": [_finite(score) for score in self.per_image],
        }


def _finite(score: Score) -> dict[str, Any]:
    record = dataclasses.asdict(score)
    return record | {"psnr": score.psnr if math.isfinite(score.psnr) else None}
