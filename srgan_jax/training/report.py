"""The report of a run: scores of each stage, a table and a comparison of images.

All scores use the averaged (EMA) weights, whole images and the protocol that the
configuration names.
"""

import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import srgan_jax
from srgan_jax import console, paths
from srgan_jax.data import resize
from srgan_jax.data.pairs import Pair
from srgan_jax.evaluation import figures, lpips, page, tables
from srgan_jax.evaluation.scores import Result, Score, score_image
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.paths import AnyPath
from srgan_jax.training.config import Config, Evaluation, StageConfig
from srgan_jax.training.network_files import START, file_of, is_readable
from srgan_jax.training.run_log import SCORE, RunLog, finite, read_metrics
from srgan_jax.training.state import Variables
from srgan_jax.weights import store

BICUBIC = "bicubic"
PICTURE, PAGE = "comparison.png", "report.html"
SHOWN_IMAGES = 5  # in report.html, which includes their pixels
LABELS = {"pretrain": "SRResNet", "adversarial": "SRGAN"}

Upscale = Callable[[np.ndarray], np.ndarray]


def score(
    name: str, upscale: Upscale, pairs: Sequence[Pair], evaluation: Evaluation
) -> tuple[Result, list[np.ndarray]]:
    """Scores an upscaling function on every pair.

    Args:
      name: name of the result.
      upscale: maps uint8 `[h, w, 3]` to uint8 `[scale h, scale w, 3]`.
      pairs: LR and HR images.
      evaluation: the protocol and the LPIPS network.

    Returns:
      The scores and the upscaled images.

    Raises:
      ValueError: an image is too small for the protocol or for LPIPS.
    """
    distance = None if evaluation.lpips == "none" else lpips.load(evaluation.lpips)
    images, scores = [], []
    for pair in pairs:
        sr = upscale(pair.lr)
        try:
            away = distance(sr, pair.hr) if distance else None
            scores.append(
                score_image(pair, sr, protocol=evaluation.protocol, lpips=away)
            )
        except ValueError as error:  # too small for the protocol or for LPIPS
            raise ValueError(f"{pair.name}: {error}") from error
        images.append(sr)
    return (
        Result(name, evaluation.source, evaluation.protocol, tuple(scores)),
        images,
    )


def bicubic(config: Config) -> Upscale:
    """Returns MATLAB's bicubic upscaling, the baseline of every table."""
    scale, border = config.scale, config.evaluation.border
    return lambda lr: resize.imresize(lr, scale, border=border)


def strip(pair: Pair, enlarged: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """Puts LR (pixels repeated), bicubic, SR and HR side by side."""
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    lr = pair.lr.repeat(scale, axis=0).repeat(scale, axis=1)
    return np.concatenate([lr, enlarged, sr, pair.hr], axis=1)


def evaluate(
    config: Config,
    pairs: Sequence[Pair],
    enlarged: Sequence[np.ndarray],
    average: Variables,
    log: RunLog,
    step: int,
) -> dict[str, float]:
    """Scores the averaged generator during training and logs its first image.

    Returns:
      The mean scores as `evaluation_psnr`, `evaluation_ssim` and, if measured,
      `evaluation_lpips`.
    """
    upscaler = Upscaler(dict(config.generator), jax.device_get(average))
    result, images = score("", upscaler, pairs, config.evaluation)
    scores = {
        f"evaluation_{name}": value for name, value in result.mean.measured().items()
    }
    listed = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
    log.say(f"step {step}: {listed}")
    log.image(step, pairs[0].name, strip(pairs[0], enlarged[0], images[0]))
    return scores


def is_best(
    stage: StageConfig, scores: Mapping[str, float], before: Sequence[Mapping[str, Any]]
) -> bool:
    """True if an evaluation beats those `before` it in its stage.

    PSNR decides, except in an adversarial stage with LPIPS: there LPIPS decides, since
    a higher PSNR mostly means smoother images.
    """
    if stage.adversarial and "evaluation_lpips" in scores:
        lpips = "evaluation_lpips"
        return all(scores[lpips] < line[lpips] for line in before)
    # The log has null for an infinite PSNR.
    psnrs = [line[SCORE] for line in before]
    return all(psnr is not None and scores[SCORE] > psnr for psnr in psnrs)


def write(
    workdir: AnyPath,
    config: Config,
    pairs: Sequence[Pair],
    images_per_second: float,
) -> None:
    """Scores the run's generators; writes comparison.png, report.html, summary.json.

    A generator whose file is missing or damaged is left out. summary.json is written
    last, since it marks the report as complete.
    """
    upscalers: dict[str, Upscale] = {BICUBIC: bicubic(config)}
    for name in (START, *(stage.name for stage in config.stages)):
        path = file_of(workdir, "generator", name)
        if is_readable("generator", path):
            upscalers[name] = Upscaler(*store.load_generator(path))
    results, panels = [], []
    shown: dict[str, dict[str, np.ndarray]] = {p.name: {} for p in pairs[:SHOWN_IMAGES]}
    for name, upscale in upscalers.items():
        result, images = score(name, upscale, pairs, config.evaluation)
        results.append(result)
        caption = result.per_image[0].caption()
        panels.append((_label(config, name), images[0], caption))
        for rows, image in zip(shown.values(), images, strict=False):
            rows[_label(config, name)] = image
    original = f"{pairs[0].name}\n{config.evaluation.protocol}"
    panels.append(("original", pairs[0].hr, original))
    figures.comparison(panels, workdir / PICTURE)
    for rows, pair in zip(shown.values(), pairs, strict=False):
        rows["original"] = pair.hr
    summary = {
        "protocol": config.evaluation.protocol,
        "source": config.evaluation.source,
        "images": len(pairs),
        "steps": config.last_step,
        **finite({"images_per_second": images_per_second}),
        "scores": {r.weights: finite(r.mean.measured()) for r in results},
    }
    page.run_report(
        workdir / PAGE,
        title=f"Run {workdir.name}",
        metrics=read_metrics(workdir),
        summary=summary,
        config=config.to_dict(),
        environment=_environment(),
        images=shown,
    )
    with paths.replacing(workdir / "summary.json") as unfinished:
        unfinished.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _environment() -> dict[str, str]:
    """Returns versions and devices."""
    devices = jax.devices()
    return {
        "srgan_jax": srgan_jax.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": str(jax.process_count()),
    }


def is_written(workdir: AnyPath, config: Config) -> bool:
    """True if the report is of the run's last step and of this evaluation."""
    if not all((workdir / name).exists() for name in (PICTURE, PAGE)):
        return False  # deleted, or a run of version 0.1
    try:
        summary = json.loads((workdir / "summary.json").read_text())
        return (summary["steps"], summary["source"], summary["protocol"]) == (
            config.last_step,
            config.evaluation.source,
            config.evaluation.protocol,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False  # missing or damaged


def show(workdir: AnyPath, config: Config) -> None:
    """Prints the table of a finished run."""
    summary = json.loads((workdir / "summary.json").read_text())
    # The summary holds only means. A table row counts its scores to show the number of
    # images, so repeat the mean once per image.
    results = []
    for name, scores in summary["scores"].items():
        scores = {k: math.inf if v is None else v for k, v in scores.items()}
        images = (Score("mean", **scores),) * summary.get("images", 1)
        results.append(Result(name, summary["source"], summary["protocol"], images))
    network = config.evaluation.lpips
    output = console.figures()
    output.print(tables.terminal(results, None if network == "none" else network))
    output.print(f"generator: {file_of(workdir, 'generator')}", soft_wrap=True)
    output.print(f"image:     {workdir / 'comparison.png'}", soft_wrap=True)
    output.print(f"report:    {workdir / 'report.html'}", soft_wrap=True)


def _label(config: Config, name: str) -> str:
    return str(config.init_from) if name == START else LABELS.get(name, name)
