"""3x3 convolutions by Winograd's minimal filtering F(2x2, 3x3).

Each 2x2 block of the result takes 16 products of the transformed kernel with a
transformed 4x4 tile of the image, instead of 36 (Lavin and Gray 2016, "Fast Algorithms
for Convolutional Neural Networks", sec. 4.1). The gradients of the image and of the
kernel save as much. The transforms consist of sums and halves: results differ from
direct convolution only by rounding, whose error in float32 is no larger.

A grid is a list of lists of arrays, one array for each position in a tile. The arrays
of images are `[b, rows of tiles, columns of tiles, channels]`, those of kernels are
`[channels, features]`.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Line = list[jax.Array]
Grid = list[Line]


def is_profitable(x: jax.Array, kernel: jax.Array) -> bool:
    """True if Winograd beats direct convolution on a CPU.

    Always False for bfloat16: its transforms lose too much precision. The limits were
    measured on two cores with batches of 8 and 16 crops of 96x96, layer by layer. The
    savings grow with the product of input and output channels, but the cost of the
    transforms grows with their sum. 64 by 64 channels are therefore profitable only at
    up to 24x24 positions.
    """
    size, _, c, features = kernel.shape
    _, h, w, _ = x.shape
    products = c * features
    wide = products >= 64 * 256 or (products >= 64 * 64 and h * w <= 24 * 24)
    even = h % 2 == w % 2 == c % 2 == 0
    return size == 3 and even and wide and jnp.finfo(x.dtype).bits >= 32


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and padding 1.

    Args:
      x: `[b, h, w, c]`, with even h, w and c.
      kernel: `[3, 3, c, features]`.

    Returns:
      `[b, h, w, features]`.

    Raises:
      ValueError: the kernel is not 3x3, or h, w or c is odd.
    """
    if kernel.shape[:2] != (3, 3) or any(n % 2 for n in x.shape[1:]):
        raise ValueError(
            f"the kernel is {kernel.shape[:2]} and the image {x.shape[1:]}; expected "
            "(3, 3) and even height, width and channels"
        )
    tiles, kernels = _transformed(x, kernel)
    return _image(
        _both_ways(_from_products, _pairwise(operator.matmul, tiles, kernels))
    )


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return convolve(x, kernel), (x, kernel)


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    tiles, kernels = _transformed(x, kernel)
    products = _both_ways(_from_products_transposed, _quarters(cotangent))
    tile_gradients = _pairwise(
        operator.matmul, products, [[u.T for u in row] for row in kernels]
    )
    x_gradient = _image(_both_ways(_to_tile_transposed, tile_gradients))
    kernel_gradients = _pairwise(_multiply_transposed, tiles, products)
    kernel_gradient = _both_ways(_to_kernel_transposed, kernel_gradients)
    return x_gradient, jnp.stack([jnp.stack(row) for row in kernel_gradient])


convolve.defvjp(_forward, _backward)


def _transformed(x: jax.Array, kernel: jax.Array) -> tuple[Grid, Grid]:
    tiles = _both_ways(_to_tile, _tiles(x))
    return tiles, _both_ways(_to_kernel, [list(row) for row in kernel])


def _tiles(x: jax.Array) -> Grid:
    """4x4 tiles that overlap by two: tile i covers pixels 2 i - 1 to 2 i + 2."""
    b, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    halves = padded.reshape(b, h // 2 + 1, 2, w // 2 + 1, 2, c)

    def at(i: int, j: int) -> jax.Array:
        rows = slice(i // 2, i // 2 + h // 2)
        columns = slice(j // 2, j // 2 + w // 2)
        return halves[:, rows, i % 2, columns, j % 2]

    return [[at(i, j) for j in range(4)] for i in range(4)]


def _quarters(y: jax.Array) -> Grid:
    """Splits an image by even and odd rows and columns."""
    b, h, w, c = y.shape
    y = y.reshape(b, h // 2, 2, w // 2, 2, c)
    return [[y[:, :, i, :, j] for j in range(2)] for i in range(2)]


def _image(quarters: Grid) -> jax.Array:
    """Inverse of `_quarters`."""
    b, rows, columns, c = quarters[0][0].shape
    y = jnp.stack([jnp.stack(row, axis=3) for row in quarters], axis=2)
    return y.reshape(b, 2 * rows, 2 * columns, c)


def _both_ways(transform: Callable[[Line, int], Line], grid: Grid) -> Grid:
    """Transforms the rows of a grid (image axis 2), then its columns (image axis 1)."""
    grid = [transform(row, 2) for row in grid]
    columns = [transform(list(column), 1) for column in zip(*grid, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _pairwise(multiply: Callable, left: Grid, right: Grid) -> Grid:
    return [list(map(multiply, *rows)) for rows in zip(left, right, strict=True)]


# The transforms of a line: B^T, G and A^T in the paper, each followed by its transpose.


def _to_tile(d: Line, _: int) -> Line:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _to_tile_transposed(v: Line, axis: int) -> Line:
    """Also adds the shares of neighbouring tiles that overlap the same pixels."""
    even = v[1] - v[2] + v[3] - _shift(v[3], 1, axis)
    odd = v[1] + v[2] - v[0] + _shift(v[0], -1, axis)
    return [even, odd]


def _to_kernel(g: Line, _: int) -> Line:
    middle = (g[0] + g[2]) / 2
    return [g[0], middle + g[1] / 2, middle - g[1] / 2, g[2]]


def _to_kernel_transposed(u: Line, _: int) -> Line:
    middle = (u[1] + u[2]) / 2
    return [u[0] + middle, (u[1] - u[2]) / 2, middle + u[3]]


def _from_products(m: Line, _: int) -> Line:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _from_products_transposed(y: Line, _: int) -> Line:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _shift(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Shifts to the next tile (1) or the previous one (-1) and fills with zeros."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (by, 0) if by > 0 else (0, -by)
    start = 0 if by > 0 else -by
    shifted = jnp.pad(x, widths)
    return lax.slice_in_dim(shifted, start, start + x.shape[axis], axis=axis)


def _multiply_transposed(x: jax.Array, y: jax.Array) -> jax.Array:
    """Multiplies `[..., c]` by `[..., d]` and sums over all positions, to `[c, d]`.

    c is split into two halves because XLA's CPU backend then puts channels first in
    memory, which doubles the speed of the product.
    """
    c, d = x.shape[-1], y.shape[-1]
    halves = x.reshape(-1, 2, c // 2)
    dimensions = (((0,), (0,)), ((), ()))
    return lax.dot_general(halves, y.reshape(-1, d), dimensions).reshape(c, d)
