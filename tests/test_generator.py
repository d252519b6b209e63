"""The generator's shapes, parameter counts, ranges and settings."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from srgan_jax.kernels.layouts import Layout
from srgan_jax.models import layers, registry
from srgan_jax.models.generator import Generator

KEY = jax.random.key(0)
SMALL = {"blocks": 1, "channels": 4}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, 1_547_350),  # Lornatang: no bias before BN, one PReLU slope per layer
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
def test_bounded_outputs_stay_within_minus_one_and_one(settings, lowest, highest):
    network = Generator(**settings, **SMALL)
    lr = jax.random.uniform(KEY, (1, 4, 4, 3))
    variables = network.init(KEY, lr)
    kernel = variables["params"]["conv_out"]["kernel"]
    variables["params"]["conv_out"]["kernel"] = 1e3 * kernel
    sr = network.apply(variables, lr)
    assert sr.min() == lowest
    assert sr.max() == highest


def test_output_range_unit_only_rescales_the_output():
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
        ({"output": "tanh", "output_range": "unit"}, "output is 'tanh', which gives"),
        ({"initializer": "zeros"}, "initializer is 'zeros'"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Generator(**SMALL | settings).init(KEY, jnp.zeros((1, 4, 4, 3)))


def test_settings_round_trip_and_unknown_settings_are_named():
    network = Generator(blocks=3, prelu="per_channel")
    assert registry.create("generator", tiny.settings_of(network)) == network
    with pytest.raises(ValueError, match=r"generator\.network is 'rrdb'"):
        registry.create("generator", {"network": "rrdb"})
    with pytest.raises(ValueError, match="unknown generator settings depth"):
        registry.create("generator", {"depth": 3})


@dataclasses.dataclass(frozen=True)
class Recorder(Layout):
    """An image that records the operations of a network."""

    channels: int
    operations: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, 8, 8, self.channels

    def convolve(self, kernel, bias, stride, padding) -> "Recorder":
        size, _, _, features = kernel.shape
        return self._after(f"k{size}n{features}s{stride}", features)

    def elementwise(self, function: Any, *per_channel: Any) -> "Recorder":
        names = {layers.prelu: "PReLU", layers.normalise: "BN"}
        return self._after(names[function]) if function in names else self

    def pixel_shuffle(self) -> "Recorder":
        return self._after("PixelShuffle", self.channels // 4)

    def __add__(self, other: Any) -> "Recorder":
        return self._after("sum")

    def to_array(self) -> "Recorder":
        return self

    def _after(self, operation: str, channels: int = 0) -> "Recorder":
        self.operations.append(operation)
        return Recorder(channels or self.channels, self.operations)


def test_operations_follow_figure_4_of_the_paper():
    generator = Generator()
    variables = jax.eval_shape(generator.init, KEY, jnp.zeros((1, 8, 8, 3)))
    operations: list[str] = []

    def record(variables):
        generator.apply(variables, Recorder(3, operations))
        return 0

    jax.eval_shape(record, variables)
    conv, up = "k3n64s1", ["k3n256s1", "PixelShuffle", "PReLU"]
    block = [conv, "BN", "PReLU", conv, "BN", "sum"]
    assert operations == [
        *("k9n64s1", "PReLU"),
        *(16 * block),
        *(conv, "BN", "sum"),
        *(2 * up),
        "k9n3s1",
    ]


def test_reconstruct_of_features_equals_the_generator():
    network = Generator(**SMALL)
    lr = jax.random.uniform(KEY, (1, 4, 6, 3))
    variables = network.init(KEY, lr)
    features = network.apply(variables, lr, method="features")
    sr = network.apply(variables, features, method="reconstruct")
    np.testing.assert_allclose(sr, network.apply(variables, lr), atol=1e-6)
