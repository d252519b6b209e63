"""Images that carry their memory layout from one layer to the next.

A layout represents an array `[b, h, w, c]` whose values lie in memory in another order,
or have yet to be computed. The functions of this module take and return images, which
are plain arrays or layouts; the layout never changes the values.
"""

import abc
from collections.abc import Callable
from typing import Any, Union

import flax
import jax
import jax.numpy as jnp

from srgan_jax.kernels.convolution import Padding
from srgan_jax.kernels.convolution import convolve as convolve_array
from srgan_jax.kernels.pairs import (
    halving_convolution,
    pair,
    paired_convolution,
    unpair,
)
from srgan_jax.kernels.same_size import same_size_convolution
from srgan_jax.kernels.shuffled import pixel_shuffle as shuffle_array
from srgan_jax.kernels.shuffled import shuffle_order, shuffled_convolution
from srgan_jax.kernels.strided import strided_convolution

HALF_FULL = 64  # channels that fill half of a TPU's lanes
FEW = 4  # features; an image has 3

# Elementwise functions that map zero to zero; see `keeps_zero`.
KEEP_ZERO: set[Callable] = set()

Image = Union[jax.Array, "Layout"]


class Layout(abc.ABC):
    """Represents an array `[b, h, w, c]`; see the functions of the same names."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @abc.abstractmethod
    def convolve(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        stride: int,
        padding: Padding | None,
    ) -> Image: ...

    @abc.abstractmethod
    def elementwise(self, function: Callable, *per_channel: Any) -> Image: ...

    @abc.abstractmethod
    def pixel_shuffle(self) -> Image: ...

    @abc.abstractmethod
    def __add__(self, other: Any) -> Image: ...

    def __radd__(self, other: Any) -> Image:
        return self + other

    @abc.abstractmethod
    def to_array(self) -> Any: ...


def convolve(
    x: Image,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    stride: int = 1,
    padding: Padding | None = None,
) -> Image:
    """Convolves and adds a bias, in the kernel's dtype.

    Plain arrays take the implementation that is fastest in training, which needs more
    memory; the layouts of kernels.inference save that memory.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[size, size, c, features]`, of odd size.
      bias: `[features]`, or None.
      stride: 1, or 2 if the size is 3.
      padding: (before, after) for rows and for columns; `size // 2` by default.

    Returns:
      `[b, h', w', features]`.

    Raises:
      ValueError: the stride is neither 1 nor 2, or stride 2 does not support the size
        or the padding.
    """
    if isinstance(x, Layout):
        return x.convolve(kernel, bias, stride, padding)
    y = _convolve(x, kernel, stride, padding)
    return y if bias is None else elementwise(add_bias, y, bias)


def elementwise(function: Callable, x: Image, *per_channel: Any) -> Image:
    """Applies an elementwise function: `function(x, *per_channel)`.

    Args:
      function: takes an array and the values of `per_channel`.
      x: `[b, h, w, c]`.
      per_channel: further arguments: numbers, or vectors `[c]` or `[1]`.
    """
    if isinstance(x, Layout):
        return x.elementwise(function, *per_channel)
    return function(x, *per_channel)


def keeps_zero(function: Callable) -> Callable:
    """Declares that an elementwise function maps zero to zero, which saves a mask."""
    KEEP_ZERO.add(function)
    return function


def sub_pixel_convolve(x: Image, kernel: jax.Array, bias: jax.Array | None) -> Image:
    """Convolves, then shuffles lazily; see Unshuffled.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[size, size, c, 4 features]`, of odd size, with PyTorch's order of output
        channels, (features, i, j).
      bias: `[4 features]`, or None.

    Returns:
      `[b, 2 h, 2 w, features]`.
    """
    bias = None if bias is None else shuffle_order(bias)
    return pixel_shuffle(convolve(x, shuffle_order(kernel), bias))


def pixel_shuffle(x: Image) -> Image:
    """Maps `[b, h, w, 4 c]` to `[b, 2 h, 2 w, c]`; channels have `shuffle_order`."""
    return x.pixel_shuffle() if isinstance(x, Layout) else Unshuffled(x)


def to_array(x: Image) -> jax.Array:
    """The plain array that an image represents."""
    return x.to_array() if isinstance(x, Layout) else x


@flax.struct.dataclass
class Paired(Layout):
    """Stores neighbouring pixels in pairs to fill a TPU's lanes; see kernels.pairs.

    Attributes:
      array: `[b, h, w / 2, 2 c]`.
    """

    array: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        b, h, w, c = self.array.shape
        return b, h, 2 * w, c // 2

    def convolve(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        stride: int,
        padding: Padding | None,
    ) -> Image:
        array = self.array.astype(kernel.dtype)
        if len(kernel) == 3 and stride == 2:
            y: Image = halving_convolution(array, kernel, padding or (1, 1))
        elif _suits_pairs(kernel) and _keeps_size(kernel, stride, padding):
            y = Paired(paired_convolution(array, kernel))
        else:
            return convolve(self.to_array(), kernel, bias, stride, padding)
        return y if bias is None else elementwise(add_bias, y, bias)

    def elementwise(self, function: Callable, *per_channel: Any) -> "Paired":
        both = (_repeated(v, lambda v: jnp.tile(v, 2)) for v in per_channel)
        return Paired(function(self.array, *both))

    def pixel_shuffle(self) -> Image:
        return pixel_shuffle(self.to_array())

    def __add__(self, other: Any) -> Image:
        if isinstance(other, Paired):
            return Paired(self.array + other.array)
        return self.to_array() + to_array(other)

    def to_array(self) -> jax.Array:
        return unpair(self.array)


@flax.struct.dataclass
class Unshuffled(Layout):
    """An image whose PixelShuffle is still pending: the next convolution may fuse it.

    Elementwise functions commute with the shuffle: the four channels that become one
    channel get the same parameters.

    Attributes:
      array: `[b, h, w, 4 c]`, which represents `[b, 2 h, 2 w, c]`. Channels have the
        platform's `shuffle_order`.
    """

    array: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        b, h, w, c = self.array.shape
        return b, 2 * h, 2 * w, c // 4

    def convolve(
        self,
        kernel: jax.Array,
        bias: jax.Array | None,
        stride: int,
        padding: Padding | None,
    ) -> Image:
        if kernel.shape[-1] > FEW or not _keeps_size(kernel, stride, padding):
            return convolve(self.to_array(), kernel, bias, stride, padding)
        y = shuffled_convolution(self.array.astype(kernel.dtype), kernel)
        return y if bias is None else add_bias(y, bias)

    def elementwise(self, function: Callable, *per_channel: Any) -> "Unshuffled":
        def repeat(v: jax.Array) -> jax.Array:
            return shuffle_order(jnp.repeat(v, 4))

        four = (_repeated(v, repeat) for v in per_channel)
        return Unshuffled(function(self.array, *four))

    def pixel_shuffle(self) -> Image:
        return pixel_shuffle(self.to_array())

    def __add__(self, other: Any) -> Image:
        return self.to_array() + to_array(other)

    def to_array(self) -> jax.Array:
        return shuffle_array(self.array)


def _convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding | None
) -> Image:
    x = x.astype(kernel.dtype)
    if stride == 2:
        return strided_convolution(x, kernel, padding or (1, 1))
    if stride != 1:
        raise ValueError(f"stride is {stride}; expected 1 or 2")
    if not _keeps_size(kernel, stride, padding):
        return convolve_array(x, kernel, padding=padding and [padding, padding])
    pairs = x.shape[2] % 2 == 0 and kernel.shape[-1] <= HALF_FULL
    if pairs and _suits_pairs(kernel):
        return Paired(paired_convolution(pair(x), kernel))
    y = same_size_convolution(x, kernel)
    return Paired(pair(y)) if pairs else y


def _keeps_size(kernel: jax.Array, stride: int, padding: Padding | None) -> bool:
    half = len(kernel) // 2
    return stride == 1 and padding in (None, (half, half))


def _suits_pairs(kernel: jax.Array) -> bool:
    size, _, channels, features = kernel.shape
    return size == 3 and max(channels, features) <= HALF_FULL


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    return x + bias.astype(x.dtype)[None, None, None]


def _repeated(value: Any, repeat: Callable) -> Any:
    """Applies `repeat` to a vector of channels; keeps what all channels share."""
    return repeat(value) if jnp.ndim(value) and len(value) > 1 else value
