"""The generator at inference: the same function in less arithmetic.

Batch normalisation is folded into the convolutions, and the last convolution puts its
nine rows of taps side by side as channels. A picture may end before its array does:
all that lies outside it is zero in front of every convolution, as the zero padding at
the border of a picture of its own is, so that the result does not depend on the array.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from srgan_jax.models import layers
from srgan_jax.models.generator import Generator

REACH = 4  # of the 9x9 convolutions, to each side
LANES = 16  # vector width that the last convolution's channels are rounded up to

Array = jax.Array | np.ndarray


class Convolution(NamedTuple):
    """Kernel `[k, k, in, out]`, bias `[out]` and the PReLU behind it, if any."""

    kernel: Array
    bias: Array
    slope: Array | None = None


class Folded(NamedTuple):
    """The convolutions of a generator; those of the blocks are stacked."""

    first: Convolution
    blocks: tuple[Convolution, Convolution] | None
    middle: Convolution
    up: tuple[Convolution, ...]
    last: Convolution


def halo(network: Generator) -> int:
    """LR pixels to each side that SR depends on: the receptive field's radius."""
    return REACH + 2 * network.blocks + 1 + margin(network.scale)


def margin(scale: int) -> int:
    """LR pixels to each side that `reconstruct` reads beyond what it gives."""
    reach = REACH
    for _ in range(scale.bit_length() - 1):
        reach = -(-reach // 2) + 1
    return reach


def fold(network: Generator, variables: Mapping[str, Any]) -> Folded:
    """Folds each batch normalisation into the convolution in front of it.

    The arrays take the network's `dtype`, and so does the computation with them.
    """
    params, stats = variables["params"], variables["batch_stats"]

    def conv(
        name: str, bn: str = "", act: str = "", *, within: str = ""
    ) -> Convolution:
        p, s = (tree[within] if within else tree for tree in (params, stats))
        kernel = np.asarray(p[name]["kernel"], np.float64)
        bias = np.asarray(p[name].get("bias", np.zeros(kernel.shape[-1])), np.float64)
        if bn:
            mean, var = (np.asarray(s[bn][key], np.float64) for key in ("mean", "var"))
            gain = np.asarray(p[bn]["scale"]) / np.sqrt(var + network.bn_epsilon)
            kernel, bias = kernel * gain, (bias - mean) * gain + p[bn]["bias"]
        slope = np.asarray(p[act]["slope"]) if act else None
        return Convolution(kernel, bias, slope)

    blocks = [
        (
            conv("conv1", "bn1", "prelu", within=f"block_{i}"),
            conv("conv2", "bn2", within=f"block_{i}"),
        )
        for i in range(network.blocks)
    ]
    steps = range(network.scale.bit_length() - 1)
    folded = Folded(
        first=conv("conv_in", act="prelu_in"),
        blocks=jax.tree.map(lambda *x: np.stack(x), *blocks) if blocks else None,
        middle=conv("conv_mid", "bn_mid"),
        up=tuple(_repeat_slope(conv(f"up_{i}", act=f"prelu_up_{i}")) for i in steps),
        last=_rows_as_channels(conv("conv_out")),
    )
    return jax.tree.map(lambda x: jnp.asarray(x, network.dtype), folded)


def _repeat_slope(conv: Convolution) -> Convolution:
    """PReLU commutes with PixelShuffle if four neighbours share a slope."""
    assert conv.slope is not None
    count = conv.slope.size
    return conv._replace(slope=np.repeat(conv.slope, 4 if count > 1 else 1))


def _rows_as_channels(conv: Convolution) -> Convolution:
    """9x9 to 3 channels -> 1x9 to 9 rows of 3 channels: three fill no vector."""
    rows, columns, channels, colours = conv.kernel.shape
    kernel = np.moveaxis(np.asarray(conv.kernel), 0, 2)
    kernel = kernel.reshape(1, columns, channels, rows * colours)
    spare = -(rows * colours) % LANES
    bias = np.pad(np.asarray(conv.bias), (0, (rows - 1) * colours + spare))
    return Convolution(np.pad(kernel, [(0, 0)] * 3 + [(0, spare)]), bias)


def features(
    network: Generator, folded: Folded, lr: jax.Array, size: jax.Array
) -> jax.Array:
    """What the sub-pixel convolutions start from.

    Args:
      network: whose settings count, not its parameters.
      folded: its convolutions.
      lr: `[batch, h, w, 3]` in [0, 1].
      size: `[2]`, rows and columns of it, from the first, that are picture.

    Returns:
      `[batch, h, w, channels]`, zero outside the picture.
    """
    inside = _inside(lr.shape[1:3], jnp.zeros_like(size), size)

    def conv(x: jax.Array, layer: Convolution) -> jax.Array:
        return jnp.where(inside, _convolve(x, layer), 0)

    def block(
        x: jax.Array, pair: tuple[Convolution, Convolution]
    ) -> tuple[jax.Array, None]:
        return x + conv(conv(x, pair[0]), pair[1]), None

    x = layers.from_unit(lr, network.input_range).astype(network.dtype)
    x = skip = conv(jnp.where(inside, x, 0), folded.first)
    if folded.blocks is not None:
        x, _ = lax.scan(block, x, folded.blocks)
    return conv(x, folded.middle) + skip


def reconstruct(
    network: Generator,
    folded: Folded,
    x: jax.Array,
    start: jax.Array,
    size: jax.Array,
) -> jax.Array:
    """From features to SR, for one cell of a picture.

    Args:
      network: whose settings count, not its parameters.
      folded: its convolutions.
      x: features `[batch, h + 2 m, w + 2 m, channels]`, m being `margin(scale)`.
      start: `[2]`, row and column where the cell begins, without its margin.
      size: `[2]`, rows and columns that are picture.

    Returns:
      `[batch, scale h, scale w, 3]` in [-1, 1], float32.
    """
    m = margin(network.scale)
    shape = np.array([x.shape[1] - 2 * m, x.shape[2] - 2 * m])
    factor = 1
    for layer in folded.up:
        x, m = _convolve(x, layer)[:, 1:-1, 1:-1], m - 1
        inside = _inside(x.shape[1:3], factor * start - m, factor * size)
        x = layers.pixel_shuffle(jnp.where(inside, x, 0))
        factor, m = 2 * factor, 2 * m
    height, width = factor * shape
    rows = _convolve(x, folded.last).astype(jnp.float32)[:, :, m : m + width]
    taps = [
        rows[:, m + i - REACH : m + i - REACH + height, :, 3 * i : 3 * i + 3]
        for i in range(2 * REACH + 1)
    ]
    return network.to_symmetric(functools.reduce(jnp.add, taps))


def _convolve(x: jax.Array, layer: Convolution) -> jax.Array:
    # Padded, since without padding XLA copies each neighbourhood on the CPU: 3x slower.
    kernel = jnp.asarray(layer.kernel)
    x = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = x + layer.bias
    return x if layer.slope is None else jnp.where(x >= 0, x, layer.slope * x)


def _inside(shape: tuple[int, ...], start: jax.Array, size: jax.Array) -> jax.Array:
    """`[1, h, w, 1]`: is it picture, where an array lies that begins at `start`."""
    positions = [begin + jnp.arange(n) for begin, n in zip(start, shape, strict=True)]
    rows, columns = (
        (at >= 0) & (at < n) for at, n in zip(positions, size, strict=True)
    )
    return (rows[:, None] & columns)[None, :, :, None]
