"""What an optimized TPU program executes: its instructions in order, how often each, and what says how long it takes.

The compiler's estimate of cycles is of one execution, and XLA's own cost analysis counts a loop's body once; so
everything starts from the instructions that are executed as a unit, from the entry on, with the turns of the loops
around them. Instructions inside of a fusion are part of its unit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sc2jax.plan.hlo_text import Computation, Instruction, ProgramTextError, read_computations
from sc2jax.plan.loop_trips import trips_of

COLLECTIVES = frozenset(("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"))


class Cost(StrEnum):
    """What says how long a unit takes."""

    FREE = "free"
    """Nothing is done (a name, a view), or one number is computed, by the scalar core or in a few bundles."""
    CYCLES = "cycles"
    """The compiler's `estimated_cycles`."""
    KERNEL = "kernel"
    """A Pallas kernel: its own schedule."""
    COLLECTIVE = "collective"
    """Its bytes and the links: a collective that is waited for, or the start of an asynchronous one."""
    COPY = "copy"
    """The start of an asynchronous copy or slice between memories: its bytes."""
    WAIT = "wait"
    """The end of something asynchronous."""
    BYTES = "bytes"
    """Data move and the compiler gives no cycles: a reshape into other tiles, an update in place, a gather or scatter
    of rows, a sort. For these last two the bytes are a lower bound."""


_FREE = frozenset(
    (
        "add-dependency",
        "after-all",
        "bitcast",
        "constant",
        "get-tuple-element",
        "opt-barrier",
        "parameter",
        "partition-id",
        "replica-id",
        "tuple",
    )
)
_FREE_CALLS = frozenset(
    (
        "AllocateBuffer",
        "AssumeGatherIndicesInBound",
        "ConcatBitcast",
        "PrepareAsyncCallDone",
        "PrepareAsyncCallStart",
        "SliceId",
    )
)
_ZEROING = "ZeroCrop"
"""What sets, in place, to zero what lies behind an array's own elements, before hosts exchange it between slices."""
_INDEXED = frozenset(("gather", "scatter"))
_BYTES = _INDEXED | {
    "concatenate",
    "copy",
    "dynamic-slice",
    "dynamic-update-slice",
    "reshape",
    "slice",
    "sort",
    "transpose",
}
_OFFLOADED_COPIES = frozenset(("OFFLOAD_DATA_FORMATTING", "OFFLOAD_GATHER"))
_COPIES = frozenset(("copy-start", "dynamic-slice-start", "dynamic-update-slice-start", "slice-start"))
_HOST_TRANSFERS = frozenset(("recv", "recv-done", "send", "send-done"))
_BETWEEN_SLICES = "xla_megascale_runtime"
"""What hands data to the hosts for an exchange between slices."""
_STARTS, _ENDS = "AsyncCollectiveStart", "AsyncCollectiveDone"


class CollectivePart(StrEnum):
    """What an instruction has to do with a collective."""

    WHOLE = "whole"
    """It is one, and waits for it."""
    START = "start"
    CARRY = "carry"
    """A fusion that carries one on while it computes."""
    DONE = "done"


@dataclass(frozen=True)
class Program:
    """An optimized, scheduled program."""

    entry: Computation
    computations: Mapping[str, Computation]

    def called(self, instruction: Instruction, *roles: str) -> tuple[Computation, ...]:
        """The computations that an instruction calls, in the roles named, or in all where none is."""
        named = [name for role in roles or instruction.called for name in instruction.called.get(role, ())]
        if missing := [name for name in named if name not in self.computations]:
            raise instruction.error(f"calls %{missing[0]}, which is not there")
        return tuple(self.computations[name] for name in named)

    def home(self, instruction: Instruction) -> Computation:
        """The computation that it stands in."""
        return self.computations[instruction.computation]

    def trips(self, loop: Instruction) -> int:
        """How often a while's body is executed. Raises ProgramTextError where the text does not tell."""
        return trips_of(loop, self.home(loop), self.computations)

    def executions(self, computation: Computation | None = None) -> Iterator[tuple[Instruction, int]]:
        """The units that cost something, with how often each is executed, in order; of the whole program by default.

        A while's body comes once, in its place, with its turns; of a conditional, the costliest branch.

        Raises ProgramTextError for a loop whose turns cannot be told, and for an instruction whose cost cannot.
        """
        for each in (computation or self.entry).instructions:
            inner = self.inner(each)
            if inner:
                yield from ((unit, times * inner[1]) for unit, times in self.executions(inner[0]))
            elif self.cost(each) is not Cost.FREE:
                yield each, 1

    def executed_computations(self) -> Iterator[tuple[Computation, int]]:
        """The computations whose instructions are units, with how often each is executed; the entry first."""
        waiting = [(self.entry, 1)]
        while waiting:
            computation, times = waiting.pop(0)
            yield computation, times
            found = filter(None, map(self.inner, computation.instructions))
            waiting += [(inner, times * turns) for inner, turns in found]

    def inner(self, instruction: Instruction) -> tuple[Computation, int] | None:
        """The computation whose instructions are executed in place of this one, and how often; None for a unit."""
        if instruction.opcode == "while":
            return self.called(instruction, "body")[0], self.trips(instruction)
        if instruction.opcode == "conditional":
            branches = self.called(instruction, "branch_computations", "true_computation", "false_computation")
            return max(branches, key=self._rank), 1
        if instruction.opcode == "call":
            return self.called(instruction, "to_apply")[0], 1
        return None

    def _rank(self, branch: Computation) -> tuple[int, int, int]:
        """Which branch costs most: by kernels first, whose cycles the text does not have, then cycles, then bytes."""
        units = list(self.executions(branch))
        return (
            sum(times for each, times in units if self.cost(each) is Cost.KERNEL),
            sum(times * (each.estimated_cycles or 0) for each, times in units),
            sum(times * array.bytes for each, times in units for array in each.results),
        )

    @staticmethod
    def is_kernel(unit: Instruction) -> bool:
        """Whether it calls a Pallas kernel."""
        return unit.custom_call_target == "tpu_custom_call"

    def cost(self, unit: Instruction) -> Cost:
        """What says how long a unit takes. Raises ProgramTextError where nothing is known to."""
        if unit.opcode in _FREE or unit.custom_call_target in _FREE_CALLS:
            return Cost.FREE
        part = self.collective_part(unit)
        if part in (CollectivePart.WHOLE, CollectivePart.START):
            return Cost.COLLECTIVE
        if unit.opcode == "recv":  # what is exchanged begins with the send
            return Cost.FREE
        if part is CollectivePart.DONE or unit.opcode.endswith(("-done", "-update")):
            return Cost.WAIT
        if unit.opcode in _COPIES or self._is_offloaded_copy(unit):
            return Cost.COPY
        if self.is_kernel(unit):
            return Cost.KERNEL
        if unit.estimated_cycles is not None:
            return Cost.CYCLES
        if self._is_one_number(unit):
            return Cost.FREE
        if unit.opcode in _BYTES or unit.custom_call_target == _ZEROING:
            return Cost.BYTES
        if unit.opcode == "fusion" and any(self._indexed(unit)):
            return Cost.BYTES
        raise unit.error("the text gives no cycles, and what it costs is not known")

    @staticmethod
    def _is_offloaded_copy(unit: Instruction) -> bool:
        """Whether it has the SparseCores change a layout, or gather rows, beside what the TensorCore does."""
        return unit.backend_config.get("sparse_core_config", {}).get("offload") in _OFFLOADED_COPIES

    def _indexed(self, unit: Instruction) -> Iterator[Instruction]:
        """The gathers and scatters inside of a fusion."""
        for called in self.called(unit, "calls"):
            for each in called.instructions:
                if each.opcode in _INDEXED:
                    yield each
                yield from self._indexed(each)

    def _is_one_number(self, unit: Instruction) -> bool:
        """Whether nothing that it reads or writes has more than one element."""
        read = self.home(unit).operands(unit)
        arrays = [array for each in (unit, *read) for array in each.results]
        return unit.opcode not in ("custom-call", "fusion") and all(set(array.shape) <= {1} for array in arrays)

    def collective(self, unit: Instruction) -> Instruction | None:
        """The collective that a unit is or has inside; None without one, and for what is sent to another slice.

        Raises ProgramTextError where it has several.
        """
        if unit.opcode.removesuffix("-start") in COLLECTIVES:
            return unit
        if unit.opcode != "fusion" and not unit.opcode.endswith("-start"):
            return None
        inside = [
            each
            for computation in self.called(unit)
            for each in computation.instructions
            if each.opcode.removesuffix("-start") in COLLECTIVES
        ]
        if len(inside) > 1:
            raise unit.error(f"has several collectives: {', '.join(each.name for each in inside)}")
        return inside[0] if inside else None

    def collective_part(self, unit: Instruction) -> CollectivePart | None:
        """What it has to do with a collective; None for nothing.

        Raises ProgramTextError for an asynchronous unit, or a fusion with a collective, of a form that is not known.
        """
        if unit.opcode in _HOST_TRANSFERS:
            if unit.frontend_attribute("_xla_host_transfer_handler_name") != _BETWEEN_SLICES:
                raise unit.error("transfers between device and host are not known")
            return {"send": CollectivePart.START, "recv-done": CollectivePart.DONE}.get(unit.opcode)
        inside = self.collective(unit)
        if unit.opcode.endswith("-done"):
            start = self.home(unit).operands(unit)[0]
            return CollectivePart.DONE if start.opcode.endswith("-start") and self.collective(start) else None
        if unit.opcode.endswith("-start") and unit.opcode not in _COPIES:
            if inside is None and not self._is_offloaded_copy(unit):
                raise unit.error("starts something that is no collective")
            return CollectivePart.START if inside is not None else None
        if inside is None or unit.opcode in COLLECTIVES:
            return None if inside is None else CollectivePart.WHOLE
        targets = {each.custom_call_target for called in self.called(unit) for each in called.instructions}
        if _STARTS in targets:
            return CollectivePart.START
        if _ENDS in targets:
            return CollectivePart.DONE
        if "continuation_config" in unit.backend_config:
            return CollectivePart.CARRY
        if unit.attributes["kind"] != "kCustom":
            raise unit.error("has a collective in a form that is not known")
        return CollectivePart.WHOLE


def read_program(text: str) -> Program:
    """An optimized program from its text.

    Raises ProgramTextError where the text has something that is not understood.
    """
    computations = read_computations(text)
    entries = [each for each in computations if each.is_entry]
    if len(entries) != 1:
        raise ProgramTextError(f"the text has {len(entries)} computations that are an ENTRY")
    return Program(entries[0], {each.name: each for each in computations})
