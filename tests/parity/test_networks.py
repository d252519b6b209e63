"""Each network, in full size, computes the same as its PyTorch original."""

import pytest

pytest.importorskip("torch", reason="needs PyTorch: pip install '.[parity]'")

import copy

import jax
import numpy as np
import reference
import torch
import twins

from srgan_jax.kernels import layouts
from srgan_jax.kernels.layouts import to_array
from srgan_jax.models import layers
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19


@pytest.fixture(autouse=True)
def _highest_precision():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


def relative(ours, theirs: torch.Tensor) -> float:
    ours, theirs = np.asarray(ours), theirs.numpy()
    if theirs.ndim == 4:
        theirs = theirs.transpose(0, 2, 3, 1)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def forward(network, weights, images, train: bool):
    """Returns the output and the new running statistics."""
    module = network(**weights.settings)
    output, changed = jax.jit(
        lambda v, x: module.apply(v, x, train, mutable=["batch_stats"])
    )(weights.variables, images)
    return output, {"batch_stats": changed["batch_stats"]}


def after(module: torch.nn.Module) -> dict:
    return {"batch_stats": twins.ported(module).variables["batch_stats"]}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", twins.PROJECTS)
def test_generator_equals_its_original(name: str, train: bool) -> None:
    project = twins.create_project(name)
    weights = twins.ported(project.g)
    count = sum(x.size for x in jax.tree.leaves(weights.variables["params"]))
    assert count == {"lornatang": 1_547_350, "sgrvinod": 1_549_462}[name]
    batch = next(twins.batches(1, size=2, crop=96))
    lr, _ = twins.to_torch(batch, torch.float32)
    project.g.train(train)
    theirs = project.unit_sr(lr)
    ours, stats = forward(Generator, weights, batch["lr"] / np.float32(255), train)
    assert relative((ours + 1) / 2, theirs) < 1e-5
    assert twins.apart(stats, after(project.g)) < 1e-5


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("blocks", "scale"), [(5, 4), (2, 2), (1, 8)])
def test_generator_of_leftthomas_equals_its_original(
    blocks: int, scale: int, train: bool
) -> None:
    torch.manual_seed(0)
    channels = 64 if blocks == 5 else 8
    g = reference.LeftthomasGenerator(channels, blocks, scale).train(train)
    for module in g.modules():  # Random values make sure that every one matters.
        for value in (*module.parameters(False), *module.buffers(False)):
            if value.ndim == 1:
                value.copy_(torch.rand_like(value) + 0.5)
    weights = twins.ported(g)
    size = {k: weights.settings[k] for k in ("blocks", "scale", "channels")}
    assert size == {"blocks": blocks, "scale": scale, "channels": channels}
    images = np.random.default_rng(0).random((2, 12, 10, 3), np.float32)
    theirs = g(torch.from_numpy(images).permute(0, 3, 1, 2))
    ours, stats = forward(Generator, weights, images, train)
    assert relative((ours + 1) / 2, theirs) < 1e-5
    assert twins.apart(stats, after(g)) < 1e-5


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", twins.PROJECTS)
def test_discriminator_equals_its_original(name: str, train: bool) -> None:
    project = twins.create_project(name)
    weights = twins.ported(project.d)
    batch = next(twins.batches(1, size=3, crop=96))
    _, hr = twins.to_torch(batch, torch.float32)
    project.d.train(train)
    theirs = project.judge(hr)
    images = batch["hr"] / np.float32(127.5) - 1
    ours, stats = forward(Discriminator, weights, images, train)
    assert relative(ours, theirs) < 1e-5
    assert twins.apart(stats, after(project.d)) < 1e-5
    if name == "lornatang":
        count = sum(x.size for x in jax.tree.leaves(weights.variables["params"]))
        assert count == 23_563_649


def test_pooled_discriminator_accepts_any_crop() -> None:
    torch.manual_seed(0)
    d = reference.SgrvinodDiscriminator(channels=4, hidden=8).eval()
    weights = twins.ported(d)
    batch = next(
        twins.batches(1, size=2, crop=152)
    )  # 6 pooled cells share 152 / 16 = 9.5 positions.
    theirs = d(reference.imagenet(twins.to_torch(batch, torch.float32)[1]))
    images = batch["hr"] / np.float32(127.5) - 1
    ours, _ = forward(Discriminator, weights, images, train=False)
    assert relative(ours, theirs) < 1e-5


@pytest.mark.weights
@pytest.mark.parametrize("layer", [(2, 2), (5, 4)])
@pytest.mark.parametrize("preprocessing", ["caffe", "torchvision"])
def test_vgg19_equals_its_original(layer: tuple[int, int], preprocessing: str) -> None:
    theirs = copy.copy(twins.vgg())
    theirs.caffe = preprocessing == "caffe"
    params = twins.ported(theirs).variables
    batch = next(twins.batches(1, size=2, crop=64))
    features = theirs(twins.to_torch(batch, torch.float32)[1], layer)
    images = batch["hr"] / np.float32(127.5) - 1
    ours = jax.jit(VGG19(layer, preprocessing).apply)(params, images)
    scale = 1 / 12.75 if theirs.caffe else 1
    assert relative(scale * ours, features) < 1e-5


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_every_scale_equals_its_original(scale: int) -> None:
    torch.manual_seed(0)
    g = reference.LornatangGenerator(channels=4, blocks=1, scale=scale).eval()
    weights = twins.ported(g)
    assert weights.settings["scale"] == scale
    images = np.random.default_rng(0).random((1, 5, 6, 3), np.float32)
    theirs = g(torch.from_numpy(images).permute(0, 3, 1, 2))
    ours, _ = forward(Generator, weights, images, train=False)
    assert relative((ours + 1) / 2, theirs) < 1e-5


def depth_to_space(x):
    """TensorFlow's channel order (i, j, c) in place of PyTorch's (c, i, j)."""
    b, h, w, c = x.shape
    x = to_array(x).reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, 2 * h, 2 * w, c // 4)


def leaky(self, x):
    return layers.leaky_relu(x, 0.25)


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (layouts, "pixel_shuffle", depth_to_space),
        (layers.PReLU, "__call__", leaky),
    ],
)
def test_wrong_layers_are_detected(monkeypatch, where, name: str, wrong) -> None:
    g = twins.create_project("lornatang", **twins.SMALL).g.eval()
    weights = twins.ported(g)
    images = np.random.default_rng(0).random((1, 5, 6, 3), np.float32)
    theirs = g(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert (
        relative((forward(Generator, weights, images, False)[0] + 1) / 2, theirs) < 1e-5
    )
    monkeypatch.setattr(where, name, wrong)
    assert (
        relative((forward(Generator, weights, images, False)[0] + 1) / 2, theirs) > 1e-3
    )
