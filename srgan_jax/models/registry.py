"""The networks by name. All that creates, loads, saves or checks a network asks here.

A network of a kind is one entry of `NETWORKS`. Its settings are its Linen attributes
but for `EXECUTION`; those of a file or a configuration may name the network under
'network', and mean the first of the kind otherwise.

A generator has an attribute `scale`, is called with LR and `train`, and has the methods
`features` (LR to feature maps) and `reconstruct` (feature maps to SR).
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
# Attributes that belong to a use of the weights, not to the weights.
EXECUTION = ("dtype", "axis_name", "folded", "layer", "parent", "name")


def create(kind: str, settings: Mapping[str, Any], **execution: Any) -> Any:
    """The network of these settings.

    Args:
      kind: 'generator', 'discriminator' or 'vgg19'.
      settings: of the network, by name.
      execution: attributes of `EXECUTION`, such as `dtype` and `axis_name`.

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
