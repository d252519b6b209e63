"""Exports a generator to StableHLO or ONNX.

Both formats map RGB in [0, 1] to RGB in [0, 1], in float32, and pad images as Upscaler
does. StableHLO has channels last (`[batch, h, w, 3]`), ONNX has channels first, as is
usual there. Both contain the generator's settings.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from srgan_jax import paths
from srgan_jax.inference.fold import fold
from srgan_jax.inference.receptive_field import receptive_field
from srgan_jax.inference.upscaler import border_width
from srgan_jax.kernels.layouts import Layout
from srgan_jax.models import layers, ranges, registry

PLATFORMS = ("cpu", "cuda", "tpu")
OPSET = 17  # ONNX operators of 2022, which all current runtimes support
IR_VERSION = 8  # ONNX file format of the same year
INPUT, OUTPUT = "input", "output"  # names in ONNX


def to_stablehlo(
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    *,
    padding: str = "symmetric",
    height: int | None = None,
    width: int | None = None,
) -> bytes:
    """Exports to StableHLO for all `PLATFORMS`, as `jax.export.deserialize` reads it.

    The exported function's name is the settings as JSON.

    Args:
      settings: the generator's settings.
      variables: the generator's variables.
      padding: how images are padded at their borders, 'symmetric' or 'zero'; see
        Upscaler.
      height: the only height that is accepted, in LR pixels; None accepts all.
      width: the only width that is accepted, in LR pixels; None accepts all.
    """
    network, variables = fold(registry.create("generator", settings), variables)
    border = border_width(padding, sum(receptive_field(network, variables)))
    margin = network.scale * border

    def upscale(lr: jax.Array) -> Any:
        for axis in (1, 2):
            length = lr.shape[axis]
            at = jnp.arange(length + 2 * border) - border
            lr = jnp.take(lr, mirrored(at, length), axis)
        sr = network.apply(variables, lr)
        rows, columns = (slice(margin, length - margin) for length in sr.shape[1:3])
        return jnp.clip((sr[:, rows, columns] + 1) / 2, 0, 1)

    upscale.__name__ = json.dumps(dict(settings))
    sides = height or "height", width or "width"
    shape = jax.export.symbolic_shape("batch, {}, {}, 3".format(*sides))
    lr = jax.ShapeDtypeStruct(shape, np.float32)
    exported = jax.export.export(jax.jit(upscale), platforms=PLATFORMS)(lr)
    return bytes(exported.serialize())


def to_onnx(
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    *,
    padding: str = "symmetric",
    height: int | None = None,
    width: int | None = None,
    fp16: bool = False,
) -> bytes:
    """Exports to ONNX, with the scale, the padding and the settings as metadata.

    The model maps `input`, `[batch, 3, h, w]`, to `output`,
    `[batch, 3, scale h, scale w]`.

    Args:
      settings: the generator's settings.
      variables: the generator's variables.
      padding: how images are padded at their borders, 'symmetric' or 'zero'; see
        Upscaler.
      height: the only height that is accepted, in LR pixels; None accepts all.
      width: the only width that is accepted, in LR pixels; None accepts all.
      fp16: store the weights and compute in float16; input and output stay float32.

    Raises:
      ValueError: the package onnx is not installed, or the generator uses an operation
        that this module cannot write to ONNX.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise ValueError(
            "ONNX needs the package onnx; run pip install 'srgan-jax[export]'"
        ) from None

    network, variables = fold(registry.create("generator", settings), variables)
    border = border_width(padding, sum(receptive_field(network, variables)))
    scale = network.scale
    graph = _Graph(np.float16 if fp16 else np.float32)
    name = INPUT
    if border:
        for axis, length in ((2, height), (3, width)):
            name = graph.continue_by_mirror(name, axis, length, border)
    if fp16:
        name = graph.node("Cast", name, to=onnx.TensorProto.FLOAT16)
    result = network.apply(variables, _Value(graph, name, 3)).unit()
    if border:
        result = result.without_border(scale * border)
    last = helper.make_node("Cast", [result.name], [OUTPUT], to=onnx.TensorProto.FLOAT)
    graph.nodes.append(last)

    sides = height or "height", width or "width"
    enlarged = (
        scale * side if isinstance(side, int) else f"{scale}*{side}" for side in sides
    )
    lr, sr = (
        helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["batch", 3, *shape]
        )
        for name, shape in ((INPUT, sides), (OUTPUT, enlarged))
    )
    constants = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in graph.constants.items()
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "generator", [lr], [sr], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="srgan_jax",
        doc_string="RGB in [0, 1] to RGB in [0, 1]",
    )
    metadata = {"scale": str(scale), "padding": padding}
    metadata["settings"] = json.dumps(dict(settings))
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def save(path: Path, exported: bytes) -> None:
    """Writes an exported generator atomically."""
    with paths.replacing(path) as unfinished:
        unfinished.write_bytes(exported)


class _Graph:
    """Nodes and constants of an ONNX graph.

    Each method adds one or more and returns the last one's name.

    Attributes:
      dtype: of constants that are floats.
    """

    def __init__(self, dtype: type[np.floating]) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, array: Any, dtype: type[np.generic] | None = None) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype or self.dtype)
        return name

    def integers(self, values: Any) -> str:
        return self.constant(values, np.int64)

    def continue_by_mirror(
        self, name: str, axis: int, length: int | None, border: int
    ) -> str:
        """An image continued by its mirror image along one axis.

        ONNX's own Pad would leave the edge pixel out of the mirror image.

        Args:
          name: of the image.
          axis: 2 for rows, 3 for columns.
          length: of the axis, or None if the runtime has to tell it.
          border: pixels that are added at each end.
        """
        if length is not None:
            known = mirrored(np.arange(-border, length + border), length)
            places = self.integers(known)
            return self.node("Gather", name, places, axis=axis)
        count = self.node("Gather", self.node("Shape", name), self.integers(axis))
        twice = self.node("Add", count, count)
        end = self.node("Add", count, self.integers(border))
        at = self.node("Range", self.integers(-border), end, self.integers(1))
        there = self.node("Mod", at, twice)
        last = self.node("Sub", twice, self.integers(1))
        places = self.node("Min", there, self.node("Sub", last, there))
        return self.node("Gather", name, places, axis=axis)


def mirrored(at: Any, length: Any) -> Any:
    """Indices into an axis that is continued by its mirror image, edge pixel included.

    Args:
      at: positions, also below zero and from `length` on.
      length: of the axis.
    """
    there = at % (2 * length)
    return there + (2 * length - 1 - 2 * there) * (there >= length)


@dataclasses.dataclass(frozen=True)
class _Value(Layout):
    """A value of an ONNX graph.

    A network that is applied to such a value instead of an image adds a node to the
    graph for each of its operations.
    """

    graph: _Graph
    name: str
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        return -1, -1, -1, self.channels

    def convolve(
        self,
        kernel: Any,
        bias: Any,
        stride: int,
        padding: tuple[int, int] | None,
    ) -> "_Value":
        before, after = padding or (len(kernel) // 2, len(kernel) // 2)
        inputs = [self.graph.constant(np.transpose(kernel, (3, 2, 0, 1)))]
        if bias is not None:
            inputs.append(self.graph.constant(bias))
        return self._node(
            "Conv",
            *inputs,
            channels=kernel.shape[-1],
            pads=[before, before, after, after],
            strides=[stride, stride],
        )

    def elementwise(self, function: Callable, *per_channel: Any) -> "_Value":
        constant = self.graph.constant
        if function in (ranges.unit, layers.wide):
            return self
        if function is layers.prelu:
            slope = np.broadcast_to(per_channel[0], (self.channels,))
            return self._node("PRelu", constant(slope[:, None, None]))
        if function is jnp.tanh:
            return self._node("Tanh")
        if function is jnp.clip:
            return self._node("Clip", *map(constant, per_channel))
        if function in (ranges.symmetric, ranges.byte, ranges.imagenet):
            black, white = (
                np.ravel(function(jnp.full((1, 1, 1, 3), v))) for v in (0.0, 1.0)
            )
            scaled = self._node("Mul", constant((white - black)[:, None, None]))
            return scaled._node("Add", constant(black[:, None, None]))
        raise ValueError(
            f"the generator computes {function.__name__}, which this version does not "
            "write to ONNX; export to StableHLO instead"
        )

    def pixel_shuffle(self) -> "_Value":
        channels = self.channels // 4
        return self._node("DepthToSpace", channels=channels, blocksize=2, mode="CRD")

    def __add__(self, other: Any) -> "_Value":
        return self._node("Add", other.name)

    def to_array(self) -> "_Value":
        return self

    def unit(self) -> "_Value":
        """[-1, 1] to [0, 1], clamped."""
        constant = self.graph.constant
        halves = self._node("Mul", constant(0.5))._node("Add", constant(0.5))
        return halves._node("Clip", constant(0), constant(1))

    def without_border(self, border: int) -> "_Value":
        """The image less so many rows and columns at each edge."""
        limits = ([border] * 2, [-border] * 2, [2, 3])
        return self._node("Slice", *map(self.graph.integers, limits))

    def _node(
        self,
        operator: str,
        *inputs: str,
        channels: int | None = None,
        **attributes: Any,
    ) -> "_Value":
        name = self.graph.node(operator, self.name, *inputs, **attributes)
        return _Value(self.graph, name, channels or self.channels)
