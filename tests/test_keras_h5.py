"""Networks read from Keras's files compute what Keras itself computes."""

import contextlib
import os
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19
from srgan_jax.weights import files, store
from srgan_jax.weights.formats import keras_h5
from srgan_jax.weights.layout import WeightsError

L = keras.layers
# Keras itself warns when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


def shuffled(model: keras.Model) -> keras.Model:
    """Sets every weight, including slopes and running statistics, to a random value."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(size=weight.shape) * 0.1
        weight.assign(np.abs(1 + noise) if "variance" in weight.path else noise)
    return model


def krasserm_generator(blocks: int, channels: int) -> keras.Model:
    """krasserm's SRResNet for input in [0, 1], without its last change of range."""

    def prelu(x):
        return L.PReLU(shared_axes=[1, 2])(x)

    inputs = L.Input((None, None, 3))
    x = skip = prelu(L.Conv2D(channels, 9, padding="same")(inputs))
    for _ in range(blocks):
        y = L.Conv2D(channels, 3, padding="same")(x)
        y = prelu(L.BatchNormalization()(y))
        y = L.BatchNormalization()(L.Conv2D(channels, 3, padding="same")(y))
        x = L.Add()([x, y])
    y = L.BatchNormalization()(L.Conv2D(channels, 3, padding="same")(x))
    x = L.Add()([skip, y])
    for _ in range(2):
        x = L.Conv2D(4 * channels, 3, padding="same")(x)
        x = prelu(DepthToSpace()(x))
    x = L.Conv2D(3, 9, padding="same", activation="tanh")(x)
    return shuffled(keras.Model(inputs, x))


class DepthToSpace(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.nn.depth_to_space(x, 2)


def krasserm_discriminator(channels: int, side: int, hidden: int = 12) -> keras.Model:
    """krasserm's discriminator for input in [-1, 1], without its sigmoid."""
    inputs = x = L.Input((side, side, 3))
    for i in range(8):
        width, stride = channels * 2 ** (i // 2), 1 + i % 2
        x = L.Conv2D(width, 3, stride, padding="same")(x)
        x = L.BatchNormalization()(x) if i else x
        x = L.LeakyReLU(negative_slope=0.2)(x)
    x = L.LeakyReLU(negative_slope=0.2)(L.Dense(hidden)(L.Flatten()(x)))
    return shuffled(keras.Model(inputs, L.Dense(1)(x)))


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_generator_matches_keras(tmp_path: Path) -> None:
    model = krasserm_generator(blocks=11, channels=4)  # keys sort as 1, 10, 2
    model.save(tmp_path / "g.h5")
    attributes, variables = store.load_generator(tmp_path / "g.h5")
    assert (attributes["blocks"], attributes["channels"], attributes["scale"]) == (
        11,
        4,
        4,
    )
    images = np.random.default_rng(1).random((2, 6, 7, 3), np.float32)
    ours = Generator(**attributes).apply(variables, images)
    assert relative(ours, model(images, training=False)) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_discriminator_matches_keras(tmp_path: Path, train: bool) -> None:
    model = krasserm_discriminator(channels=4, side=32)
    model.save(tmp_path / "d.h5")
    attributes, variables = store.load_discriminator(tmp_path / "d.h5")
    images = np.random.default_rng(1).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    ours, _ = Discriminator(**attributes).apply(
        variables, images, train, mutable=["batch_stats"]
    )
    assert relative(ours, model(images, training=train)[:, 0]) < 1e-5


def test_damaged_and_unrelated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(WeightsError, match=r"x\.h5 is not a Keras weight file"):
        keras_h5.read(path)
    with h5py.File(path, "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(WeightsError, match="layer_names"):
        keras_h5.read(path)
    with h5py.File(path, "w") as file:
        file["model_weights"] = np.zeros(3)  # where Keras has a group
        file["model_weights"].attrs["layer_names"] = ["conv2d"]
    with pytest.raises(WeightsError, match="is not a Keras weight file"):
        keras_h5.read(path)
    inputs = L.Input((8, 8, 3))
    keras.Model(inputs, L.Conv2D(4, 3)(inputs)).save(path)
    with pytest.raises(
        WeightsError, match=r"1 layers of type convolution; expected 16"
    ):
        keras_h5.read(path)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(position=st.floats(0, 1, exclude_max=True), data=st.binary(max_size=40))
def test_damaged_files_load_or_raise_a_weights_error(
    tmp_path: Path, position: float, data: bytes
) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "x.h5"
    if not whole.exists():
        krasserm_generator(blocks=1, channels=2).save(whole)
    content = whole.read_bytes()
    start = int(position * len(content))
    path.write_bytes(content[:start] + data + content[start + len(data) :])
    with contextlib.suppress(WeightsError):
        keras_h5.read(path)


def test_sub_pixel_convolutions_of_odd_width_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "g.h5"
    krasserm_generator(blocks=1, channels=4).save(path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        (found, *_) = (
            weight
            for layer in group.values()
            for name in layer.attrs["weight_names"]
            if (weight := layer[name]).shape == (3, 3, 4, 16)
        )
        name = found.name
        bias = name.replace("kernel", "bias")
        del file[name], file[bias]
        file[name] = np.zeros((3, 3, 4, 15), np.float32)
        file[bias] = np.zeros(15, np.float32)
    with pytest.raises(WeightsError, match=r"of another shape: params/up_0/"):
        files.read(path)


def test_wrong_shapes_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    krasserm_discriminator(channels=4, side=32).save(path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        name = next(n for n in group if n.startswith("dense"))
        kernel = next(n for n in group[name].attrs["weight_names"] if "kernel" in n)
        del group[name][kernel]
        group[name][kernel] = np.zeros((5, 12), np.float32)
    with pytest.raises(
        WeightsError, match=r"of another shape: params/dense_[01]/kernel"
    ):
        files.read(path)


@pytest.mark.weights
def test_catalog_discriminator_matches_keras() -> None:
    attributes, variables = store.load_discriminator("krasserm-discriminator")
    model = krasserm_discriminator(channels=64, side=96, hidden=1024)
    model.load_weights(store.fetch("krasserm-discriminator"))
    photograph = skimage.data.astronaut()[:192, :192].astype(np.float32) / 127.5 - 1
    crops = photograph.reshape(2, 96, 2, 96, 3).swapaxes(1, 2).reshape(4, 96, 96, 3)
    ours, _ = Discriminator(**attributes).apply(
        variables, crops, True, mutable=["batch_stats"]
    )
    assert relative(ours, model(crops, training=True)[:, 0]) < 1e-4


@pytest.mark.weights
def test_vgg19_features_match_keras() -> None:
    params, preprocessing = store.load_vgg19("vgg19")
    path = store.fetch("vgg19")
    model = keras.applications.vgg19.VGG19(include_top=False, weights=str(path))
    photograph = skimage.data.astronaut()[None, 100:228, 150:310].astype(np.float32)
    seen = keras.applications.vgg19.preprocess_input(photograph.copy())
    for (i, j), name in {(2, 2): "block2_conv2", (5, 4): "block5_conv4"}.items():
        theirs = keras.Model(model.input, model.get_layer(name).output)(seen)
        ours = jax.jit(VGG19((i, j), preprocessing).apply)(
            {"params": params}, photograph / 127.5 - 1
        )
        assert relative(ours, theirs) < 1e-5
