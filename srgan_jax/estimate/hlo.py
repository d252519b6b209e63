"""Reads the text of a program compiled for TPU: cycles, source lines, collectives.

What a field is called was learnt from the text, which is documented nowhere; where one
is missing, an operation or its line is '?'.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


def cycles_by_operation(text: str) -> Counter[tuple[str, str]]:
    """Estimated cycles of a compiled program by (operation, source line).

    Operations of the same kind in all residual blocks count as one.
    """
    line_of = source_lines(text)
    cycles: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        estimated = re.search(r'"estimated_cycles":"(\d+)"', line)
        if estimated is None:
            continue
        name = re.search(r'op_name="([^"]*)"', line)
        frame = re.search(r"stack_frame_id=(\d+)", line)
        operation = re.sub(r"^jit\(\w+\)/(shard_map/)?", "", name[1] if name else "?")
        operation = re.sub(r"cond/branch_\d+_fun/", "", operation)
        operation = re.sub(r"\bblock_\d+", "block_*", operation)
        cycles[operation, line_of[frame[1]] if frame else "?"] += int(estimated[1])
    return cycles


def source_lines(text: str) -> dict[str, str]:
    """For each stack frame of a compiled program, its innermost line of this package.

    The program lists files, locations and frames in tables of their own.
    """
    package = Path(__file__).parent
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
        else:  # parents are counted from one, their parents stand before them
            lines[number] = lines.get(str(int(parent or 1) - 1), "?")
    return lines


def collectives_of(text: str) -> Iterator[tuple[str, int]]:
    """Each exchange between chips: its kind, and the bytes that one chip gives."""
    pattern = rf"^\s*\S+ = (.*?) ({COLLECTIVES})(?:-start)?\("
    for shapes, kind in re.findall(pattern, text, re.MULTILINE):
        size = 0
        for bits, dims in re.findall(r"\b[a-z]+(\d*)\[([\d,]*)\]", shapes):  # f32[3,64]
            elements = math.prod(int(d) for d in dims.split(",") if d)
            size += int(bits or 8) // 8 * elements
        yield kind, size
