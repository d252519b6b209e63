"""Removes grids and wrong colours from a generator, without a discriminator.

    python scripts/distil.py GENERATOR PHOTOGRAPHS OUT [--steps 1000]

GENERATOR is a catalog name or a file, PHOTOGRAPHS a source as `folder:PATH`, and OUT
the file of the new generator. Only the layers after the feature maps are trained
(`reconstruct`), so that textures remain.

One third of each batch consists of crops of photographs, whose target is GENERATOR's
own SR. The others have HR as their target: flat and graded patches (`data.graded`), and
crops with a Gaussian blur. The loss is the mean absolute error, weighted by PHOTOGRAPH
and SMOOTH, plus, for smooth crops, losses.grid_distance, weighted by GRID. LR is padded
with its mirror image, as in upscaling: zeros at the border would change the features of
the whole crop.
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
from srgan_jax.data.resize import imresize
from srgan_jax.inference.upscaler import MIRROR
from srgan_jax.models import layers, registry
from srgan_jax.models.generator import Generator
from srgan_jax.training import losses
from srgan_jax.training.steps import paper_ranges
from srgan_jax.weights import store

CROP = 96  # HR pixels
THIRD = 4  # crops of each of the three kinds in a batch
BLUR = (6.0, 16.0)  # range of the blur's standard deviation in HR pixels
PHOTOGRAPH, SMOOTH, GRID = 3.0, 4.0, 16.0  # weights of the losses
LEARNING_RATE = 2e-4  # of Adam, after a warm-up; it falls to 0 as a cosine
MARGIN = 4  # LR pixels around the feature maps, removed from SR

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
    variables = distilled(network, variables, batches, steps, optax.adam(rate))
    store.save_generator(arguments.out, settings, variables)


def distilled(
    network: Generator,
    variables: dict,
    batches: Iterator[Batch],
    steps: int,
    optimizer: optax.GradientTransformation,
) -> dict:
    """Trains the layers after the feature maps for `steps` batches."""

    def reconstruct(params: dict, features: jax.Array) -> jax.Array:
        sr: Any = network.apply({"params": params}, features, method="reconstruct")
        margin = MARGIN * network.scale
        return sr[:, margin:-margin, margin:-margin]

    def features_of(lr: jax.Array) -> jax.Array:
        width = ((0, 0), (MIRROR, MIRROR), (MIRROR, MIRROR), (0, 0))
        padded = jnp.pad(lr, width, mode="symmetric")
        features: Any = network.apply(variables, padded, method="features")
        rest = MIRROR - MARGIN
        return layers.to_image(features)[:, rest:-rest, rest:-rest]

    @jax.jit
    def update(params: dict, moments: optax.OptState, batch: Batch) -> tuple:
        lr, hr = paper_ranges(batch)
        features = features_of(lr)
        target = reconstruct(variables["params"], features[:THIRD])

        def loss(params: dict) -> jax.Array:
            sr = reconstruct(params, features)
            photographs = losses.absolute_distance(sr[:THIRD], target)
            smooth = losses.absolute_distance(sr[THIRD:], hr[THIRD:])
            grid = losses.grid_distance(sr[THIRD:], hr[THIRD:], network.scale)
            return PHOTOGRAPH * photographs + SMOOTH * smooth + GRID * grid

        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments, value

    lr = next(batches)["lr"] / np.float32(255)
    used = jax.eval_shape(
        lambda: network.init(jax.random.key(0), features_of(lr), method="reconstruct")
    )
    params = {name: variables["params"][name] for name in used["params"]}
    moments = optimizer.init(params)
    for step, batch in zip(track(range(steps)), batches, strict=False):
        params, moments, value = update(params, moments, batch)
        if step % 50 == 0 or step == steps - 1:
            print(f"{step + 1}/{steps}  loss {value:.4f}")
    return variables | {"params": variables["params"] | params}


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


if __name__ == "__main__":
    main()
