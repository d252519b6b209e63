"""A new generator needs only one module to train, save, load, upscale and export."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest
import tiny

from srgan_jax.inference import export
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.models import layers, registry
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.layers import Conv, SubPixelConv
from srgan_jax.training import parallel, steps
from srgan_jax.training.state import TrainState, create_network
from srgan_jax.weights import store


class Toy(nn.Module):
    """Two convolutions and a PixelShuffle, without batch normalisation."""

    scale: int = 2
    channels: int = 4
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def setup(self):
        self.first = Conv(self.channels, 3, dtype=self.dtype)
        self.last = SubPixelConv(4 * 3, 5, dtype=self.dtype)

    def __call__(self, lr, train=False):
        return self.reconstruct(self.features(lr))

    def features(self, lr):
        return layers.leaky_relu(self.first(lr), 0.2)

    def reconstruct(self, x):
        return layers.to_image(self.last(x))


SETTINGS = {"network": "toy", "scale": 2, "channels": 4}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry.NETWORKS["generator"], "toy", Toy)


@pytest.fixture(scope="module")
def variables():
    lr = jnp.zeros((1, 8, 8, 3))
    return jax.device_get(jax.jit(Toy().init)(jax.random.key(0), lr))


@pytest.mark.parametrize("freeze_statistics", [False, True])
def test_a_new_generator_trains_a_step(variables, freeze_statistics):
    recipe = steps.Recipe(
        generator=registry.create("generator", SETTINGS),
        discriminator=Discriminator(channels=2, hidden=4),
        optimizer=optax.sgd(1.0),
        learning_rate=optax.constant_schedule(1.0),
        freeze_statistics=freeze_statistics,
    )
    hr = tiny.batch(2)["hr"]
    batch = {"lr": hr[:, ::2, ::2], "hr": hr}
    generator, discriminator = (
        create_network(network, recipe.optimizer)
        for network in (variables, tiny.initialise(recipe.discriminator, tiny.CROP))
    )
    state = TrainState(jnp.int32(0), generator, discriminator, generator.variables)
    mesh = jax.make_mesh((1,), (steps.AXIS,), devices=jax.devices()[:1])
    step = parallel.map_step(partial(steps.adversarial_step, recipe), mesh)
    (placed,) = parallel.feed(iter([batch]), mesh)
    after, metrics = step(*parallel.replicate((state, None), mesh), placed)
    assert np.isfinite(metrics["content"])
    for name, leaf in after.generator.params.items():
        assert np.abs(leaf["kernel"] - variables["params"][name]["kernel"]).max() > 0


def test_a_new_generator_is_saved_and_loaded(variables, tmp_path):
    path = tmp_path / "toy.safetensors"
    store.save_generator(path, SETTINGS, variables)
    settings, loaded = store.load_generator(path)
    assert settings == SETTINGS
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


@pytest.mark.parametrize("size", [(5, 9), (40, 70)])
def test_a_new_generator_upscales_by_tiles(variables, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    tiled = Upscaler(SETTINGS, variables, tile=8)
    assert tiled.halo == 3
    sr = Toy().apply(variables, image[None] / np.float32(255))[0]
    whole = np.clip(np.floor((np.asarray(sr) + 1) * 127.5 + 0.5), 0, 255)
    assert np.abs(tiled(image) - whole).max() <= 1
    assert np.mean(tiled(image) != whole) < 1e-3


def test_a_new_generator_is_exported_to_onnx(variables):
    lr = np.random.default_rng(0).random((1, 7, 6, 3), np.float32)
    model = export.to_onnx(SETTINGS, variables, padding="zero")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (sr,) = session.run(["output"], {"input": lr.transpose(0, 3, 1, 2)})
    expected = np.clip((Toy().apply(variables, lr) + 1) / 2, 0, 1)
    np.testing.assert_allclose(sr.transpose(0, 2, 3, 1), expected, atol=1e-5)
