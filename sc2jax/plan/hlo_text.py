"""Reads the text of an optimized program (`compiled.as_text()`) into computations, instructions and arrays.

The form is that of XLA's `HloModule::ToString` and of the TPU compiler's backend configs. Two parts of it are not what
they seem. A Pallas kernel's metadata stand over several lines, the last of which starts with `}}`; so an instruction
ends where the next begins, not at the end of a line. Layouts say where an array lives and how it is padded:
`bf16[4,48]{1,0:T(8,128)(2,1)S(1)}` is, after `S`, in VMEM, and there every tile of 8 x 128 is whole
(https://openxla.org/xla/tiled_layout). What is not understood is an error with its line, never left out.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

from sc2jax.plan.device_groups import read_groups, read_pairs


class ProgramTextError(Exception):
    """A program's text has something that the reader does not understand: its message has the line and the text."""


class MemorySpace(IntEnum):
    """Where an array lives: the number in `S(...)` of its layout, 0 without it.

    0 to 5 and 8 are the colours of `jax/_src/tpu_custom_call.py`. 6 and 7 have no name there: 6 was seen for numbers of
    the scalar core (loop counters, `partition-id`), 7 for the operands of reductions on the SparseCore.
    """

    HBM = 0
    VMEM = 1
    SEMAPHORE = 2
    SMEM = 4
    HOST = 5
    SCALAR = 6
    SPARSE_CORE = 7
    SPARSE_CORE_SEMAPHORE = 8


_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16} | {
    f"{kind}{bits}": bits for kind in "suf" for bits in (8, 16, 32, 64)
}
_BITS |= {"s4": 8, "u4": 8, "c64": 64, "c128": 128, "f8e4m3fn": 8, "f8e5m2": 8, "f8e4m3": 8, "f8e4m3b11fnuz": 8}


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result, as it lies in memory."""

    element_type: str
    shape: tuple[int, ...]
    space: MemorySpace = MemorySpace.HBM
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    """Of the minor dimensions, in elements; () for an array that is not tiled."""
    element_bits: int = 0
    """Of one element where the layout packs or widens it (`E(4)`), else 0."""

    def _bytes(self, elements: int) -> int:
        return math.ceil(elements * (self.element_bits or _BITS[self.element_type]) / 8)

    @property
    def bytes(self) -> int:
        """Without padding."""
        return self._bytes(math.prod(self.shape))

    @property
    def padded_bytes(self) -> int:
        """In whole tiles: what the array takes in memory, and what is moved with it."""
        minor_first = [self.shape[dimension] for dimension in self.minor_to_major]
        minor_first += [1] * (len(self.tile) - len(minor_first))
        for index, size in enumerate(reversed(self.tile)):
            minor_first[index] = math.ceil(minor_first[index] / size) * size
        return self._bytes(math.prod(minor_first))


Result = Array | tuple["Result", ...]
"""What an instruction returns: an array, or a tuple of these."""


def arrays_of(result: Result) -> tuple[Array, ...]:
    """The arrays of a result, those of nested tuples too, in order."""
    return (result,) if isinstance(result, Array) else tuple(array for part in result for array in arrays_of(part))


@dataclass(frozen=True, eq=False)
class Instruction:
    """One instruction of a computation."""

    name: str
    opcode: str
    result: Result
    operands: tuple[str, ...]
    """Names of instructions of the same computation."""
    argument: str
    """What stands in the parentheses where no operands do: a constant's value, a parameter's number."""
    attributes: Mapping[str, str]
    """By name, as the text has them."""
    computation: str
    is_root: bool
    line: int
    """Of the text, from 1."""
    text: str = field(repr=False)

    @property
    def results(self) -> tuple[Array, ...]:
        """The arrays of the result, flattened."""
        return arrays_of(self.result)

    @cached_property
    def called(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the computations that it calls, by role: calls, body, condition, to_apply, branch_computations."""
        return {
            role: tuple(re.findall(r"%([\w.\-]+)", self.attributes[role])) for role in _ROLES & self.attributes.keys()
        }

    @cached_property
    def backend_config(self) -> Mapping[str, Any]:
        """What the compiler's back end decided; {} where it says nothing."""
        text = self.attributes.get("backend_config", "{}")
        try:
            value = json.loads(text)
            # A configuration that is no message of the TPU's is a string with the message in it.
            return json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError:
            raise self.error(f"its backend_config is no JSON: {text[:200]}") from None

    @property
    def estimated_cycles(self) -> int | None:
        """The TPU compiler's own estimate for one execution, or None where it gives none."""
        cycles = self.backend_config.get("window_config", {}).get("estimated_cycles")
        return None if cycles is None else int(cycles)

    @property
    def custom_call_target(self) -> str | None:
        """Of a custom call: "tpu_custom_call" is a Pallas kernel."""
        target = self.attributes.get("custom_call_target")
        return None if target is None else json.loads(target)

    @cached_property
    def op_name(self) -> str:
        """The path of JAX's functions that it comes from, "" where the text has none."""
        found = re.search(r'\bop_name="((?:[^"\\]|\\.)*)"', self.attributes.get("metadata", ""))
        return re.sub(r"\\(.)", r"\1", found[1]) if found else ""

    def frontend_attribute(self, name: str) -> str | None:
        """What a front end, or a pass of the compiler, noted of that name; None where none did."""
        text = self.attributes.get("frontend_attributes", "")
        found = re.search(rf'[{{,]{re.escape(name)}="((?:[^"\\]|\\.)*)"', text)
        return found[1] if found else None

    @property
    def channel_id(self) -> int | None:
        """Of a collective over partitions."""
        return self._integer("channel_id")

    @cached_property
    def dimensions(self) -> tuple[int, ...]:
        """The attribute of that name: what a gather concatenates, what a reduction sums over."""
        return tuple(map(int, re.findall(r"\d+", self.attributes.get("dimensions", ""))))

    @cached_property
    def replica_groups(self) -> tuple[tuple[int, ...], ...]:
        """The devices that take part in a collective with each other; () where it has no groups."""
        text = self.attributes.get("replica_groups")
        devices = self.attributes.get("device_ids")
        try:
            return () if text is None else read_groups(text if devices is None else f"{text}, device_ids={devices}")
        except ValueError as error:
            raise self.error(str(error)) from None

    @cached_property
    def source_target_pairs(self) -> tuple[tuple[int, int], ...]:
        """Who sends to whom in a collective-permute."""
        text = self.attributes.get("source_target_pairs")
        try:
            return () if text is None else read_pairs(text)
        except ValueError as error:
            raise self.error(str(error)) from None

    @property
    def index(self) -> int | None:
        """Of the element that a get-tuple-element takes."""
        return self._integer("index")

    def _integer(self, name: str) -> int | None:
        return int(self.attributes[name]) if name in self.attributes else None

    def error(self, what: str) -> ProgramTextError:
        """An error about this instruction."""
        where = f"line {self.line}, {self.opcode} %{self.name} of %{self.computation}"
        return ProgramTextError(f"{where}: {what}: {self.text.strip()[:300]}")


_ROLES = {
    "calls",
    "body",
    "condition",
    "to_apply",
    "branch_computations",
    "true_computation",
    "false_computation",
    "called_computations",
}


@dataclass(frozen=True, eq=False)
class Computation:
    """Instructions in their order, which is that of execution where the module is scheduled."""

    name: str
    instructions: tuple[Instruction, ...]
    is_entry: bool = False
    by_name: Mapping[str, Instruction] = field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "by_name", {each.name: each for each in self.instructions})

    @cached_property
    def root(self) -> Instruction:
        """The instruction whose result is the computation's."""
        return next(each for each in self.instructions if each.is_root)

    @cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """By number."""
        found = [each for each in self.instructions if each.opcode == "parameter"]
        return tuple(sorted(found, key=lambda each: int(each.argument)))

    @cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        """The instructions of the computation that read each instruction's result."""
        users: dict[str, list[Instruction]] = {each.name: [] for each in self.instructions}
        for each in self.instructions:
            for operand in dict.fromkeys(each.operands):
                users[operand].append(each)
        return {name: tuple(readers) for name, readers in users.items()}

    def operands(self, instruction: Instruction) -> tuple[Instruction, ...]:
        """The instructions whose results it reads."""
        return tuple(self.by_name[name] for name in instruction.operands)


_HEADER = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\{$")
_FOOTER = re.compile(r'\}(, execution_thread="[^"]*")?$')
_START = re.compile(r"  (ROOT )?%([\w.\-]+) = ")
_OPCODE = re.compile(r"([a-z][a-z\d\-]*)\(")


def read_computations(text: str) -> tuple[Computation, ...]:
    """All computations of a program's text, in its order.

    Raises ProgramTextError where the text is no scheduled program or has a form that is not known.
    """
    if not re.match(r"HloModule [^\n]*\bis_scheduled=true", text):
        raise ProgramTextError(f"line 1: no scheduled HloModule: {text[:80]!r}")
    computations, name, is_entry, records = [], None, False, []
    for number, line in enumerate(text.split("\n"), 1):
        if name is None:
            if header := _HEADER.match(line):
                is_entry, name, records = bool(header[1]), header[2], []
        elif start := _START.match(line):
            records.append((number, start, [line]))
        elif _FOOTER.match(line):
            instructions = tuple(_instruction(name, *record) for record in records)
            computations.append(_checked(Computation(name, instructions, is_entry), number))
            name = None
        elif records:
            records[-1][2].append(line)
        else:
            raise ProgramTextError(f"line {number}: no instruction of %{name}: {line[:200]!r}")
    if name is not None or not computations:
        raise ProgramTextError(f"the text ends inside %{name}" if name else "the text has no computation")
    return tuple(computations)


def _checked(computation: Computation, line: int) -> Computation:
    where = f"%{computation.name}, which ends in line {line},"
    if sum(each.is_root for each in computation.instructions) != 1:
        raise ProgramTextError(f"{where} has not one ROOT")
    if len(computation.by_name) != len(computation.instructions):
        raise ProgramTextError(f"{where} gives one name twice")
    for each in computation.instructions:
        if missing := [name for name in each.operands if name not in computation.by_name]:
            raise each.error(f"reads %{missing[0]}, which is not there")
    return computation


def _instruction(computation: str, line: int, start: re.Match[str], lines: list[str]) -> Instruction:
    reader = _Reader("\n".join(lines), start.end(), line)
    result = reader.result()
    opcode = reader.expect(_OPCODE)[1]
    argument = reader.until_closed("(")
    operands = re.sub(r"/\*.*?\*/", "", argument)
    named = opcode not in ("constant", "parameter")
    if named and not re.fullmatch(r"(\s*%[\w.\-]+\s*(,\s*%[\w.\-]+\s*)*)?", operands):
        raise reader.error(f"operands that are not names: {argument[:200]!r}")
    return Instruction(
        name=start[2],
        opcode=opcode,
        result=result,
        operands=tuple(re.findall(r"%([\w.\-]+)", operands)) if named else (),
        argument="" if named else argument,
        attributes=dict(reader.attributes()),
        computation=computation,
        is_root=bool(start[1]),
        line=line,
        text=reader.text,
    )


class _Reader:
    """Reads one instruction's text from left to right."""

    def __init__(self, text: str, position: int, line: int):
        self.text, self.position, self.line = text, position, line

    def error(self, what: str) -> ProgramTextError:
        return ProgramTextError(f"line {self.line}: {what} in {self.text[:200]!r}")

    def expect(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.position)
        if not found:
            raise self.error(f"not understood: {self.text[self.position : self.position + 80]!r}")
        self.position = found.end()
        return found

    def result(self) -> Result:
        self.expect(_BLANK)
        if self.text[self.position] != "(":
            return self._array()
        self.position += 1
        parts = []
        while True:
            self.expect(_BLANK)
            if self.text[self.position] == ")":
                break
            parts.append(self.result())
            self.expect(_COMMA)
        self.position += 1
        self.expect(_BLANK)
        return tuple(parts)

    def _array(self) -> Array:
        found = self.expect(_ARRAY)
        kind, shape, order, tiles, bits, space = found.groups()
        if kind not in _BITS:
            raise self.error(f"the element type {kind!r} is not known")
        if space is not None and int(space) not in _SPACES:
            raise self.error(f"the memory space S({space}) is not known")
        shape = tuple(int(size) for size in shape.split(",") if size)
        order = tuple(int(number) for number in (order or "").split(",") if number)
        if sorted(order) != list(range(len(shape))):
            if order:
                raise self.error(f"the layout {order} is not one of {len(shape)} dimensions")
            order = tuple(reversed(range(len(shape))))
        # The further tiles only order what is inside of the first, whose sides they divide.
        tile = tuple(map(int, re.findall(r"\(([\d,]+)\)", tiles)[0].split(","))) if tiles else ()
        return Array(kind, shape, MemorySpace(int(space or 0)), order, tile, int(bits or 0))

    def until_closed(self, opening: str) -> str:
        """The text up to the bracket that closes `opening`, which stands before the position."""
        start, expected = self.position, [_CLOSING[opening]]
        while expected:
            found = _BRACKET.search(self.text, self.position)
            if not found:
                raise self.error(f"no {expected[-1]!r}")
            self.position = found.end()
            if found[0] in _CLOSING:
                expected.append(_CLOSING[found[0]])
            elif not found[0].startswith('"') and found[0] != expected.pop():
                raise self.error(f"brackets that do not match before {self.text[self.position :][:80]!r}")
        return self.text[start : self.position - 1]

    def attributes(self) -> Iterator[tuple[str, str]]:
        while self.position < len(self.text.rstrip()):
            name = self.expect(_NAME)[1]
            start = self.position
            while (found := _BRACKET_OR_COMMA.search(self.text, self.position)) and found[0] != ",":
                self.position = found.end()
                if found[0] in _CLOSING:
                    self.until_closed(found[0])
                elif not found[0].startswith('"'):
                    raise self.error(f"brackets that do not match in {name}")
            self.position = found.start() if found else len(self.text)
            yield name, self.text[start : self.position].rstrip()


_SPACES = frozenset(MemorySpace)
_CLOSING = {"(": ")", "{": "}", "[": "]"}
_BLANK = re.compile(r"(?:\s|/\*.*?\*/)*")
_COMMA = re.compile(r",?")
_NAME = re.compile(r",\s*([\w\-.]+)=")
_BRACKET = re.compile(r'[(){}\[\]]|"(?:[^"\\]|\\.)*"')
_BRACKET_OR_COMMA = re.compile(r'[(){}\[\],]|"(?:[^"\\]|\\.)*"')
# `SC(1:8192)`, the places at which the cores of a chip split an array between them, changes nothing that is read here.
_ARRAY = re.compile(
    r"([a-z]\w*)\[([\d,]*)\]"
    r"(?:\{([\d,]*)(?::(?:T((?:\([\d,]+\))+))?(?:E\((\d+)\))?(?:S\((\d+)\))?(?:SC\([\d:,]+\))*)?\})?"
    r"\s*"
)
