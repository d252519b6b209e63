"""The script that removes a generator's artefacts."""

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from scripts import distil
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.models.generator import Generator
from srgan_jax.weights import store


def test_smooth_crops_replace_two_thirds_of_a_batch() -> None:
    random = np.random.default_rng(0)
    count = 3 * distil.THIRD
    hr = random.integers(0, 256, (count, 96, 96, 3)).astype(np.uint8)
    batch = distil.with_smooth({"hr": hr, "lr": hr[:, ::4, ::4]}, 4, 7)
    photographs = slice(distil.THIRD)
    np.testing.assert_array_equal(batch["hr"][photographs], hr[photographs])
    steps = np.abs(np.diff(batch["hr"][distil.THIRD :], axis=1))
    assert steps.max() <= 8  # neighbours of the noise differ by up to 255
    np.testing.assert_allclose(
        batch["hr"].mean((1, 2))[distil.THIRD :],
        batch["lr"].mean((1, 2))[distil.THIRD :],
        atol=1,
    )


def test_feature_maps_and_reconstruction_equal_the_upscaler() -> None:
    network = Generator(blocks=9, channels=4)  # sees further than MIRROR
    variables = tiny.initialise(network, 8)
    lr = np.random.default_rng(2).random((1, 12, 12, 3)).astype(np.float32)
    features = distil.mirrored_features(network, variables, jnp.asarray(lr))
    sr = distil.reconstruct(network, variables["params"], features)[0]
    upscaler = Upscaler(tiny.settings_of(network), variables, padding="symmetric")
    np.testing.assert_allclose(np.clip((sr + 1) / 2, 0, 1), upscaler(lr[0]), atol=1e-6)


NETWORK = Generator(blocks=1, channels=4)
WEIGHTS = ("PHOTOGRAPH", "SMOOTH", "GRID", "FLAT")


def trained(monkeypatch: pytest.MonkeyPatch, variables: dict, **weights: float) -> dict:
    """Trains on flat crops with these weights of losses; the others are 0."""
    monkeypatch.setattr(distil, "COLOURS", 2 * distil.PER_STEP)
    for name in WEIGHTS:
        monkeypatch.setattr(distil, name, weights.get(name, 0.0))
    hr = np.full((3 * distil.THIRD, 32, 32, 3), 200, np.float32)
    batches = itertools.repeat({"hr": hr, "lr": hr[:, ::4, ::4].astype(np.uint8)})
    return distil.distilled(NETWORK, variables, batches, 30, optax.adam(1e-2))


def upscaled(variables: dict, colour: int) -> np.ndarray:
    settings = tiny.settings_of(NETWORK)
    upscaler = Upscaler(settings, variables, padding="symmetric")
    return upscaler(np.full((8, 8, 3), colour, np.uint8)).astype(float)


@pytest.mark.parametrize("loss", ["SMOOTH", "GRID", "FLAT"])
def test_each_loss_on_smooth_images_corrects_colours(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny.initialise(NETWORK, 8)
    after = trained(monkeypatch, before, **{loss: 1.0})
    errors = [np.abs(upscaled(v, 200) - 200).mean() for v in (before, after)]
    assert errors[1] < 0.8 * errors[0]


def test_the_loss_on_photographs_keeps_their_sr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tiny.initialise(NETWORK, 8)
    changes = [
        np.abs(
            upscaled(trained(monkeypatch, before, FLAT=1.0, PHOTOGRAPH=weight), 200)
            - upscaled(before, 200)
        ).mean()
        for weight in (0.0, 100.0)
    ]
    assert changes[1] < 0.2 * changes[0]


def test_training_keeps_the_feature_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny.initialise(NETWORK, 8)
    after = trained(monkeypatch, before, SMOOTH=1.0)
    for name in ("conv_in", "block_0", "bn_mid"):
        jax.tree.map(
            np.testing.assert_array_equal, after["params"][name], before["params"][name]
        )
    jax.tree.map(
        np.testing.assert_array_equal, after["batch_stats"], before["batch_stats"]
    )


def test_the_script_writes_a_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Generator(blocks=1, channels=4)
    generator, out = tmp_path / "tiny.safetensors", tmp_path / "new.safetensors"
    variables = tiny.initialise(network, 8)
    store.save_generator(generator, tiny.settings_of(network), variables)
    photographs = tiny.photographs(tmp_path / "photographs", side=100)
    arguments = [generator, f"folder:{photographs}", out, "--steps", 2]
    monkeypatch.setattr(sys, "argv", ["", *map(str, arguments)])
    distil.main()
    settings, trained = store.load_generator(out)
    assert settings == store.load_generator(generator)[0]
    assert np.any(
        trained["params"]["conv_out"]["kernel"]
        != variables["params"]["conv_out"]["kernel"]
    )
