"""The script that removes a generator's artefacts."""

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import distil
from srgan_jax.data.resize import imresize
from srgan_jax.models.generator import Generator
from srgan_jax.weights import store


@settings(deadline=None)  # the first example compiles
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-20, 20))
def test_back_projection_removes_a_colour_shift_and_keeps_fine_detail(
    seed: int, shift: int
) -> None:
    random = np.random.default_rng(seed)
    hr = imresize(random.integers(64, 192, (6, 6, 3)).astype(np.uint8), 8)
    lr = imresize(hr, Fraction(1, 4))
    detail = np.where(np.indices(hr.shape[:2]).sum(0) % 2, 6, -6)[..., None]
    shifted = hr + detail + [shift, 0, -shift]
    result = distil.back_projected(*(jnp.array(x[None]) / 255 for x in (shifted, lr)))
    assert np.abs(result[0] * 255 - hr - detail).max() <= 2


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


def test_training_reduces_errors_on_flat_crops_and_keeps_the_statistics() -> None:
    network = Generator(blocks=1, channels=4)
    variables = tiny.initialise(network, 8)
    flat = np.full((3 * distil.THIRD, 32, 32, 3), 200, np.float32)
    batch = {"hr": flat, "lr": flat[:, ::4, ::4].astype(np.uint8)}
    optimizer = optax.adam(1e-3)
    batches = itertools.repeat(batch)
    trained = distil.distilled(network, variables, batches, 30, optimizer)

    def error(variables: dict) -> float:
        sr = network.apply(variables, batch["lr"] / 255)
        return float(jnp.abs(sr - (flat / 127.5 - 1)).mean())

    assert error(trained) < 0.8 * error(variables)
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
        trained["params"]["conv_in"]["kernel"]
        != variables["params"]["conv_in"]["kernel"]
    )
