"""A generator as one file for other runtimes: StableHLO or ONNX, any picture's size.

Both take LR in [0, 1] and give SR in [-1, 1], in float32; StableHLO with colours last
(`[batch, h, w, 3]`), ONNX with colours first, as is the custom there. Both carry the
generator's settings, which `settings_of` reads.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from srgan_jax.inference import fold as folded
from srgan_jax.models import generator, layers

PLATFORMS = ("cpu", "cuda", "tpu")
OPSET = 17  # of ONNX: of 2022, which all runtimes in use know
IR_VERSION = 8  # of ONNX, of the same age


def to_stablehlo(settings: Mapping[str, Any], variables: Mapping[str, Any]) -> bytes:
    """What `jax.export.deserialize` takes; one module for `PLATFORMS`.

    The settings are the exported function's name.
    """
    network = generator.from_settings(settings)

    def upscale(lr: jax.Array) -> Any:
        return network.apply(variables, lr)

    upscale.__name__ = json.dumps(dict(settings))
    shape = jax.export.symbolic_shape("batch, height, width, 3")
    lr = jax.ShapeDtypeStruct(shape, np.float32)
    exported = jax.export.export(jax.jit(upscale), platforms=PLATFORMS)(lr)
    return bytes(exported.serialize())


def to_onnx(settings: Mapping[str, Any], variables: Mapping[str, Any]) -> bytes:
    """An ONNX model, `lr` `[batch, 3, h, w]` to `sr`; batch normalisation is folded in.

    Raises:
      ValueError: the package onnx is not installed.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise ValueError(
            "ONNX needs the package onnx: pip install 'srgan-jax[export]'"
        ) from None

    network = generator.from_settings(settings)
    graph = _Graph()
    _draw(graph, network, variables)
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
    """Writes an exported generator, whole or not at all."""
    part = path.with_name(f".{os.getpid()}.part")
    try:
        part.write_bytes(exported)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def settings_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The generator's settings in an exported file; ONNX is known by `.onnx`."""
    data = Path(path).read_bytes()
    if Path(path).suffix == ".onnx":
        import onnx

        props = onnx.load_from_string(data).metadata_props
        return json.loads({p.key: p.value for p in props}["settings"])
    return json.loads(jax.export.deserialize(bytearray(data)).fun_name)


class _Graph:
    """Nodes and constants of ONNX; each method adds some and names the result."""

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

    def conv(self, x: str, layer: folded.Convolution) -> str:
        kernel = np.asarray(layer.kernel).transpose(3, 2, 0, 1)
        half = kernel.shape[-1] // 2
        inputs = x, self.constant(kernel), self.constant(layer.bias)
        x = self.node("Conv", *inputs, pads=[half] * 4)
        if layer.slope is None:
            return x
        slope = np.broadcast_to(layer.slope, np.shape(layer.bias))
        return self.node("PRelu", x, self.constant(slope[:, None, None]))

    def affine(self, x: str, gain: Any, offset: Any) -> str:
        x = self.node("Mul", x, self.constant(gain))
        return self.node("Add", x, self.constant(offset))


def _draw(
    graph: _Graph, network: generator.Generator, variables: Mapping[str, Any]
) -> None:
    """The generator as a graph from `lr` to `sr`."""
    net = folded.fold(network, variables)
    black, white = (
        np.asarray(layers.from_unit(jnp.full(3, value), network.input_range))
        for value in (0.0, 1.0)
    )
    gain, offset = (v[:, None, None] for v in (white - black, black))
    x = skip = graph.conv(graph.affine("lr", gain, offset), net.first)
    for i in range(network.blocks):
        first, second = jax.tree.map(lambda stacked, i=i: stacked[i], net.blocks)
        x = graph.node("Add", x, graph.conv(graph.conv(x, first), second))
    x = graph.node("Add", graph.conv(x, net.middle), skip)
    for layer in net.up:
        x = graph.conv(x, layer)
        x = graph.node("DepthToSpace", x, blocksize=2, mode="CRD")
    x = graph.conv(x, folded.Convolution(**variables["params"]["conv_out"]))
    unit = network.output_range == "unit"
    if network.output == "tanh":
        x = graph.node("Tanh", x)
    elif network.output == "clip":
        ends = graph.constant(0.0 if unit else -1.0), graph.constant(1.0)
        x = graph.node("Clip", x, *ends)
    graph.affine(x, *((2.0, -1.0) if unit else (1.0, 0.0)))
    graph.nodes[-1].output[0] = "sr"
