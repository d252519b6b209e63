"""Complete settings of known implementations, by the names of the configuration.

Data only. Where an implementation changed over time, the comment says which version
is meant; docs/porting.md compares them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Preset = dict[str, dict[str, Any]]

_SIZE = {"scale": 4, "blocks": 16, "channels": 64}
_TORCH = {
    "bn_epsilon": 1e-5,
    "bn_momentum": 0.9,  # PyTorch's 0.1
    "running_variance": "unbiased",
}
_KERAS = {"bn_epsilon": 1e-3, "bn_momentum": 0.8, "running_variance": "biased"}
# torchvision's weights, as PyTorch publishes them: a file that the user brings
_TORCHVISION = "vgg19-dcbb9e9d.pth"
_ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}

# Lornatang/SRGAN-PyTorch as its training was in 2022; later versions detach the content
# loss from the graph. The weights of all versions fit these networks.
_LORNATANG: Preset = {
    "generator": {
        **_SIZE,
        **_TORCH,
        "conv_bias": False,
        "prelu": "shared",
        "input_range": "unit",
        "output": "clip",
        "output_range": "unit",
        "initializer": "he",
    },
    "discriminator": {
        **_TORCH,
        "channels": 64,
        "hidden": 1024,
        "conv_bias": False,
        "head": "dense",
        "padding": "torch",
        "input_range": "unit",
        "initializer": "torch",
    },
    "content": {
        "weights": _TORCHVISION,
        "feature_scale": 1.0,
        "reduction": "mean",
        "range": "unit",
    },
    "adversarial": {
        "weight": 1e-3,
        "form": "non_saturating",
        "order": "discriminator_first",
    },
    "optimizer": _ADAM,
}

_SGRVINOD: Preset = {
    "generator": {
        **_SIZE,
        **_TORCH,
        "conv_bias": True,
        "prelu": "shared",
        "input_range": "imagenet",
        "output": "tanh",
        "output_range": "symmetric",
        "initializer": "torch",
    },
    "discriminator": {
        **_TORCH,
        "channels": 64,
        "hidden": 1024,
        "conv_bias": True,
        "head": "pooled",
        "padding": "torch",
        "input_range": "imagenet",
        "initializer": "torch",
    },
    "content": {
        "weights": _TORCHVISION,
        "feature_scale": 1.0,
        "reduction": "mean",
        "range": "symmetric",
    },
    "adversarial": {
        "weight": 1e-3,
        "form": "non_saturating",
        "order": "generator_first",
    },
    "optimizer": _ADAM,
}

# Keras's PReLU starts from 0 (ours from 0.25), the generator's last BN has momentum
# 0.99, and its MSE is taken on 0..255, which Adam all but cancels.
_KRASSERM: Preset = {
    "generator": {
        **_SIZE,
        **_KERAS,
        "conv_bias": True,
        "prelu": "per_channel",
        "input_range": "unit",
        "output": "tanh",
        "output_range": "symmetric",
        "initializer": "glorot",
    },
    "discriminator": {
        **_KERAS,
        "channels": 64,
        "hidden": 1024,
        "conv_bias": True,
        "head": "dense",
        "padding": "tf",
        "input_range": "symmetric",
        "initializer": "glorot",
    },
    "content": {
        "weights": "vgg19",
        "feature_scale": 1 / 12.75,
        "reduction": "mean",
        "range": "symmetric",
    },
    "adversarial": {
        "weight": 1e-3,
        "form": "non_saturating",
        "order": "generator_first",
    },
    "optimizer": {"b1": 0.9, "b2": 0.999, "eps": 1e-7},
}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {"lornatang": _LORNATANG, "sgrvinod": _SGRVINOD, "krasserm": _KRASSERM}
)
