"""Scores of one image, and the scores of one row of a table on one data set."""

import dataclasses

import numpy as np

from srgan_jax.data.pairs import Pair
from srgan_jax.evaluation import metrics


@dataclasses.dataclass(frozen=True)
class Score:
    """The scores of one image, or the mean scores of several.

    Attributes:
      image: the image's name.
      psnr: PSNR in dB; infinite for equal images.
      ssim: SSIM, at most 1.
      lpips: LPIPS, or None if it was not measured.
    """

    image: str
    psnr: float
    ssim: float
    lpips: float | None = None

    def caption(self) -> str:
        """Returns the scores as text beneath an image; LPIPS is on a second line."""
        text = f"{self.psnr:.2f} dB / {self.ssim:.4f}"
        return text if self.lpips is None else f"{text}\nLPIPS {self.lpips:.4f}"

    def measured(self) -> dict[str, float]:
        """Returns the scores by name: `psnr`, `ssim` and, if measured, `lpips`."""
        scores = {"psnr": self.psnr, "ssim": self.ssim}
        return scores if self.lpips is None else scores | {"lpips": self.lpips}


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of one generator on one data set under one protocol.

    Attributes:
      weights: the generator's name or file, or the name given to a folder of images.
      dataset: the data set's label.
      protocol: the protocol of PSNR and SSIM.
      per_image: one score for each image that could be scored.
    """

    weights: str
    dataset: str
    protocol: str
    per_image: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        """The mean of each score over the images."""
        distances = [score.lpips for score in self.per_image if score.lpips is not None]
        return Score(
            image="mean",
            psnr=float(np.mean([score.psnr for score in self.per_image])),
            ssim=float(np.mean([score.ssim for score in self.per_image])),
            lpips=float(np.mean(distances)) if distances else None,
        )


def score_image(
    pair: Pair,
    sr: np.ndarray,
    *,
    protocol: metrics.Protocol,
    lpips: float | None = None,
) -> Score:
    """Scores one super-resolved image against its original.

    Args:
      pair: LR and HR. Their sizes give the scale, which sets the protocol's crop.
      sr: uint8 `[height, width, 3]`, of HR's size.
      protocol: protocol of PSNR and SSIM; see `metrics`.
      lpips: the distance of `sr` and HR, which does not depend on the protocol.

    Raises:
      ValueError: `sr` does not have HR's size, or is too small for the protocol.
    """
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    psnr, ssim = (
        metric(sr, pair.hr, protocol=protocol, scale=scale, grey=pair.grey)
        for metric in (metrics.psnr, metrics.ssim)
    )
    return Score(pair.name, psnr, ssim, lpips)
