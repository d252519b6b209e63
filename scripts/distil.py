"""Trains a generator on its own output without artefacts.

    python scripts/distil.py GENERATOR PHOTOGRAPHS OUT [--steps 1000]

GENERATOR is a catalog name or a file, PHOTOGRAPHS a source as `folder:PATH`, and OUT
the file of the new generator. It keeps GENERATOR's textures, and loses grids in smooth
areas, errors on images of one colour, and shifts of colours.

A third of each batch are crops of photographs. Their target is GENERATOR's SR plus the
enlarged difference between LR and SR's own LR: one step of iterative back-projection
(Irani and Peleg 1991), which corrects low frequencies. The target of the others is HR:
flat and graded patches (`data.graded`), and crops with a Gaussian blur.

The loss is L1 on pixels and, for smooth crops, losses.grid_distance. Batch
normalisation uses the running statistics, as in upscaling: with a batch's own
statistics SR varies from batch to batch, and the L1 loss would blur it.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track
from scipy import ndimage

from srgan_jax.data import augment, sources
from srgan_jax.data.pipeline import training_batches
from srgan_jax.data.resize import imresize, resize_matrix
from srgan_jax.models import registry
from srgan_jax.models.generator import Generator
from srgan_jax.training import losses
from srgan_jax.training.steps import paper_ranges, with_running_statistics
from srgan_jax.weights import store

CROP = 96  # HR pixels
THIRD = 4  # crops of each of the three kinds in a batch
BLUR = (6.0, 16.0)  # range of the blur's standard deviation in HR pixels
GRID = 4.0  # weight of losses.grid_distance on smooth crops
LEARNING_RATE = 7e-5  # of Adam, after a warm-up; it falls to 0 as a cosine

Batch = dict[str, Any]  # arrays `lr` and `hr`, see training_batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator")
    parser.add_argument("photographs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps is {arguments.steps}; expected at least 1")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    settings, variables = store.load_generator(arguments.generator)
    network = registry.create("generator", settings)
    photographs = sources.open_source(arguments.photographs, minimum_size=CROP)
    crops = training_batches(
        photographs,
        batch_size=3 * THIRD,
        crop=CROP,
        scale=network.scale,
        seed=0,
        flips=True,
        exposure=1.0,
    )
    batches = (
        with_smooth(crop, network.scale, step) for step, crop in enumerate(crops)
    )
    steps = arguments.steps
    rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, steps // 20, steps)
    optimizer = optax.adam(rate)
    variables = distilled(network, variables, batches, steps, optimizer)
    store.save_generator(arguments.out, settings, variables)


def distilled(
    network: Generator,
    variables: dict,
    batches: Iterator[Batch],
    steps: int,
    optimizer: optax.GradientTransformation,
) -> dict:
    """Trains the parameters for `steps` batches, and keeps the batch statistics."""

    def upscale(variables: dict, lr: jax.Array) -> Any:
        return network.apply(variables, lr, method=with_running_statistics)

    @jax.jit
    def update(params: dict, moments: optax.OptState, batch: Batch) -> tuple:
        lr, hr = paper_ranges(batch)
        photographs = lr[:THIRD]
        target = back_projected(upscale(variables, photographs), 2 * photographs - 1)
        target = jnp.concatenate([target, hr[THIRD:]])

        def loss(params: dict) -> jax.Array:
            sr = upscale(variables | {"params": params}, lr)
            grid = losses.grid_distance(sr[THIRD:], target[THIRD:], network.scale)
            return losses.absolute_distance(sr, target) + GRID * grid

        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments, value

    params = variables["params"]
    moments = optimizer.init(params)
    for step, batch in zip(track(range(steps)), batches, strict=False):
        params, moments, value = update(params, moments, batch)
        if step % 50 == 0 or step == steps - 1:
            print(f"{step + 1}/{steps}  loss {value:.4f}")
    return variables | {"params": params}


def with_smooth(batch: Batch, scale: int, step: int) -> Batch:
    """Replaces the second and third thirds of a batch by smooth crops."""
    lr, hr = np.array(batch["lr"]), batch["hr"].astype(np.float32)
    random = np.random.default_rng(step)
    for i in range(THIRD, 2 * THIRD):
        hr[i] = augment.graded_patch(CROP, int(random.integers(augment.WORDS)))
    for i in range(2 * THIRD, 3 * THIRD):
        sigma = random.uniform(*BLUR)
        hr[i] = ndimage.gaussian_filter(hr[i], (sigma, sigma, 0))
    for i in range(THIRD, 3 * THIRD):
        lr[i] = imresize(hr[i].round().astype(np.uint8), Fraction(1, scale))
    return {"lr": lr, "hr": hr}


def back_projected(sr: jax.Array, lr: jax.Array) -> jax.Array:
    """Adds what LR has and the LR of SR does not have; `[n, h, w, 3]` of one range."""
    side, scale = sr.shape[1], sr.shape[1] // lr.shape[1]
    shrink = resize_matrix(side, Fraction(1, scale))
    enlarge = resize_matrix(side // scale, scale)
    missing = lr - _resize(shrink, sr)
    return jnp.clip(sr + _resize(enlarge, missing), -1, 1)


def _resize(matrix: np.ndarray, images: jax.Array) -> jax.Array:
    return jnp.einsum("yh,xw,nhwc->nyxc", matrix, matrix, images)


if __name__ == "__main__":
    main()
