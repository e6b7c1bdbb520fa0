"""How often the body of a while loop is executed, from its text.

XLA notes it (`known_trip_count`) in some programs. In the others a loop of `jax.lax.scan` still says it: the condition
compares a carried number with a constant, the body adds a constant to it, and it starts from a constant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sc2jax.plan.hlo_text import Computation, Instruction

Computations = Mapping[str, Computation]


@dataclass(frozen=True)
class _Number:
    """A constant, or an element of the tuple that a loop carries plus a constant."""

    constant: int
    element: int | None = None


_SAME = frozenset(("bitcast", "bitcast-convert", "convert", "copy", "copy-done", "copy-start", "reshape"))
_MIRRORED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE"}


def trips_of(loop: Instruction, home: Computation, computations: Computations) -> int:
    """The turns of `loop`, a while of the computation `home`.

    Raises ProgramTextError, with its name, where the text does not tell.
    """
    if known := loop.backend_config.get("known_trip_count"):
        return int(known["n"])
    (condition,), (body,) = loop.called["condition"], loop.called["body"]
    compared = _comparison(computations[condition], computations)
    if compared is None:
        raise loop.error(f"its turns cannot be told: the root of %{condition} compares no numbers")
    left, direction, right = compared
    if left.element is None:
        left, direction, right = right, _MIRRORED.get(direction, direction), left
    numbers = _Elements(loop, home, computations[body], computations)
    start, step = numbers.start(left.element), numbers.step(left.element)
    bound = right.constant
    if right.element is not None:
        first = numbers.start(right.element)
        bound = None if first is None or numbers.step(right.element) != 0 else bound + first
    if start is None or bound is None or not step:
        raise loop.error(f"its turns cannot be told: from {start} in steps of {step} to {bound}")
    return _count(loop, start + left.constant, step, direction, bound)


def _count(loop: Instruction, start: int, step: int, direction: str, bound: int) -> int:
    if direction in ("GT", "GE"):
        start, step, bound = -start, -step, -bound
    if direction not in _MIRRORED or step < 0:
        raise loop.error(f"its turns cannot be told: {direction} {bound} from {start} in steps of {step}")
    # The first number that is not less than the bound, or greater than it, ends the loop.
    last = bound + (direction in ("LE", "GE"))
    return max(0, -((start - last) // step))


@dataclass(frozen=True)
class _Elements:
    """The numbers that a loop carries: where they start, and what a turn adds."""

    loop: Instruction
    home: Computation
    body: Computation
    computations: Computations

    def start(self, element: int | None) -> int | None:
        carried = self.home.by_name[self.loop.operands[0]]
        if element is None or carried.opcode != "tuple":
            return None
        number = _number(self.home.by_name[carried.operands[element]], self.home, (), self.computations)
        return number.constant if number and number.element is None else None

    def step(self, element: int | None) -> int | None:
        if element is None or self.body.root.opcode != "tuple":
            return None
        next_ = self.body.by_name[self.body.root.operands[element]]
        number = _number(next_, self.body, (), self.computations)
        return number.constant if number and number.element == element else None


def _comparison(
    computation: Computation, computations: Computations, arguments: Sequence[_Number | None] = ()
) -> tuple[_Number, str, _Number] | None:
    """What the root of a condition compares, and how; None where it is no comparison of numbers."""
    root = computation.root
    operands = [_number(each, computation, arguments, computations) for each in computation.operands(root)]
    if root.opcode == "fusion":
        return _comparison(computations[root.called["calls"][0]], computations, operands)
    if root.opcode != "compare" or operands[0] is None or operands[1] is None:
        return None
    return operands[0], root.attributes["direction"], operands[1]


def _number(
    instruction: Instruction, computation: Computation, arguments: Sequence[_Number | None], computations: Computations
) -> _Number | None:
    """The value of an instruction where it is known; `arguments` are those of a fusion's parameters."""
    if instruction.opcode == "constant":
        return _Number(int(instruction.argument)) if instruction.argument.lstrip("-").isdigit() else None
    if instruction.opcode == "parameter":
        return arguments[int(instruction.argument)] if arguments else None
    operands = computation.operands(instruction)
    if instruction.opcode == "get-tuple-element":
        carried = operands[0].opcode == "parameter" and not arguments
        return _Number(0, instruction.index) if carried else None
    if instruction.opcode in _SAME:
        return _number(operands[0], computation, arguments, computations)
    values = [_number(each, computation, arguments, computations) for each in operands]
    if instruction.opcode == "fusion":
        called = computations[instruction.called["calls"][0]]
        return _number(called.root, called, values, computations) if values else None
    if instruction.opcode in ("add", "subtract") and values[0] is not None and values[1] is not None:
        return _sum(values[0], values[1], 1 if instruction.opcode == "add" else -1)
    return None


def _sum(one: _Number, other: _Number, sign: int) -> _Number | None:
    if other.element is None:
        return _Number(one.constant + sign * other.constant, one.element)
    if one.element is None and sign == 1:
        return _Number(one.constant + other.constant, other.element)
    return None
