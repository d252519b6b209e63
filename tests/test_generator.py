"""The generator's shapes, counts, ranges and settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.models import generator
from srgan_jax.models.generator import Generator

KEY = jax.random.key(0)
SMALL = {"blocks": 1, "channels": 4}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, 1_547_350),  # Lornatang: no bias before BN, one PReLU slope a layer
        ({"conv_bias": True, "output": "tanh"}, 1_549_462),  # sgrvinod
        ({"conv_bias": True, "prelu": "per_channel"}, 1_550_659),  # krasserm
    ],
)
def test_the_paper_s_generator_has_its_number_of_parameters(settings, parameters):
    init = Generator(**settings).init
    variables = jax.eval_shape(init, KEY, jnp.zeros((1, 24, 24, 3)))
    assert count(variables["params"]) == parameters


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_output_is_scale_times_the_input(scale):
    network = Generator(scale=scale, **SMALL)
    sr, _ = network.init_with_output(KEY, jnp.zeros((2, 5, 3, 3)))
    assert sr.shape == (2, 5 * scale, 3 * scale, 3)


@pytest.mark.parametrize(
    ("settings", "lowest", "highest"),
    [
        ({"output": "tanh"}, -1, 1),
        ({"output": "clip"}, -1, 1),
        ({"output": "clip", "output_range": "unit"}, -1, 1),
    ],
)
def test_bounded_outputs_stay_in_the_house_range(settings, lowest, highest):
    network = Generator(**settings, **SMALL)
    lr = jax.random.uniform(KEY, (1, 4, 4, 3))
    variables = network.init(KEY, lr)
    kernel = variables["params"]["conv_out"]["kernel"]
    variables["params"]["conv_out"]["kernel"] = 1e3 * kernel
    sr = network.apply(variables, lr)
    assert sr.min() == lowest
    assert sr.max() == highest


def test_output_range_unit_is_the_same_network_on_another_scale():
    lr = jax.random.uniform(KEY, (1, 4, 4, 3))
    symmetric, unit = Generator(**SMALL), Generator(output_range="unit", **SMALL)
    variables = symmetric.init(KEY, lr)
    expected = 2 * symmetric.apply(variables, lr) - 1
    np.testing.assert_allclose(unit.apply(variables, lr), expected, atol=1e-6)


def test_input_range_is_converted_inside():
    lr = jax.random.uniform(KEY, (1, 4, 4, 3))
    byte, unit = Generator(input_range="byte", **SMALL), Generator(**SMALL)
    variables = unit.init(KEY, lr)
    scaled = jax.tree.map(lambda x: x, variables)
    scaled["params"]["conv_in"]["kernel"] /= 255
    np.testing.assert_allclose(
        byte.apply(scaled, lr), unit.apply(variables, lr), atol=1e-5
    )


def test_bfloat16_keeps_parameters_statistics_and_output_in_float32():
    network = Generator(dtype=jnp.bfloat16, **SMALL)
    lr = jax.random.uniform(KEY, (2, 4, 4, 3))
    variables = network.init(KEY, lr)
    sr, changed = network.apply(variables, lr, True, mutable=["batch_stats"])
    for leaf in jax.tree.leaves((variables, changed, sr)):
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 3}, "scale is 3; expected 2, 4 or 8"),
        ({"prelu": "none"}, "prelu is 'none'"),
        ({"output": "sigmoid"}, "output is 'sigmoid'"),
        ({"input_range": "hsv"}, "input_range is 'hsv'"),
        ({"output": "tanh", "output_range": "unit"}, "'tanh' speaks"),
        ({"initializer": "zeros"}, "initializer is 'zeros'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Generator(**SMALL | settings).init(KEY, jnp.zeros((1, 4, 4, 3)))


def test_settings_round_trip_and_unknown_ones_are_named():
    network = Generator(blocks=3, prelu="per_channel")
    assert generator.from_settings(generator.settings_of(network)) == network
    with pytest.raises(ValueError, match="unknown generator settings depth"):
        generator.from_settings({"depth": 3})
