"""Complete settings of known implementations, under the configuration's field names.

If an implementation changed over time, a comment names the version of the preset.
docs/porting.md compares the implementations and lists what a preset does not cover.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from srgan_jax.weights.implementations import IMPLEMENTATIONS

Preset = dict[str, dict[str, Any]]

# torchvision's VGG19. Users download it from PyTorch into the current directory.
_TORCHVISION = {
    "weights": "vgg19-dcbb9e9d.pth",
    "feature_scale": 1.0,
    "reduction": "mean",
}
_ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}


def _adversarial(order: str) -> dict[str, Any]:
    return {"weight": 1e-3, "form": "non_saturating", "order": order}


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        # The version of 2022; later versions detach the content loss from the graph.
        "lornatang": {
            **IMPLEMENTATIONS["lornatang"],
            "content": {**_TORCHVISION, "range": "unit"},
            "adversarial": _adversarial("discriminator_first"),
            "optimizer": _ADAM,
        },
        "sgrvinod": {
            **IMPLEMENTATIONS["sgrvinod"],
            "content": {**_TORCHVISION, "range": "symmetric"},
            "adversarial": _adversarial("generator_first"),
            "optimizer": _ADAM,
        },
        # The original takes the MSE on 0..255. Adam makes this scale almost irrelevant.
        "krasserm": {
            **IMPLEMENTATIONS["krasserm"],
            "content": {
                "weights": "vgg19",
                "feature_scale": 1 / 12.75,
                "reduction": "mean",
                "range": "symmetric",
            },
            "adversarial": _adversarial("generator_first"),
            "optimizer": {"b1": 0.9, "b2": 0.999, "eps": 1e-7},
        },
        # The original trains with VGG16 (on [0, 1], without normalisation) and
        # minimises 1 - D instead of -log D. Neither can be set here.
        "leftthomas": {
            **IMPLEMENTATIONS["leftthomas"],
            "content": {**_TORCHVISION, "range": "unit"},
            "adversarial": _adversarial("discriminator_first"),
            "optimizer": _ADAM,
        },
    }
)
