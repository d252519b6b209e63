"""Complete settings of known implementations, by the names of the configuration.

Data only. Where an implementation changed over time, the comment says which version
is meant; docs/porting.md compares them and says what a preset leaves out.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from srgan_jax.weights.implementations import IMPLEMENTATIONS

Preset = dict[str, dict[str, Any]]

# torchvision's VGG19, which PyTorch publishes: the user puts the file where the run
# starts.
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
        # The training of 2022; later versions detach the content loss from the graph.
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
        # Its MSE is taken on 0..255, which Adam all but cancels.
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
        # It trains with VGG16 (on [0, 1] without normalisation) and with 1 - D in place
        # of -log D, neither of which can be set here.
        "leftthomas": {
            **IMPLEMENTATIONS["leftthomas"],
            "content": {**_TORCHVISION, "range": "unit"},
            "adversarial": _adversarial("discriminator_first"),
            "optimizer": _ADAM,
        },
    }
)
