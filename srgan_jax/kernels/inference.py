"""Layouts for inference: whole images, and windows of images.

With windows, programs of fixed shapes can process images of any size.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp

from srgan_jax.kernels.convolution import Padding
from srgan_jax.kernels.convolution import convolve as convolve_array
from srgan_jax.kernels.layouts import (
    FEW,
    KEEP_ZERO,
    Image,
    Layout,
    Unshuffled,
    add_bias,
    elementwise,
    pixel_shuffle,
    to_array,
)


@flax.struct.dataclass
class Inference(Layout):
    """An image that needs no gradient, for which XLA's own convolutions are used.

    They need the least memory and compile fastest.

    Attributes:
      values: `[b, h, w, c]`, an array or Unshuffled.
    """

    values: Image

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def convolve(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        stride: int,
        padding: Padding | None,
    ) -> "Inference":
        if isinstance(self.values, Unshuffled) and kernel.shape[-1] <= FEW:
            y = self.values.convolve(kernel, bias, stride, padding)
        else:
            x = to_array(self.values).astype(kernel.dtype)
            both = padding and [padding, padding]
            y = convolve_array(x, kernel, (stride, stride), both)
            y = y if bias is None else add_bias(y, bias)
        return dataclasses.replace(self, values=y)

    def elementwise(self, function: Callable, *per_channel: Any) -> "Inference":
        values = elementwise(function, self.values, *per_channel)
        return dataclasses.replace(self, values=values)

    def pixel_shuffle(self) -> "Inference":
        values = pixel_shuffle(to_array(self.values))
        return dataclasses.replace(self, values=values)

    def __add__(self, other: Any) -> "Inference":
        values = to_array(self.values) + to_array(other.values)
        return dataclasses.replace(self, values=values)

    def to_array(self) -> jax.Array:
        return to_array(self.values)


def for_inference(x: Image) -> Image:
    """Marks an image as needing no gradient; see Inference."""
    return x if isinstance(x, Layout) else Inference(x)


@flax.struct.dataclass
class Window(Inference):
    """A window of an image, which may extend beyond the image's borders.

    Positions outside the image are set to zero before every convolution, like the zero
    padding of a whole image. The result therefore does not depend on the window.

    Attributes:
      values: see Inference.
      start: `[2]`, the window's first row and column in the image.
      size: `[2]`, height and width of the image.
      spare: width of the margin that is only an input of convolutions.
      reach: distance over which the convolutions to come read, in total. A convolution
        drops the part of the margin that exceeds what they need; `to_array` drops the
        rest.
    """

    start: jax.Array
    size: jax.Array
    spare: int = flax.struct.field(default=0, pytree_node=False)
    reach: int = flax.struct.field(default=0, pytree_node=False)

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
                f"a window of an image cannot take stride {stride} and padding "
                f"{padding}; expected a convolution that keeps the size"
            )
        y = to_array(super().convolve(kernel, bias, stride, padding).values)
        window = dataclasses.replace(self, values=y, reach=max(0, self.reach - half))
        return window._without_margin(max(0, self.spare - window.reach)).masked()

    def elementwise(self, function: Callable, *per_channel: Any) -> "Window":
        values = elementwise(function, self.values, *per_channel)
        window = dataclasses.replace(self, values=values)
        return window if function in KEEP_ZERO else window.masked()

    def pixel_shuffle(self) -> "Window":
        values = super().pixel_shuffle().values
        start, size, spare, reach = self.start, self.size, self.spare, self.reach
        return Window(values, 2 * start, 2 * size, 2 * spare, 2 * reach)

    def __add__(self, other: "Window") -> "Window":
        x, skip = sorted((self, other), key=lambda window: window.reach)
        skip = skip._without_margin(skip.spare - x.spare)
        return dataclasses.replace(x, values=to_array(x.values) + to_array(skip.values))

    def to_array(self) -> jax.Array:
        return to_array(self._without_margin(self.spare).values)

    def _without_margin(self, drop: int) -> "Window":
        """Drops the outermost `drop` pixels."""
        values = to_array(self.values)
        _, h, w, _ = values.shape
        values = values[:, drop : h - drop, drop : w - drop]
        start, spare = self.start + drop, self.spare - drop
        return dataclasses.replace(self, values=values, start=start, spare=spare)

    def masked(self) -> "Window":
        """Sets the positions outside the image to zero."""
        if isinstance(self.values, Unshuffled):
            array = _masked(self.values.array, self.start // 2, self.size // 2)
            return dataclasses.replace(self, values=Unshuffled(array))
        values = _masked(to_array(self.values), self.start, self.size)
        return dataclasses.replace(self, values=values)


def _masked(x: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    def inside(axis: int) -> jax.Array:
        at = start[axis] + jnp.arange(x.shape[1 + axis])
        return (at >= 0) & (at < size[axis])

    inner = inside(0)[:, None] & inside(1)[None]
    return jnp.where(inner[None, :, :, None], x, 0)
