"""The gradients of each step equal those of its losses.

Plain gradient descent with a rate of one shows each gradient as the difference of the
parameters; Adam would hide a wrong factor.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from srgan_jax.models.vgg import VGG19
from srgan_jax.training import losses, parallel, steps

DESCENT = optax.sgd(1.0)
VGG = VGG19((1, 2))
CONTENT = tiny.vgg_content()
PIXELS = (steps.ContentTerm("mse"),)
VGG_PARAMS = tiny.vgg_params((1, 2))


def run(step, recipe, state, batch, vgg_params=None, devices=1):
    """Runs the step on this many devices."""
    mesh = jax.make_mesh((devices,), (steps.AXIS,), devices=jax.devices()[:devices])
    compiled = parallel.map_step(partial(step, recipe), mesh)
    (batch,) = parallel.feed(iter([batch]), mesh)
    placed = parallel.replicate((state, vgg_params), mesh)
    return jax.device_get(compiled(*placed, batch))


def moved(before, after):
    return jax.tree.map(lambda b, a: np.asarray(b - a), before.params, after.params)


def assert_close(ours, expected, rtol=1e-4):
    def check(a, b):
        scale = np.linalg.norm(np.asarray(b)) + 1e-6
        assert np.linalg.norm(np.asarray(a) - np.asarray(b)) < rtol * scale

    jax.tree.map(check, ours, expected)


def expected_gradients(recipe, state, batch):
    """The gradients of eq. 3 and of the negated eq. 2 by plain differentiation."""
    lr, hr = batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0
    discriminator = state.discriminator

    def generate(params):
        variables = {"params": params, "batch_stats": state.generator.batch_stats}
        return recipe.generator.apply(variables, lr, True, mutable=["batch_stats"])[0]

    def judge(params, images):
        variables = {"params": params, "batch_stats": discriminator.batch_stats}
        network = recipe.discriminator
        return network.apply(variables, images, True, mutable=["batch_stats"])[0]

    def loss_d(params):
        sr = generate(state.generator.params)
        return losses.discriminator_loss(judge(params, hr), judge(params, sr))

    gradient_d = jax.grad(loss_d)(discriminator.params)
    params_d = discriminator.params
    if recipe.order == "discriminator_first":
        params_d = jax.tree.map(jnp.subtract, params_d, gradient_d)

    def loss_g(params):
        sr = generate(params)
        features = [VGG.apply({"params": VGG_PARAMS}, x) / 12.75 for x in (sr, hr)]
        content = losses.squared_distance(*features)
        variation = recipe.tv_weight * losses.total_variation(sr)
        adversarial = losses.adversarial_loss(judge(params_d, sr))
        return content + variation + recipe.adversarial_weight * adversarial

    return jax.grad(loss_g)(state.generator.params), gradient_d


@pytest.mark.parametrize("order", steps.ORDERS)
def test_adversarial_step_descends_eq_3_and_ascends_eq_2(order):
    weights = {"adversarial_weight": 0.5, "tv_weight": 1e-4}
    recipe = tiny.recipe(optimizer=DESCENT, content=CONTENT, order=order, **weights)
    state, batch = tiny.state(recipe), tiny.batch(4)
    after, _ = run(steps.adversarial_step, recipe, state, batch, VGG_PARAMS)
    gradient_g, gradient_d = expected_gradients(recipe, state, batch)
    assert_close(moved(state.generator, after.generator), gradient_g)
    assert_close(moved(state.discriminator, after.discriminator), gradient_d)


@pytest.mark.parametrize("content", [PIXELS, CONTENT])
def test_content_loss_gives_every_generator_parameter_a_gradient(content):
    """In the usual PyTorch reference it is detached from the graph and gives none."""
    recipe = tiny.recipe(optimizer=DESCENT, content=content)
    state = tiny.state(recipe, adversarial=False)
    params = VGG_PARAMS if content is CONTENT else None
    after, metrics = run(steps.pretrain_step, recipe, state, tiny.batch(4), params)
    for gradient in jax.tree.leaves(moved(state.generator, after.generator)):
        assert np.abs(gradient).max() > 0
    assert metrics["generator_gradient"] > 0
    assert after.discriminator is None


@pytest.mark.parametrize("name", ["l1", "colour", "smooth", "grid"])
def test_absolute_distances_on_the_unit_range_are_half_of_those_in_symmetric(name):
    sr, hr = np.random.default_rng(0).uniform(-1, 1, (2, 1, 8, 16, 3))
    hr[:, :, :8] = 4 / 127.5 * (-1.0) ** np.indices((8, 8)).sum(0)[..., None]
    hr[:, :, 8:] = 0.5
    distances = [
        steps.content_distance(
            tiny.recipe(pixel_range=range), steps.ContentTerm(name), None, sr, hr
        )
        for range in ("unit", "symmetric")
    ]
    np.testing.assert_allclose(2 * distances[0], distances[1], rtol=1e-6)


def test_mse_on_the_unit_range_is_a_quarter_of_the_paper_s():
    batch = tiny.batch(4)
    recipe = tiny.recipe()
    state = tiny.state(recipe, adversarial=False)
    lr, hr = batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0
    variables = state.generator.variables
    sr, _ = recipe.generator.apply(variables, lr, True, mutable=["batch_stats"])
    _, metrics = run(steps.pretrain_step, recipe, state, batch)
    np.testing.assert_allclose(metrics["content"], np.mean((sr - hr) ** 2), rtol=1e-5)
    unit = dataclasses.replace(recipe, pixel_range="unit")
    _, quarter = run(steps.pretrain_step, unit, state, batch)
    np.testing.assert_allclose(quarter["content"], metrics["content"] / 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "order"),
    [(steps.pretrain_step, "generator_first")]
    + [(steps.adversarial_step, order) for order in steps.ORDERS],
)
def test_synchronised_batch_norm_makes_the_number_of_devices_irrelevant(step, order):
    recipe = tiny.recipe(optimizer=DESCENT, synchronised=True, order=order)
    state, batch = tiny.state(recipe), tiny.batch(8)
    one, metrics = run(step, recipe, state, batch)
    four, metrics_four = run(step, recipe, state, batch, devices=4)
    assert_close(
        moved(state.generator, four.generator), moved(state.generator, one.generator)
    )
    assert_close(metrics_four, metrics, rtol=1e-4)
    assert_close(four.generator.batch_stats, one.generator.batch_stats)
    if step is steps.adversarial_step:
        assert_close(
            moved(state.discriminator, four.discriminator),
            moved(state.discriminator, one.discriminator),
        )
        ours, theirs = four.discriminator.batch_stats, one.discriminator.batch_stats
        assert_close(ours, theirs)


@pytest.mark.parametrize("step", [steps.pretrain_step, steps.adversarial_step])
@pytest.mark.parametrize("order", steps.ORDERS)
@pytest.mark.parametrize("content", [PIXELS, CONTENT])
def test_every_output_is_reduced_over_the_devices(step, order, content):
    """vmap, unlike shard_map, refuses an output that differs between devices."""
    recipe = tiny.recipe(order=order, content=content, tv_weight=1e-4)
    state = tiny.state(recipe)
    parts = {k: v.reshape(2, -1, *v.shape[1:]) for k, v in tiny.batch(4).items()}

    def one(part):
        return step(recipe, state, VGG_PARAMS, part)

    jax.eval_shape(jax.vmap(one, out_axes=None, axis_name=steps.AXIS), parts)


def test_per_replica_differs_from_synchronised_batch_norm():
    recipe = tiny.recipe(optimizer=DESCENT)
    state, batch = tiny.state(recipe, adversarial=False), tiny.batch(8)
    one, _ = run(steps.pretrain_step, recipe, state, batch)
    four, _ = run(steps.pretrain_step, recipe, state, batch, devices=4)
    a = one.generator.params["block_0"]["bn1"]["scale"]
    assert np.abs(a - four.generator.params["block_0"]["bn1"]["scale"]).max() > 1e-6


@pytest.mark.parametrize("name", ["pretrain_step", "adversarial_step"])
def test_micro_batches_train_like_as_many_devices(name):
    """Gradients and metrics are averaged, running statistics updated in turn."""
    step, batch = getattr(steps, name), tiny.batch(4)
    recipe = tiny.recipe(optimizer=DESCENT, content=CONTENT)
    in_turn = tiny.recipe(optimizer=DESCENT, content=CONTENT, accumulate=2)
    state = tiny.state(recipe, adversarial=name == "adversarial_step")
    two, expected = run(step, recipe, state, batch, VGG_PARAMS, devices=2)
    one, metrics = run(step, in_turn, state, batch, VGG_PARAMS)
    assert_close(
        moved(state.generator, one.generator),
        moved(state.generator, two.generator),
        rtol=1e-3,  # These are differences of parameters that are about one.
    )
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-4)
    halves = [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]
    seen = state
    for half in halves:
        after, _ = run(step, recipe, seen, half, VGG_PARAMS)
        stats = after.generator.batch_stats
        seen = seen.replace(generator=seen.generator.replace(batch_stats=stats))
        if state.discriminator:
            stats = after.discriminator.batch_stats
            network = seen.discriminator.replace(batch_stats=stats)
            seen = seen.replace(discriminator=network)
    assert_close(one.generator.batch_stats, seen.generator.batch_stats)
    if state.discriminator:
        ours, theirs = (
            moved(state.discriminator, after.discriminator) for after in (one, two)
        )
        assert_close(ours, theirs, rtol=1e-3)
        assert_close(one.discriminator.batch_stats, seen.discriminator.batch_stats)
    assert one.step == 1


@pytest.mark.parametrize(
    ("stage_step", "decay"), [(0, 1 / 10), (5, 6 / 15), (1000, 0.75)]
)
def test_average_warms_up_and_then_moves_by_one_minus_decay(stage_step, decay):
    recipe = tiny.recipe(ema_decay=0.75, first_step=40)
    state = tiny.state(recipe).replace(step=jnp.int32(40 + stage_step))
    after, _ = run(steps.adversarial_step, recipe, state, tiny.batch(4))
    expected = jax.tree.map(
        lambda before, now: decay * before + (1 - decay) * now,
        state.ema,
        after.generator.variables,
    )
    assert_close(after.ema, expected, rtol=1e-6)
    assert after.step == 41 + stage_step


def test_metrics_include_the_learning_rate_of_the_step():
    schedule = optax.piecewise_constant_schedule(1.0, {3: 0.5})
    recipe = tiny.recipe(learning_rate=schedule, first_step=10)
    state = tiny.state(recipe, adversarial=False)
    rates = [
        run(
            *(steps.pretrain_step, recipe, state.replace(step=jnp.int32(step))),
            tiny.batch(4),
        )[1]["learning_rate"]
        for step in (10, 12, 13)
    ]
    assert rates == [1.0, 1.0, 0.5]


def test_content_loss_is_the_weighted_sum_of_its_terms():
    terms = (
        *tiny.vgg_content(),
        steps.ContentTerm("l1", 0.05),
        steps.ContentTerm("colour", 0.5),
        steps.ContentTerm("smooth", 2.0),
        steps.ContentTerm("grid", 3.0),
    )
    recipe = tiny.recipe(optimizer=DESCENT, content=terms)
    state, batch = tiny.state(recipe, adversarial=False), tiny.batch(4)
    batch["hr"][:, :16] = 100  # smooth blocks
    after, metrics = run(steps.pretrain_step, recipe, state, batch, VGG_PARAMS)
    lr, hr = batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0

    def loss(params):
        variables = {"params": params, "batch_stats": state.generator.batch_stats}
        sr = recipe.generator.apply(variables, lr, True, mutable=["batch_stats"])[0]
        features = [VGG.apply({"params": VGG_PARAMS}, x) / 12.75 for x in (sr, hr)]
        vgg = jnp.mean((features[0] - features[1]) ** 2)
        l1 = jnp.mean(jnp.abs(sr - hr))
        colour = losses.colour_distance(sr, hr)
        smooth = losses.smooth_distance(sr, hr)
        grid = losses.grid_distance(sr, hr, tiny.SCALE)
        total = vgg + 0.05 * l1 + 0.5 * colour + 2 * smooth + 3 * grid
        parts = {"_l1": l1, "_colour": colour, "_smooth": smooth, "_grid": grid}
        return total, parts | {"_vgg12": vgg}

    (content, parts), gradient = jax.value_and_grad(loss, has_aux=True)(
        state.generator.params
    )
    for name, value in (parts | {"": content}).items():
        np.testing.assert_allclose(metrics[f"content{name}"], value, rtol=1e-5)
    assert_close(moved(state.generator, after.generator), gradient)


@pytest.mark.parametrize("name", ["pretrain_step", "adversarial_step"])
def test_frozen_statistics_normalise_as_in_inference_and_remain(name):
    recipe = tiny.recipe(optimizer=DESCENT, freeze_statistics=True)
    state = tiny.state(recipe, adversarial=name == "adversarial_step")
    batch = tiny.batch(4)
    stats = jax.tree.map(lambda x: x + 0.5, state.generator.batch_stats)
    state = state.replace(generator=state.generator.replace(batch_stats=stats))
    after, metrics = run(getattr(steps, name), recipe, state, batch)
    lr, hr = batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0

    def loss(params):
        sr = recipe.generator.apply({"params": params, "batch_stats": stats}, lr)
        content = jnp.mean((sr - hr) ** 2)
        if state.discriminator is None:
            return content, content
        logits, _ = recipe.discriminator.apply(
            state.discriminator.variables, sr, True, mutable=["batch_stats"]
        )
        return content + 1e-3 * losses.adversarial_loss(logits), content

    (_, content), gradient = jax.value_and_grad(loss, has_aux=True)(
        state.generator.params
    )
    np.testing.assert_allclose(metrics["content"], content, rtol=1e-5)
    assert_close(moved(state.generator, after.generator), gradient, rtol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, after.generator.batch_stats, stats)


def test_running_statistics_of_d_are_updated_by_sr_hr_and_sr():
    recipe = tiny.recipe(optimizer=DESCENT)
    state, batch = tiny.state(recipe), tiny.batch(4)
    after, _ = run(steps.adversarial_step, recipe, state, batch)
    network, variables = recipe.discriminator, state.discriminator.variables
    lr, hr = batch["lr"] / 255.0, batch["hr"] / 127.5 - 1.0
    of_g = state.generator.variables
    sr, _ = recipe.generator.apply(of_g, lr, True, mutable=["batch_stats"])
    apply = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))
    for images in (sr, hr, sr):
        variables = variables | apply(variables, images)[1]
    assert_close(after.discriminator.batch_stats, variables["batch_stats"], rtol=1e-5)


def test_metrics_include_d_of_hr_and_of_sr():
    recipe = tiny.recipe()
    state = tiny.state(recipe)
    sure = state.discriminator.params | {
        "dense_1": {"kernel": jnp.zeros((4, 1)), "bias": jnp.array([2.0])}
    }
    state = state.replace(discriminator=state.discriminator.replace(params=sure))
    _, metrics = run(steps.adversarial_step, recipe, state, tiny.batch(4))
    probability = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(metrics["d_hr"], probability, rtol=1e-6)
    np.testing.assert_allclose(metrics["d_sr"], probability, rtol=1e-6)
    np.testing.assert_allclose(metrics["adversarial"], -np.log(probability), rtol=1e-6)
