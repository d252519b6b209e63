"""Removes grids and wrong colours from a generator, without a discriminator.

    python scripts/distil.py GENERATOR PHOTOGRAPHS OUT [--steps 1000]

GENERATOR is a catalog name or a file, PHOTOGRAPHS is a source such as `folder:PATH`,
and OUT is the file to write. Only the layers after the feature maps (`reconstruct`) are
trained, so that textures remain.

One third of each batch consists of crops of photographs, whose target is GENERATOR's
own SR. The others have HR as their target: flat and graded patches (`data.graded`), and
crops with a Gaussian blur. The loss is the mean absolute error, weighted by PHOTOGRAPH
and SMOOTH, plus, for smooth crops, losses.grid_distance, weighted by GRID. LR is padded
with its mirror image, as in upscaling: zeros at the border would change the features of
the whole crop.

Each step also trains on 64 (PER_STEP) of 2048 (COLOURS) flat images, which have random
colours. All pixels of a flat image have nearly the same feature maps, so one pixel
stands for the image. The feature maps are not trained, so they are computed once. The
loss is the mean squared error, weighted by FLAT: squaring gives the worst colours more
weight.
"""

import argparse
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
COLOURS, PER_STEP = 2048, 64  # flat colours in all and in one step
PHOTOGRAPH, SMOOTH, GRID, FLAT = 3.0, 4.0, 16.0, 1000.0  # weights of the losses
LEARNING_RATE = 2e-4  # of Adam, after a warm-up; it falls to 0 as a cosine
MARGIN = 3  # LR pixels around the feature maps that `reconstruct` reads

Batch = dict[str, Any]  # arrays `lr` and `hr`, see training_batches


class Flat(NamedTuple):
    """Flat images of one LR pixel.

    Attributes:
      features: feature maps of the pixel and of MARGIN pixels around it.
      hr: `[PER_STEP, 1, 1, 3]`, the colour of each image in [-1, 1].
    """

    features: jax.Array
    hr: jax.Array


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
    features_of = jax.jit(partial(mirrored_features, network, variables))
    sr_of = partial(reconstruct, network)

    def loss(
        params: dict, features: jax.Array, target: jax.Array, hr: jax.Array, flat: Flat
    ) -> jax.Array:
        photographs, smooth = jnp.split(sr_of(params, features), [THIRD])
        return (
            PHOTOGRAPH * losses.absolute_distance(photographs, target)
            + SMOOTH * losses.absolute_distance(smooth, hr)
            + GRID * losses.grid_distance(smooth, hr, network.scale)
            + FLAT * losses.squared_distance(sr_of(params, flat.features), flat.hr)
        )

    @jax.jit
    def update(
        params: dict, moments: optax.OptState, batch: Batch, flat: Flat
    ) -> tuple:
        lr, hr = paper_ranges(batch)
        features = features_of(lr)
        target = sr_of(variables["params"], features[:THIRD])
        value, gradient = jax.value_and_grad(loss)(
            params, features, target, hr[THIRD:], flat
        )
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments, value

    params = trained_layers(network, variables, features_of)
    moments = optimizer.init(params)
    flats = flat_images(features_of)
    for step, batch, flat in zip(track(range(steps)), batches, flats, strict=False):
        params, moments, value = update(params, moments, batch, flat)
        if step % 50 == 0 or step == steps - 1:
            print(f"{step + 1}/{steps}  loss {value:.4f}")
    return variables | {"params": variables["params"] | params}


def trained_layers(
    network: Generator, variables: dict, features_of: Callable[[jax.Array], jax.Array]
) -> dict:
    """The parameters of the layers after the feature maps."""
    pixel = jax.ShapeDtypeStruct((1, 1, 1, 3), np.float32)
    features = jax.eval_shape(features_of, pixel)
    init = partial(network.init, method="reconstruct")
    trained = jax.eval_shape(init, jax.random.key(0), features)["params"]
    return {name: variables["params"][name] for name in trained}


def mirrored_features(network: Generator, variables: dict, lr: jax.Array) -> jax.Array:
    """The feature maps of `lr` and of MARGIN pixels around it."""
    width = ((0, 0), (MIRROR, MIRROR), (MIRROR, MIRROR), (0, 0))
    padded = jnp.pad(lr, width, mode="symmetric")
    features: Any = network.apply(variables, padded, method="features")
    rest = MIRROR - MARGIN
    return layers.to_image(features)[:, rest:-rest, rest:-rest]


def reconstruct(network: Generator, params: dict, features: jax.Array) -> jax.Array:
    """SR without the margin."""
    sr: Any = network.apply({"params": params}, features, method="reconstruct")
    margin = MARGIN * network.scale
    return sr[:, margin:-margin, margin:-margin]


def flat_images(features_of: Callable[[jax.Array], jax.Array]) -> Iterator[Flat]:
    """Yields flat images without end; each is one pixel of a flat `graded_patch`."""
    random = np.random.default_rng(0)
    words = 2 * random.integers(augment.WORDS // 2, size=COLOURS)  # even: one colour
    pixels = [augment.graded_patch(1, int(word)) for word in words]
    parts = [
        paper_ranges({"lr": part, "hr": part})
        for part in jnp.split(jnp.array(pixels, np.float32), COLOURS // PER_STEP)
    ]
    flats = [Flat(features_of(lr), hr) for lr, hr in parts]
    while True:
        for i in random.permutation(len(flats)):
            yield flats[i]


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
