"""The registry of networks, through which all code creates and checks them.

To add a network, add an entry to `NETWORKS`. Its settings are its Linen attributes
except those in `EXECUTION`. Settings in a file or a configuration may name the network
under 'network'; without it they belong to the first network of its kind.

A generator must have an attribute `scale`, take LR and `train` when called, and have
the methods `features` (LR to feature maps) and `reconstruct` (feature maps to SR),
which use running statistics unless `train` is given.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from srgan_jax.choices import one_of
from srgan_jax.models.discriminator import Discriminator
from srgan_jax.models.generator import Generator
from srgan_jax.models.vgg import VGG19

NETWORKS: dict[str, dict[str, type[nn.Module]]] = {
    "generator": {"srresnet": Generator},
    "discriminator": {"srgan": Discriminator},
    "vgg19": {"vgg19": VGG19},
}
# Attributes that may differ between uses of the same weights; files do not store them.
EXECUTION = ("dtype", "axis_name", "folded", "layer", "parent", "name")


def create(kind: str, settings: Mapping[str, Any], **execution: Any) -> Any:
    """Creates the network with the given settings.

    Args:
      kind: 'generator', 'discriminator' or 'vgg19'.
      settings: the network's settings by name.
      execution: attributes in `EXECUTION`, such as `dtype` and `axis_name`.

    Raises:
      ValueError: the network or a setting is unknown.
    """
    settings, networks = dict(settings), NETWORKS[kind]
    name = settings.pop("network", next(iter(networks)))
    module = networks[one_of(f"{kind}.network", name, tuple(networks))]
    known = [field for field in module.__dataclass_fields__ if field not in EXECUTION]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"unknown {kind} settings {', '.join(unknown)}; this version knows "
            f"{', '.join(known)}"
        )
    return module(**settings, **execution)
