"""The floating-point operations of an optimized program's products, two for a multiplication and its addition.

A TPU's products are convolutions: `dim_labels=bf_io->bf` is a matrix product, and further dimensions of a product are
windows. A position of a window counts where it is inside of the operand, as in XLA's `HloCostAnalysis`
(`xla/service/hlo_cost_analysis.cc`); that of padding and of the gaps in a dilated operand does not.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sc2jax.plan.hlo import Program
from sc2jax.plan.hlo_text import Computation, Instruction

_NOT_COUNTED = frozenset(("cholesky", "fft", "ragged-dot", "scaled-dot", "triangular-solve"))


def flops_of(program: Program, instruction: Instruction) -> int:
    """Of the products in one execution of an instruction, those of the fusions and computations that it calls too.

    A while counts its turns. Raises ProgramTextError for what has products that the text does not describe, such as a
    Pallas kernel.
    """
    if instruction.opcode in _NOT_COUNTED or program.is_kernel(instruction):
        raise instruction.error("its products cannot be counted from the text")
    if inner := program.inner(instruction):
        return inner[1] * _flops_in(program, inner[0])
    if instruction.opcode == "convolution":
        return _convolution(program, instruction)
    if instruction.opcode == "dot":
        return _dot(program, instruction)
    return sum(_flops_in(program, called) for called in program.called(instruction))


def _flops_in(program: Program, computation: Computation) -> int:
    return sum(flops_of(program, each) for each in computation.instructions)


def _dot(program: Program, instruction: Instruction) -> int:
    left = program.home(instruction).operands(instruction)[0].results[0]
    summed = [int(number) for number in re.findall(r"\d+", instruction.attributes["lhs_contracting_dims"])]
    return 2 * math.prod(instruction.results[0].shape) * math.prod(left.shape[number] for number in summed)


@dataclass(frozen=True)
class _Window:
    """One dimension of a convolution's window."""

    size: int = 1
    stride: int = 1
    low: int = 0  # padding before the operand
    dilation: int = 1  # of the left operand: one position in so many holds an element
    step: int = 1  # dilation of the window itself

    def positions(self, length: int, outputs: int) -> int:
        """How many pairs of an output and a place in the window meet one of the operand's `length` elements.

        Output o meets at place k the position `o * stride + k * step - low`, which must be `dilation * i`, 0 <= i <
        `length`; for each place these outputs are an arithmetic sequence.
        """
        common = math.gcd(self.stride, self.dilation)
        every = self.dilation // common
        found = 0
        for place in range(self.size):
            offset = self.low - place * self.step
            if offset % common:
                continue
            first = (offset // common * pow(self.stride // common, -1, every)) % every
            low = max(0, -(-offset // self.stride))
            high = min(outputs - 1, (offset + (length - 1) * self.dilation) // self.stride)
            found += max(0, (high - first) // every - (low - 1 - first) // every)
        return found


def _convolution(program: Program, instruction: Instruction) -> int:
    left, right = (each.results[0] for each in program.home(instruction).operands(instruction))
    labels = instruction.attributes["dim_labels"]
    found = re.fullmatch(r"(\w+)_(\w+)->(\w+)", labels)
    spatial = sorted(set(found[1]) - set("bf")) if found else []
    windows = _windows(instruction, len(spatial))
    if not found or [len(part) for part in found.groups()] != [len(spatial) + 2] * 3:
        raise instruction.error(f"dim_labels that are not understood: {labels}")
    sizes = dict(zip(found[1], left.shape, strict=True))
    kernel = dict(zip(found[2], right.shape, strict=True))
    result = dict(zip(found[3], instruction.results[0].shape, strict=True))
    if any(kernel[label] != window.size for label, window in zip(spatial, windows, strict=True)):
        raise instruction.error("a window of another size than the kernel's")
    groups = int(instruction.attributes.get("batch_group_count", 1))
    # What the kernel takes is what one group of features has.
    products = kernel["i"] * kernel["o"] * (sizes["b"] // groups)
    for label, window in zip(spatial, windows, strict=True):
        products *= window.positions(sizes[label], result[label])
    return 2 * products


def _windows(instruction: Instruction, count: int) -> Sequence[_Window]:
    text = instruction.attributes.get("window", "{}")
    values = dict(part.split("=") for part in text.strip("{}").split())
    if unknown := values.keys() - {"size", "stride", "pad", "lhs_dilate", "rhs_dilate", "rhs_reversal"}:
        raise instruction.error(f"a window with {', '.join(sorted(unknown))}: {text}")
    columns = {name: value.split("x") for name, value in values.items()}
    if any(len(column) != count for column in columns.values()):
        raise instruction.error(f"a window that has not {count} dimensions: {text}")

    def number(name: str, dimension: int, otherwise: int) -> int:
        return int(columns[name][dimension].split("_")[0]) if name in columns else otherwise

    return [
        _Window(
            number("size", each, 1),
            number("stride", each, 1),
            number("pad", each, 0),
            number("lhs_dilate", each, 1),
            number("rhs_dilate", each, 1),
        )
        for each in range(count)
    ]
