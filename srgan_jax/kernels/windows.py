"""Windows of a picture, in which a picture of any size goes through fixed shapes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp

from srgan_jax.kernels.convolution import Padding
from srgan_jax.kernels.layouts import Inference, Unshuffled, elementwise, to_array


@flax.struct.dataclass
class Window(Inference):
    """A window of a picture; it may reach beyond the picture.

    All that lies outside of the picture is zero in front of every convolution, as the
    zero padding of a whole picture is: the result does not depend on the window.

    Attributes:
      image: see Inference.
      start: `[2]`, row and column of the picture at which the window begins.
      size: `[2]`, rows and columns of the picture.
      spare: rows and columns at each edge that only convolutions look at. A convolution
        drops those that it cannot compute, `to_array` drops what is left of them.
    """

    start: jax.Array
    size: jax.Array
    spare: int = flax.struct.field(default=0, pytree_node=False)

    def convolve(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        stride: int,
        padding: Padding | None,
    ) -> "Window":
        half = len(kernel) // 2
        if stride != 1 or padding not in (None, (half, half)):
            raise ValueError(
                f"a window of a picture cannot take stride {stride} and padding "
                f"{padding}; expected a convolution that keeps the size"
            )
        y = to_array(super().convolve(kernel, bias, stride, padding).image)
        drop = min(self.spare, half)
        image, start = _cropped(y, drop), self.start + drop
        return Window(image, start, self.size, self.spare - drop).masked()

    def elementwise(self, function: Callable, *per_channel: Any) -> "Window":
        image = elementwise(function, self.image, *per_channel)
        return dataclasses.replace(self, image=image).masked()

    def pixel_shuffle(self) -> "Window":
        image = super().pixel_shuffle().image
        return Window(image, 2 * self.start, 2 * self.size, 2 * self.spare)

    def to_array(self) -> jax.Array:
        return _cropped(to_array(self.image), self.spare)

    def masked(self) -> "Window":
        """The window with zeros outside of the picture."""
        if isinstance(self.image, Unshuffled):
            array = _masked(self.image.array, self.start // 2, self.size // 2)
            return dataclasses.replace(self, image=Unshuffled(array))
        image = _masked(to_array(self.image), self.start, self.size)
        return dataclasses.replace(self, image=image)


def _masked(x: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    def inside(axis: int) -> jax.Array:
        at = start[axis] + jnp.arange(x.shape[1 + axis])
        return (at >= 0) & (at < size[axis])

    picture = inside(0)[:, None] & inside(1)
    return jnp.where(picture[None, :, :, None], x, 0)


def _cropped(x: jax.Array, margin: int) -> jax.Array:
    _, h, w, _ = x.shape
    return x[:, margin : h - margin, margin : w - margin]
