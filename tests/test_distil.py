"""The script that removes a generator's artefacts."""

import itertools
import sys
from pathlib import Path

import jax
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


def test_training_corrects_flat_images_and_keeps_the_feature_maps() -> None:
    network = Generator(blocks=1, channels=4)
    variables = tiny.initialise(network, 8)
    hr = np.full((3 * distil.THIRD, 32, 32, 3), 200, np.float32)
    batch = {"hr": hr, "lr": hr[:, ::4, ::4].astype(np.uint8)}
    optimizer = optax.adam(1e-2)
    batches = itertools.repeat(batch)
    trained = distil.distilled(network, variables, batches, 30, optimizer)
    colours = np.random.default_rng(1).integers(0, 256, (8, 1, 1, 3))
    flat = np.broadcast_to(colours, (8, 8, 8, 3)).astype(np.uint8)

    def error(variables: dict) -> float:
        settings = tiny.settings_of(network)
        upscaler = Upscaler(settings, variables, padding="symmetric")
        return np.abs(upscaler(flat).astype(float) - colours).mean()

    assert error(trained) < 0.8 * error(variables)
    kept = {name: trained["params"][name] for name in ("conv_in", "block_0", "bn_mid")}
    before = {name: variables["params"][name] for name in kept}
    jax.tree.map(np.testing.assert_array_equal, kept, before)
    jax.tree.map(
        np.testing.assert_array_equal, trained["batch_stats"], variables["batch_stats"]
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
