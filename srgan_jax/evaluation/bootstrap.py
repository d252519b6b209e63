"""Bootstrap confidence intervals of the difference of two rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from srgan_jax.evaluation.scores import Result

RESAMPLES = 10_000


class Difference(NamedTuple):
    """The difference of two means and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def differences(a: Result, b: Result, *, seed: int = 0) -> dict[str, Difference]:
    """Compares two rows on the same images by a paired bootstrap over images.

    Each resample draws images with replacement and takes the mean of the differences.
    The interval runs from the 2.5 % to the 97.5 % quantile of these means.

    Args:
      a: one row.
      b: another row of the same data set and protocol.
      seed: seed of the random draws.

    Returns:
      Mean of `a` minus mean of `b`, for `psnr`, `ssim` and, if measured, `lpips`.

    Raises:
      ValueError: there are fewer than two images, or a score is not finite.
    """
    if len(a.per_image) < 2:
        raise ValueError(
            f"{a.dataset} has {len(a.per_image)} image: a comparison needs at least two"
        )
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(a.per_image), size=(RESAMPLES, len(a.per_image)))
    found = {}
    for name in a.mean.measured():
        x, y = ([s.measured()[name] for s in row.per_image] for row in (a, b))
        if not np.isfinite([x, y]).all():
            raise ValueError(
                f"{a.weights} or {b.weights} equals an original, whose {name} is "
                "infinite: leave the image out to compare them"
            )
        delta = np.subtract(x, y)
        low, high = np.quantile(delta[draws].mean(axis=1), [0.025, 0.975])
        found[name] = Difference(float(delta.mean()), float(low), float(high))
    return found


def describe(results: Sequence[Result], a: str, b: str) -> str:
    """Returns the differences of two rows, by data set and protocol, as text.

    Args:
      results: the results of a benchmark.
      a: name of one row.
      b: name of another row.

    Raises:
      ValueError: there are fewer than two images, or a score is not finite.
    """
    lines = []
    rows = {(r.dataset, r.protocol, r.weights): r for r in results}
    for dataset, protocol, name in rows:
        if name != a:
            continue
        first, second = rows[dataset, protocol, a], rows[dataset, protocol, b]
        lines.append(
            f"{dataset}, {protocol}: {a} minus {b}, mean of {len(first.per_image)} "
            "images [95 % interval]"
        )
        lines += _describe(differences(first, second))
    return "\n".join(lines)


def _describe(found: Mapping[str, Difference]) -> Iterator[str]:
    for name, (mean, low, high) in found.items():
        digits, unit = (3, " dB") if name == "psnr" else (4, "")
        known = "" if low > 0 or high < 0 else ": not significant on these images"
        yield (
            f"  {name.upper():5} {mean:+.{digits}f}{unit} "
            f"[{low:+.{digits}f}, {high:+.{digits}f}]{known}"
        )
