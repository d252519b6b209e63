"""What a run leaves for people: scores of each stage, the table and the picture.

Every score is of averaged (EMA) weights, on whole images, under the protocol that the
configuration names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from srgan_jax import console as terminal
from srgan_jax import paths
from srgan_jax.data import resize
from srgan_jax.data.pairs import Pair
from srgan_jax.evaluation import figures, lpips, metrics, tables
from srgan_jax.evaluation.scores import Result, Score
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.training.run_log import SCORE, RunLog, finite
from srgan_jax.training.state import Variables
from srgan_jax.weights import store

BICUBIC, START = "bicubic", "start"
LABELS = {"pretrain": "SRResNet", "adversarial": "SRGAN"}


def generator_file(workdir: Path, stage: str | None = None) -> Path:
    """The generator's file of a finished stage, or of the whole run."""
    return workdir / (
        f"generator-{stage}.safetensors" if stage else "generator.safetensors"
    )


def score(
    name: str,
    upscale: Callable[[np.ndarray], np.ndarray],
    pairs: Sequence[Pair],
    config: ConfigDict,
) -> tuple[Result, list[np.ndarray]]:
    """Scores an upscaling function on every pair; also gives the upscaled images."""
    protocol = config.protocol
    distance = None if config.lpips == "none" else lpips.load(config.lpips)
    images, scores = [], []
    for pair in pairs:
        sr = upscale(pair.lr)
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        how = {"protocol": protocol, "scale": scale, "grey": pair.grey}
        try:
            psnr = metrics.psnr(sr, pair.hr, **how)
            ssim = metrics.ssim(sr, pair.hr, **how)
            away = distance(sr, pair.hr) if distance else None
        except ValueError as error:  # too small for the protocol or for LPIPS
            raise ValueError(f"{pair.name}: {error}") from error
        scores.append(Score(image=pair.name, psnr=psnr, ssim=ssim, lpips=away))
        images.append(sr)
    return Result(name, config.source, protocol, tuple(scores)), images


def bicubic(config: ConfigDict) -> Callable[[np.ndarray], np.ndarray]:
    """MATLAB's bicubic enlargement, the row every generator has to beat."""
    scale, border = config.generator.scale, config.evaluation.border
    return lambda lr: resize.imresize(lr, scale, border=border)


def strip(pair: Pair, enlarged: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """LR (pixels repeated) | bicubic | SR | HR, side by side."""
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    lr = pair.lr.repeat(scale, axis=0).repeat(scale, axis=1)
    return np.concatenate([lr, enlarged, sr, pair.hr], axis=1)


def evaluate(
    config: ConfigDict,
    pairs: Sequence[Pair],
    enlarged: Sequence[np.ndarray],
    average: Variables,
    log: RunLog,
    step: int,
) -> dict[str, float]:
    """Scores the averaged generator during training, and shows its first picture."""
    upscaler = Upscaler(config.generator.to_dict(), jax.device_get(average))
    result, images = score("", upscaler, pairs, config.evaluation)
    scores = {f"evaluation_{name}": value for name, value in _mean(result).items()}
    figures = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
    log.say(f"step {step}: {figures}")
    log.picture(step, pairs[0].name, strip(pairs[0], enlarged[0], images[0]))
    return scores


def is_best(
    stage: ConfigDict, scores: Mapping[str, float], before: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether an evaluation beats those `before` it in its stage.

    By LPIPS in an adversarial stage that measures it, where a higher PSNR mostly means
    smoother images; by PSNR otherwise.
    """
    if stage.adversarial and "evaluation_lpips" in scores:
        lpips = "evaluation_lpips"
        return all(scores[lpips] < line[lpips] for line in before)
    # the log has no infinity
    psnrs = [line[SCORE] for line in before]
    return all(psnr is not None and scores[SCORE] > psnr for psnr in psnrs)


def write(
    workdir: Path,
    config: ConfigDict,
    pairs: Sequence[Pair],
    *,
    steps: int,
    images_per_second: float,
) -> None:
    """Scores the run's generators; writes summary.json and comparison.png."""
    upscalers = {BICUBIC: bicubic(config)}
    if config.init_from is not None:
        upscalers[START] = Upscaler(*store.load_generator(config.init_from))
    for stage in config.stages:
        path = generator_file(workdir, stage.name)
        upscalers[stage.name] = Upscaler(*store.load_generator(str(path)))
    results, first_images = [], {}
    for name, upscale in upscalers.items():
        result, images = score(name, upscale, pairs, config.evaluation)
        results.append(result)
        first_images[name] = images[0]
    figures.comparison(
        [
            *(
                (_label(config, r.weights), first_images[r.weights], _caption(r))
                for r in results
            ),
            ("original", pairs[0].hr, f"{pairs[0].name}\n{config.evaluation.protocol}"),
        ],
        workdir / "comparison.png",
    )
    summary = {
        "protocol": config.evaluation.protocol,
        "source": config.evaluation.source,
        "steps": steps,
        **finite({"images_per_second": images_per_second}),
        "scores": {r.weights: finite(_mean(r)) for r in results},
    }
    with paths.replacing(workdir / "summary.json") as unfinished:
        unfinished.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")


def is_finished(workdir: Path, steps: int) -> bool:
    """Whether the directory holds the summary of a run of so many steps."""
    path = workdir / "summary.json"
    return path.exists() and json.loads(path.read_text())["steps"] == steps


def show(workdir: Path) -> None:
    """Prints the table of a finished run."""
    summary = json.loads((workdir / "summary.json").read_text())
    results = [
        Result(name, summary["source"], summary["protocol"], (Score("mean", **scores),))
        for name, scores in summary["scores"].items()
    ]
    network = json.loads((workdir / "config.json").read_text())["evaluation"]["lpips"]
    shown = None if network == "none" else network
    console = terminal.figures()
    console.print(tables.terminal(results, shown))
    console.print(f"generator: {generator_file(workdir)}", soft_wrap=True)
    console.print(f"picture:   {workdir / 'comparison.png'}", soft_wrap=True)


def _label(config: ConfigDict, name: str) -> str:
    if name == START:
        return str(config.init_from)
    return LABELS.get(name, name)


def _caption(result: Result) -> str:
    first = result.per_image[0]
    text = f"{first.psnr:.2f} dB / {first.ssim:.4f}"
    return text if first.lpips is None else f"{text}\nLPIPS {first.lpips:.4f}"


def _mean(result: Result) -> dict[str, float]:
    mean = result.mean
    scores = {"psnr": mean.psnr, "ssim": mean.ssim}
    return scores if mean.lpips is None else scores | {"lpips": mean.lpips}
