"""Exports a generator to StableHLO or ONNX, for images of any size.

Both formats take LR in [0, 1] and return SR in [-1, 1], in float32. StableHLO has
channels last (`[batch, h, w, 3]`), ONNX has channels first, as is usual there. Both
contain the generator's settings.
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
from srgan_jax.kernels.layouts import Layout
from srgan_jax.models import layers, ranges, registry

PLATFORMS = ("cpu", "cuda", "tpu")
OPSET = 17  # ONNX operators of 2022, which all current runtimes support
IR_VERSION = 8  # ONNX file format of the same year


def to_stablehlo(settings: Mapping[str, Any], variables: Mapping[str, Any]) -> bytes:
    """Exports to StableHLO for all `PLATFORMS`, as `jax.export.deserialize` reads it.

    The exported function's name is the settings as JSON.
    """
    network, variables = fold(registry.create("generator", settings), variables)

    def upscale(lr: jax.Array) -> Any:
        return network.apply(variables, lr)

    upscale.__name__ = json.dumps(dict(settings))
    shape = jax.export.symbolic_shape("batch, height, width, 3")
    lr = jax.ShapeDtypeStruct(shape, np.float32)
    exported = jax.export.export(jax.jit(upscale), platforms=PLATFORMS)(lr)
    return bytes(exported.serialize())


def to_onnx(settings: Mapping[str, Any], variables: Mapping[str, Any]) -> bytes:
    """Exports to ONNX, with the settings as metadata.

    The model maps `lr`, `[batch, 3, h, w]`, to `sr`, `[batch, 3, scale h, scale w]`.

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
    graph = _Graph()
    result = network.apply(variables, _Value(graph, "lr", 3))
    graph.nodes.append(helper.make_node("Identity", [result.name], ["sr"]))
    lr, sr = (
        helper.make_tensor_value_info(
            name,
            onnx.TensorProto.FLOAT,
            ["batch", 3, f"{name}_height", f"{name}_width"],
        )
        for name in ("lr", "sr")
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
        doc_string="RGB in [0, 1] to RGB in [-1, 1]",
    )
    helper.set_model_props(model, {"settings": json.dumps(dict(settings))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def save(path: Path, exported: bytes) -> None:
    """Writes an exported generator atomically."""
    with paths.replacing(path) as unfinished:
        unfinished.write_bytes(exported)


class _Graph:
    """Nodes and constants of an ONNX graph.

    Each method adds one and returns its name.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(array, np.float32)
        return name


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

    def _node(
        self,
        operator: str,
        *inputs: str,
        channels: int | None = None,
        **attributes: Any,
    ) -> "_Value":
        name = self.graph.node(operator, self.name, *inputs, **attributes)
        return _Value(self.graph, name, channels or self.channels)
