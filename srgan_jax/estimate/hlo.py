"""Reads costs, source lines and collectives from the text of a compiled program.

The format of the text is not documented; the patterns below follow the output of the
compilers for TPU and CUDA. An operation without a name or a source line appears as '?'.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import srgan_jax

COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a program.

    Attributes:
      name: its name, which no other instruction has.
      shape: dtype and dimensions of the result, or those of a tuple.
      opcode: such as 'fusion'.
      operands: names of the instructions that it reads.
      text: the whole line.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    text: str


def instructions(text: str) -> dict[str, list[Instruction]]:
    """Returns the instructions of each computation; the program itself is 'ENTRY'."""
    computations: dict[str, list[Instruction]] = {}
    inside: list[Instruction] = []
    for line in text.splitlines():
        begin = re.match(r"(?:(ENTRY) )?%?([\w.-]+) .*\{$", line)
        if begin:
            inside = computations[begin[1] or begin[2]] = []
        found = re.match(
            r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*?)\)(?:, |$)", line
        )
        if found:
            name, shape, opcode, read = found.groups()
            operands = tuple(re.findall(r"%([\w.-]+)", read))
            inside.append(Instruction(name, shape, opcode, operands, line))
    return computations


def cycles_by_operation(text: str) -> Counter[tuple[str, str]]:
    """Sums the estimated cycles of a compiled program by (operation, source line).

    The same operation in different residual blocks counts as one.
    """
    line_of = source_lines(text)
    cycles: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        estimated = re.search(r'"estimated_cycles":"(\d+)"', line)
        if estimated is not None:
            cycles[operation_of(line, line_of)] += int(estimated[1])
    return cycles


def operation_of(line: str, line_of: dict[str, str]) -> tuple[str, str]:
    """Returns the operation and the source line of an instruction's line of text.

    Args:
      line: the line of the instruction.
      line_of: the program's `source_lines`.
    """
    name = re.search(r'op_name="([^"]*)"', line)
    frame = re.search(r"stack_frame_id=(\d+)", line)
    operation = re.sub(r"^jit\(\w+\)/(shard_map/)?", "", name[1] if name else "?")
    operation = re.sub(r"cond/branch_\d+_fun/", "", operation)
    operation = re.sub(r"\bblock_\d+", "block_*", operation)
    return operation, line_of[frame[1]] if frame else "?"


def source_lines(text: str) -> dict[str, str]:
    """Finds the innermost line of this package in each stack frame of a program.

    The program lists files, locations and frames in separate tables.

    Returns:
      A mapping from frame number to lines such as 'srgan_jax/training/steps.py:78', or
      '?' for a frame without a line of this package.
    """
    package = Path(srgan_jax.__file__).parent
    names = text[text.find("\nFileNames") : text.find("\nFunctionNames")]
    files = dict(re.findall(r'^(\d+) "(.*)"$', names, re.MULTILINE))
    locations = {
        number: (files[file], line)
        for number, file, line in re.findall(
            r"^(\d+) \{file_name_id=(\d+) .*?line=(\d+)", text, re.MULTILINE
        )
    }
    lines: dict[str, str] = {}
    frames = r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?"
    for number, location, parent in re.findall(frames, text, re.MULTILINE):
        file, line = locations[location]
        if Path(file).is_relative_to(package):
            lines[number] = f"{Path(file).relative_to(package.parent)}:{line}"
        else:  # frames count from 0, parents from 1; parents precede their children
            lines[number] = lines.get(str(int(parent or 1) - 1), "?")
    return lines


def collectives_of(text: str) -> Iterator[tuple[str, int]]:
    """Yields each collective's kind and the bytes that one chip contributes to it."""
    pattern = rf"^\s*\S+ = (.*?) ({COLLECTIVES})(?:-start)?\("
    for shapes, kind in re.findall(pattern, text, re.MULTILINE):
        yield kind, bytes_of(shapes)


def bytes_of(shape: str) -> int:
    """Returns the size of an array such as f32[3,64], or of a tuple of arrays."""
    return sum(
        int(bits or 8) // 8 * math.prod(int(d) for d in dims.split(",") if d)
        for bits, dims in re.findall(r"\b[a-z]+(\d*)\[([\d,]*)\]", shape)
    )
