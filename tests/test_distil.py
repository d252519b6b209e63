"""The pairs that a generator is distilled on."""

import sys
from fractions import Fraction

import numpy as np
import tiny
from hypothesis import given
from hypothesis import strategies as st

from scripts import distil
from srgan_jax.data import pairs, sources
from srgan_jax.data.resize import imresize
from srgan_jax.models.generator import Generator
from srgan_jax.weights import store


@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-20, 20))
def test_back_projection_removes_a_colour_shift_and_keeps_fine_detail(seed, shift):
    random = np.random.default_rng(seed)
    hr = imresize(random.integers(64, 192, (6, 7, 3)).astype(np.uint8), 8)
    lr = imresize(hr, Fraction(1, 4))
    detail = np.where(np.indices(hr.shape[:2]).sum(0) % 2, 6, -6)[..., None]
    shifted = hr + detail + [shift, 0, -shift]
    result = distil.back_projected(shifted.astype(np.uint8), lr)
    assert np.abs(result - hr.astype(int) - detail).max() <= 2


def test_each_photograph_gives_a_pair_and_every_third_a_smooth_one(
    tmp_path, monkeypatch
):
    network = Generator(blocks=1, channels=4)
    generator = tmp_path / "tiny.safetensors"
    variables = tiny.initialise(network, 8)
    store.save_generator(generator, tiny.settings_of(network), variables)
    photographs = tiny.photographs(tmp_path / "photographs", count=4)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["", *map(str, (generator, photographs, out))])
    distil.main()
    source = sources.open_source(f"pairs:{out}", minimum_size=32, scale=4)
    assert len(source) == 4 + 2
    for files in pairs.find_pairs(out):
        pair = pairs.read_pair(files, scale=4)
        assert np.abs(pair.hr.mean((0, 1)) - pair.lr.mean((0, 1))).max() < 1
