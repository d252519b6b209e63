"""Steps equal those in PyTorch: gradients, running statistics, twenty steps."""

import pytest

pytest.importorskip("torch", reason="needs PyTorch: pip install '.[parity]'")

import dataclasses

import jax
import numpy as np
import optax
import torch
import torch.nn.functional as F
import twins

from srgan_jax.training import steps
from srgan_jax.weights import store

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def _highest_precision():
    torch.set_num_threads(1)  # Other tests use the other cores.
    with jax.default_matmul_precision("highest"):
        yield


def gradients(name: str, adversarial: bool, **changes):
    """Returns our gradients of (G, D), and the PyTorch project to compare with."""
    # This optimiser replaces Adam and keeps the gradient in the state.
    keep = optax.chain(optax.trace(0.0), optax.scale(0.0))
    recipe = twins.create_recipe(name, **changes)
    recipe = dataclasses.replace(recipe, optimizer=keep)
    project = twins.create_project(name, **twins.SMALL)
    step = steps.adversarial_step if adversarial else steps.pretrain_step
    state, metrics = twins.compile_step(step, recipe)(
        twins.create_state(project, recipe), store.load_vgg19("vgg19")[0], batch()
    )
    return (
        state.generator.opt_state[0].trace,
        state.discriminator.opt_state[0].trace,
        metrics,
        project,
    )


def batch() -> twins.Batch:
    return next(twins.batches(1))


def theirs(module: torch.nn.Module, loss: torch.Tensor) -> dict:
    """Returns PyTorch's gradient of a loss with our parameter names."""
    grads = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    before = [p.detach().clone() for p in module.parameters()]
    with torch.no_grad():
        for parameter, gradient in zip(module.parameters(), grads, strict=True):
            parameter.copy_(gradient)
    tree = twins.ported(module).variables["params"]
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), before, strict=True):
            parameter.copy_(value)
    return tree


CONTENT = {
    "mse": (None, 0.0),
    "vgg22": ((2, 2), 0.0),
    "vgg54": ((5, 4), 0.0),
    "tv": (None, 1.0),  # Its gradient is thousands of times that of the MSE.
}


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("name", twins.PROJECTS)
def test_content_gradients_are_equal(name: str, content: str) -> None:
    layer, tv_weight = CONTENT[content]
    ours, _, metrics, project = gradients(name, False, layer=layer, tv_weight=tv_weight)
    lr, hr = twins.to_torch(batch(), torch.float32)
    sr = project.unit_sr(lr)
    loss = project.content(sr, hr, layer)
    assert float(metrics["content"]) == pytest.approx(loss.item(), rel=1e-5)
    symmetric = 2 * sr - 1
    variation = sum(symmetric.diff(dim=axis).abs().sum() for axis in (2, 3)) / len(sr)
    loss = loss + tv_weight * variation
    distance = twins.apart(ours, theirs(project.g, loss), without=twins.IDLE[name])
    assert distance < 1e-4


@pytest.mark.parametrize("name", twins.PROJECTS)
def test_adversarial_gradients_are_equal(name: str) -> None:
    # With a weight of 1e4 the adversarial loss outweighs the MSE.
    changes = {"adversarial_weight": 1e4, "order": "generator_first"}
    on_g, on_d, metrics, project = gradients(name, True, **changes)
    lr, hr = twins.to_torch(batch(), torch.float32)
    sr = project.unit_sr(lr)
    logits = project.judge(sr)
    loss = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    assert float(metrics["adversarial"]) == pytest.approx(loss.item(), rel=1e-5)
    total = project.content(sr, hr, None) + 1e4 * loss
    without = twins.IDLE[name]
    assert twins.apart(on_g, theirs(project.g, total), without=without) < 1e-4
    loss = project.discriminator_loss(sr, hr)
    assert float(metrics["discriminator"]) == pytest.approx(loss.item(), rel=1e-5)
    assert twins.apart(on_d, theirs(project.d, loss), without=without) < 1e-4


def train(
    name: str,
    stages: dict[str, float],
    *,
    updates: int = 20,
    layer=(5, 4),
    double=False,
    **changes,
):
    """Trains both sides in stages with these learning rates, VGG in the second only.

    Returns:
      Relative distances: of the losses (the largest over the steps), and of parameters
      and running statistics at the end (the larger of G's and D's).
    """
    pair = twins.Twins(name, double=double)
    losses = []
    for stage, learning_rate in stages.items():
        content = layer if stage == "adversarial" else None
        pair.start(stage, content, learning_rate=learning_rate, **changes)
        for batch in twins.batches(updates):
            both = pair.step(batch).values()
            losses += [abs(ours / theirs - 1) for ours, theirs in both]
    twins.vgg().to(torch.float32)
    distances = pair.apart()
    parameters, statistics = (
        max(v for k, v in distances.items() if what in k)
        for what in ("parameters", "statistics")
    )
    return max(losses), parameters, statistics


@pytest.mark.parametrize("name", twins.PROJECTS)
def test_twenty_steps_of_each_stage_are_equal(name: str) -> None:
    # While D cannot tell SR from HR, its gradient is the difference of two almost equal
    # ones. With a learning rate of 1e-4, even PyTorch in float32 then differs from
    # PyTorch in float64 by more than 1e-3. With 1e-5 it does not.
    stages = {"pretrain": 1e-4, "adversarial": 1e-5}
    losses, params, stats = train(name, stages)
    print(f"{name}, float32: losses {losses:.1e}, {params:.1e}, {stats:.1e}")
    assert losses < 1e-3
    assert params < 1e-3
    assert stats < 1e-3


@pytest.mark.parametrize("name", twins.PROJECTS)
def test_remaining_differences_are_rounding_errors(name: str) -> None:
    """In float64 the differences shrink as rounding errors do, even at 1e-4."""
    stages = {"pretrain": 1e-4, "adversarial": 1e-4}
    with jax.enable_x64(True):
        losses, params, stats = train(name, stages, double=True)
    print(f"{name}, float64: losses {losses:.1e}, {params:.1e}, {stats:.1e}")
    assert losses < 1e-8
    assert params < 1e-8
    assert stats < 1e-8


WRONG = {
    "nothing": {},
    "order": {"order": "generator_first"},
    "adam epsilon": {"optimizer": {"eps": 1e-4}},
    "bn epsilon": {"discriminator_bn_epsilon": 1e-3},
    "momentum": {"discriminator_bn_momentum": 0.99},
    "variance": {"discriminator_running_variance": "biased"},
    "padding": {"discriminator_padding": "tf"},
    "input": {"discriminator_input_range": "symmetric"},
    "output": {"generator_output": "none"},
    "content": {"pixel_range": "symmetric"},
    "reduction": {"reduction": "sum_channels"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_settings_are_detected(wrong: str) -> None:
    with jax.enable_x64(True):
        distances = train(
            "lornatang",
            {"adversarial": 1e-4},
            updates=2,
            layer=None,
            double=True,
            **WRONG[wrong],
        )
    distance = max(distances)
    assert np.isfinite(distance)
    assert (distance > 1e-6) is (wrong != "nothing")
