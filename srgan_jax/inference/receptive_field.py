"""Computes the receptive field of a generator by tracing the network."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from srgan_jax.kernels.layouts import Image, Layout


@dataclasses.dataclass(frozen=True)
class Reach(Layout):
    """Replaces an image to trace how far values depend on their neighbours.

    Attributes:
      channels: number of channels of the image.
      reach: radius of the receptive field of each value, in LR pixels.
      pixel: side of a pixel of this image, in LR pixels.
    """

    channels: int
    reach: Fraction = Fraction(0)
    pixel: Fraction = Fraction(1)

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, 1, 1, self.channels

    def convolve(self, kernel: Any, *_: Any) -> "Reach":
        reach = self.reach + len(kernel) // 2 * self.pixel
        return Reach(kernel.shape[-1], reach, self.pixel)

    def elementwise(self, function: Callable, *per_channel: Any) -> "Reach":
        return self

    def pixel_shuffle(self) -> "Reach":
        return Reach(self.channels // 4, self.reach, self.pixel / 2)

    def __add__(self, other: Any) -> "Reach":
        return max(self, other, key=lambda image: image.reach)

    def to_array(self) -> Image:
        return self


def receptive_field(network: Any, variables: Mapping[str, Any]) -> tuple[int, int]:
    """Computes the radii of a generator's two receptive fields, in LR pixels.

    Their sum is the radius of the whole generator.

    Args:
      network: a generator.
      variables: the generator's variables.

    Returns:
      The radii of its methods `features` and `reconstruct`.
    """
    features = network.apply(variables, Reach(3), method="features")
    part = network.apply(variables, Reach(features.channels), method="reconstruct")
    return math.ceil(features.reach), math.ceil(part.reach)
