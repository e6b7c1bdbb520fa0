"""The bytes that an instruction of an optimized program reads from a memory and writes to it, once each.

Arrays are moved in whole tiles, so these are padded bytes. A product reads an operand again where its tiles do not fit
in VMEM, and a kernel may, so the bytes are a lower bound: with the memory's bandwidth they give the roofline below
which no instruction is executed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from sc2jax.plan.hlo import COLLECTIVES, CollectivePart, Cost, Program
from sc2jax.plan.hlo_text import Array, Computation, Instruction, MemorySpace, arrays_of

_VIEWS = frozenset(("bitcast", "convert", "copy", "reshape", "transpose"))
"""What a fusion evaluates for the elements that are asked for, and no others."""
_SLICES = frozenset(("dynamic-slice", "gather", "slice"))
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}
"""What replaces elements of its first operand, and which operand holds the new ones (of a scatter of one array)."""


def bytes_moved(program: Program, unit: Instruction, space: MemorySpace = MemorySpace.HBM) -> int:
    """What one execution of a unit reads from `space` and writes to it.

    Of a fusion that takes a slice of an operand, the slice; of one that updates a slice in place, the slice. A copy
    counts where it starts, and so does an asynchronous collective. Raises ProgramTextError for a loop, a branch or a
    call, which is no unit.
    """
    if program.inner(unit):
        raise unit.error("is no unit; its body's instructions are")
    cost = program.cost(unit)
    if cost in (Cost.FREE, Cost.WAIT):
        return 0
    if cost is Cost.COPY:
        return _copied(program, unit, space)
    if cost is Cost.COLLECTIVE:
        return _exchanged(program, unit, space)
    if unit.opcode == "fusion":
        fusion = _Fusion(program, unit)
        return fusion.read(space) + fusion.written(space)
    read = [array for each in program.home(unit).operands(unit) for array in each.results]
    written = unit.results
    if unit.opcode in _SLICES:
        read = [_typed(unit.results[0], read[0]), *read[1:]]
    elif unit.opcode in _UPDATES and _aliased(unit, 0, 0):
        update = read[_new_elements(unit)]
        # A scatter may combine old and new, so that it reads both.
        read = read[1:] if unit.opcode != "scatter" else [update, *read[1:]]
        written = (update,)
    return _in(space, *read) + _in(space, *written)


def _in(space: MemorySpace, *arrays: Array) -> int:
    return sum(array.padded_bytes for array in arrays if array.space is space)


def _new_elements(update: Instruction) -> int:
    """Which operand of an update they are."""
    if update.opcode == "scatter" and len(update.operands) != 3:
        raise update.error("scatters into several arrays")
    return _UPDATES[update.opcode]


def _array(instruction: Instruction) -> Array:
    if not isinstance(instruction.result, Array):
        raise instruction.error("a fusion reads its tuple")
    return instruction.result


def _typed(array: Array, like: Array) -> Array:
    """The array with the type of another's elements, in its memory."""
    return replace(array, element_type=like.element_type, element_bits=like.element_bits, space=like.space)


def _copied(program: Program, unit: Instruction, space: MemorySpace) -> int:
    given = [array for each in program.home(unit).operands(unit) for array in each.results]
    if unit.opcode == "dynamic-update-slice-start":
        source, target = given[1], given[0]
        moved = source
    else:
        # copy-start: (copy, source, semaphore); slice-start: ((source, ...), copy, semaphore); what the SparseCores do,
        # call-start: ((source, ...), copy).
        assert isinstance(unit.result, tuple)
        (target,) = arrays_of(unit.result[0 if unit.opcode == "copy-start" else 1])
        source, moved = given[0], target
    return moved.padded_bytes * ((source.space is space) + (target.space is space))


def _exchanged(program: Program, unit: Instruction, space: MemorySpace) -> int:
    collective = program.collective(unit)
    if collective is None:  # what is sent to another slice
        return _in(space, *program.home(unit).operands(unit)[0].results)
    given = [array for each in program.home(collective).operands(collective) for array in each.results]
    if program.collective_part(unit) is CollectivePart.WHOLE:
        gotten = unit.results
    elif collective.opcode in COLLECTIVES or collective.opcode == "all-reduce-start":
        gotten = collective.results
    else:
        assert isinstance(collective.result, tuple)  # (operands, results, and what else the pair shares)
        gotten = arrays_of(collective.result[1])
    return _in(space, *given) + _in(space, *gotten)


def _aliased(unit: Instruction, operand: int, result: int) -> bool:
    """Whether a result takes the place of an operand; the compiler lists which buffers are one, operands first."""
    groups = unit.backend_config.get("aliasing_operands", {}).get("lists")
    both = {str(operand), str(len(unit.operands) + result)}
    return groups is None or any(both <= set(group["indices"]) for group in groups)


@dataclass(frozen=True)
class _Fusion:
    """What a fusion does with its operands' elements."""

    program: Program
    unit: Instruction

    @cached_property
    def called(self) -> Computation:
        (called,) = self.program.called(self.unit, "calls")
        return called

    @cached_property
    def elements(self) -> tuple[Instruction, ...]:
        """What computes each result."""
        root = self.called.root
        return self.called.operands(root) if root.opcode == "tuple" else (root,)

    @cached_property
    def updates(self) -> dict[str, Array]:
        """The new elements of what is updated in place, by the name of the instruction that does."""
        found = {}
        for result, element in enumerate(self.elements):
            update = self._behind(self.called, element)
            if update.opcode in _UPDATES:
                operands = self.called.operands(update)
                target = self._behind(self.called, operands[0])
                if target.opcode == "parameter" and _aliased(self.unit, int(target.argument), result):
                    found[update.name] = operands[_new_elements(update)].results[0]
        return found

    @cached_property
    def handed_on(self) -> frozenset[int]:
        """The results that are an operand's buffer or a collective's, which the fusion does not touch itself."""
        found = set()
        for result, source in enumerate(self.elements):
            while source.opcode == "bitcast":
                (source,) = self.called.operands(source)
            same = source.opcode == "parameter" and _aliased(self.unit, int(source.argument), result)
            if same or source.opcode in COLLECTIVES:
                found.add(result)
        return frozenset(found)

    def _is_view(self, value: Instruction) -> bool:
        """Whether its elements are those of its first operand, converted or elsewhere; copies may be fusions."""
        if value.opcode != "fusion" or len(value.operands) != 1:
            return value.opcode in _VIEWS
        (called,) = self.program.called(value, "calls")
        return self._behind(called, called.root).opcode == "parameter"

    def _behind(self, computation: Computation, value: Instruction) -> Instruction:
        """What a chain of views is of."""
        while self._is_view(value):
            value = computation.operands(value)[0]
        return value

    def read(self, space: MemorySpace) -> int:
        """Bytes that it reads from a memory."""
        given = map(_array, self.program.home(self.unit).operands(self.unit))
        return sum(
            self._read(self.called, parameter, operand)
            for parameter, operand in zip(self.called.parameters, given, strict=True)
            if operand.space is space
        )

    def written(self, space: MemorySpace) -> int:
        """Bytes that it writes to a memory."""
        arrays = enumerate(zip(self.elements, self.unit.results, strict=True))
        return sum(
            self._written(element, array)
            for result, (element, array) in arrays
            if array.space is space and result not in self.handed_on
        )

    def _written(self, element: Instruction, array: Array) -> int:
        update = self.updates.get(self._behind(self.called, element).name)
        return (array if update is None else _typed(update, array)).padded_bytes

    def _read(self, computation: Computation, value: Instruction, operand: Array) -> int:
        """Of `operand`, which is `value` in a computation inside of the fusion."""
        parts = self._read_by_users(computation, value, operand)
        return min(sum(parts), operand.padded_bytes)

    def _read_by_users(self, computation: Computation, value: Instruction, operand: Array) -> Iterator[int]:
        if computation is self.called:
            results = {result for result, element in enumerate(self.elements) if element is value}
            whole = bool(results - self.handed_on)
        else:
            whole = value.is_root
        if whole:
            yield operand.padded_bytes
        for user in computation.users[value.name]:
            first = user.operands[0] == value.name and user.operands.count(value.name) == 1
            if self._is_view(user):
                yield self._read(computation, user, operand)
            elif user.opcode in _SLICES and first:
                yield _typed(user.results[0], operand).padded_bytes
            elif user.name in self.updates and first:
                yield _typed(self.updates[user.name], operand).padded_bytes if user.opcode == "scatter" else 0
            elif user.opcode == "fusion":
                (called,) = self.program.called(user, "calls")
                for place, name in enumerate(user.operands):
                    if name == value.name:
                        yield self._read(called, called.parameters[place], operand)
            elif not (user.opcode in COLLECTIVES or (user.opcode == "tuple" and user.is_root)):
                yield operand.padded_bytes
