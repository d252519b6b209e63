"""Reads cuDNN's convolutions from the text of a program compiled for CUDA."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from srgan_jax.estimate.hlo import Instruction, bytes_of

TARGETS = {
    "__cudnn$convForward": "forward",
    "__cudnn$convBiasActivationForward": "forward",
    "__cudnn$convBackwardInput": "input gradient",
    "__cudnn$convBackwardFilter": "kernel gradient",
}
PRECISIONS = {"bf16": "bfloat16", "f16": "float16", "f64": "float64"}


class Convolution(NamedTuple):
    """One call of cuDNN.

    Attributes:
      kind: 'forward', 'input gradient' or 'kernel gradient'.
      layout: memory layout of its images, 'NHWC' or 'NCHW'.
      kernel: the kernel's height, width, input channels and output channels.
      precision: 'TF32', 'bfloat16', 'float32' or another dtype.
      flops: operations, a multiply-add counted as two.
      bytes: size of its operands and of its result.
    """

    kind: str
    layout: str
    kernel: tuple[int, int, int, int]
    precision: str
    flops: int
    bytes: int


def convolution(
    instruction: Instruction, shapes: Mapping[str, str]
) -> Convolution | None:
    """Returns the convolution that an instruction computes, if it calls cuDNN for one.

    Args:
      instruction: an instruction.
      shapes: shapes of all instructions, by name.

    Raises:
      ValueError: the instruction calls cuDNN for something else.
    """
    target = re.search(r'custom_call_target="(__cudnn\$[^"]*)"', instruction.text)
    if target is None:
        return None
    if target[1] not in TARGETS:
        raise ValueError(f"{instruction.name} calls {target[1]}, not a convolution")
    kind = TARGETS[target[1]]
    result = instruction.shape.strip("(")
    first, second = (shapes[name] for name in instruction.operands[:2])
    # Each kind reads two of image, kernel and output, and returns the third.
    image, kernel, output = {
        "forward": (first, second, result),
        "input gradient": (result, second, first),
        "kernel gradient": (first, result, second),
    }[kind]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->", instruction.text)
    assert labels is not None
    side = dict(zip(labels[2], _dims(kernel), strict=True))
    shape = side["0"], side["1"], side["i"], side["o"]
    dtype = first.partition("[")[0]
    exact = "operand_precision={highest" in instruction.text
    return Convolution(
        kind,
        "NHWC" if labels[1].endswith("f") else "NCHW",
        shape,
        PRECISIONS.get(dtype, "float32" if exact else "TF32"),
        2 * math.prod(_dims(output)) * math.prod(shape[:3]),
        sum(bytes_of(array) for array in (image, kernel, output)),
    )


def _dims(shape: str) -> list[int]:
    """The dimensions of an array such as f32[16,24,24,64]."""
    found = re.match(r"[a-z]+\d*\[([\d,]*)\]", shape)
    assert found is not None
    return [int(size) for size in found[1].split(",")]
