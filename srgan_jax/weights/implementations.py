"""Settings of the networks of known SRGAN implementations.

This module holds data only. The size (scale, blocks, channels, hidden) is each
project's default; readers of weight files replace it by the size of the network in the
file. docs/porting.md compares the projects, and `training.presets` adds their training
settings.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Settings = dict[str, Any]

_GENERATOR = {"scale": 4, "blocks": 16, "channels": 64}
_DISCRIMINATOR = {"channels": 64, "hidden": 1024}
_TORCH = {
    "bn_epsilon": 1e-5,
    "bn_momentum": 0.9,  # PyTorch calls this 0.1
    "running_variance": "unbiased",
}
_KERAS = {"bn_epsilon": 1e-3, "bn_momentum": 0.8, "running_variance": "biased"}

IMPLEMENTATIONS: Mapping[str, Mapping[str, Settings]] = MappingProxyType(
    {
        # Lornatang/SRGAN-PyTorch: all its versions have the same architecture.
        "lornatang": {
            "generator": {
                **_GENERATOR,
                **_TORCH,
                "conv_bias": False,
                "prelu": "shared",
                "input_range": "unit",
                "output": "clip",
                "output_range": "unit",
                "initializer": "he",
            },
            "discriminator": {
                **_DISCRIMINATOR,
                **_TORCH,
                "conv_bias": False,
                "head": "dense",
                "padding": "torch",
                "input_range": "unit",
                "initializer": "torch",
            },
        },
        # sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution
        "sgrvinod": {
            "generator": {
                **_GENERATOR,
                **_TORCH,
                "conv_bias": True,
                "prelu": "shared",
                "input_range": "imagenet",
                "output": "tanh",
                "output_range": "symmetric",
                "initializer": "torch",
            },
            "discriminator": {
                **_DISCRIMINATOR,
                **_TORCH,
                "conv_bias": True,
                "head": "pooled",
                "padding": "torch",
                "input_range": "imagenet",
                "initializer": "torch",
            },
        },
        # krasserm/super-resolution. Keras starts PReLU at 0 (we start at 0.25), and the
        # last batch normalisation of its generator has momentum 0.99.
        "krasserm": {
            "generator": {
                **_GENERATOR,
                **_KERAS,
                "conv_bias": True,
                "prelu": "per_channel",
                "input_range": "unit",
                "output": "tanh",
                "output_range": "symmetric",
                "initializer": "glorot",
            },
            "discriminator": {
                **_DISCRIMINATOR,
                **_KERAS,
                "conv_bias": True,
                "head": "dense",
                "padding": "tf",
                "input_range": "symmetric",
                "initializer": "glorot",
            },
        },
        # leftthomas/SRGAN, current code. Its output (tanh + 1) / 2 in [0, 1] equals
        # tanh in [-1, 1]. Its discriminator ends in a global average pool, which ours
        # does not have: "pooled" (to 6x6, then dense layers) is the closest head.
        "leftthomas": {
            "generator": {
                **_GENERATOR,
                **_TORCH,
                "blocks": 5,
                "conv_bias": True,
                "prelu": "shared",
                "input_range": "unit",
                "output": "tanh",
                "output_range": "symmetric",
                "initializer": "torch",
            },
            "discriminator": {
                **_DISCRIMINATOR,
                **_TORCH,
                "conv_bias": True,
                "head": "pooled",
                "padding": "torch",
                "input_range": "unit",
                "initializer": "torch",
            },
        },
    }
)
