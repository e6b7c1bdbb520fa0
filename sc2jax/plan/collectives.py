"""The collectives of an optimized TPU program, and what is executed while the asynchronous ones are under way.

A collective is one instruction that is waited for; a pair of a start and a done, which on chips with SparseCores may
wrap a computation that these execute (`call-start`, `call-done`); or a fusion: a reduce-scatter is an all-reduce and a
slice of it in one (`%all-reduce-scatter`), and a collective that the TensorCore carries on while it computes is a
fusion that starts it, fusions of other work that pass its buffers and semaphores on, and a fusion that ends it. Between
slices the hosts exchange what each device sends them: a `send` and a `recv` of one rendezvous.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sc2jax.plan.device_groups import Groups
from sc2jax.plan.hlo import COLLECTIVES, CollectivePart, Cost, Program
from sc2jax.plan.hlo_text import Array, Computation, Instruction, MemorySpace


@dataclass(frozen=True)
class Collective:
    """One collective of a computation."""

    kind: str
    """all-gather, all-reduce, all-to-all, collective-permute or reduce-scatter."""
    operands: tuple[Array, ...]
    """What each device gives."""
    results: tuple[Array, ...]
    """What each device gets."""
    groups: Groups
    """The devices that exchange with each other; of a collective-permute, the pairs of source and target; () between
    slices."""
    start: Instruction
    done: Instruction
    """The start itself where the collective is waited for."""
    between: tuple[Instruction, ...]
    """What is executed from start to done: units that cost something, and loops."""
    carriers: tuple[Instruction, ...]
    """Those of them that carry it on, where fusions do: it makes no step in the others."""
    on_sparse_core: bool
    """The SparseCores do it, not the TensorCore."""
    between_slices: bool
    """Over the data-centre network."""

    @property
    def asynchronous(self) -> bool:
        """Whether something could be executed meanwhile, though `between` may be empty."""
        return self.done is not self.start

    @property
    def operand_bytes(self) -> int:
        """Of what each device gives, without padding."""
        return sum(array.bytes for array in self.operands)

    @property
    def result_bytes(self) -> int:
        """Of what each device gets, without padding."""
        return sum(array.bytes for array in self.results)


def collectives_of(program: Program, computation: Computation) -> Iterator[Collective]:
    """The collectives that a computation's own instructions start, in order.

    Raises ProgramTextError for one whose end is not found in the computation, or an end without a start.
    """
    parts = {each: program.collective_part(each) for each in computation.instructions}
    ways = [_way(program, each) for each, part in parts.items() if part is CollectivePart.DONE]
    by_start = {way[0]: way for way in ways}
    for each, part in parts.items():
        if part is CollectivePart.WHOLE:
            yield _collective(program, computation, (each,))
        elif part is CollectivePart.START:
            if each not in by_start:
                raise each.error("nothing in its computation ends it")
            yield _collective(program, computation, by_start[each])


def _collective(program: Program, computation: Computation, way: tuple[Instruction, ...]) -> Collective:
    start, done = way[0], way[-1]
    inside = program.collective(start)
    # A send's first operand is what is sent, its second a token.
    givers = program.home(inside).operands(inside) if inside else computation.operands(start)[:1]
    operands = tuple(array for each in givers for array in each.results)
    results = tuple(array for array in done.results if array.element_type != "token")
    first, last = (computation.instructions.index(each) for each in (start, done))
    between = computation.instructions[first + 1 : last]
    return Collective(
        kind=_kind(inside or start, operands, results),
        operands=operands,
        results=results,
        groups=(inside.source_target_pairs or inside.replica_groups) if inside else (),
        start=start,
        done=done,
        between=tuple(each for each in between if program.inner(each) or program.cost(each) is not Cost.FREE),
        carriers=way[1:-1],
        on_sparse_core=start.attributes.get("async_execution_thread") == '"sparsecore"',
        between_slices=inside is None,
    )


def _kind(collective: Instruction, operands: Iterable[Array], results: Iterable[Array]) -> str:
    kind = collective.opcode.removesuffix("-start")
    if kind == "send":
        kind = (collective.frontend_attribute("_xla_megascale_transfer_type") or "").lower().replace("_", "-")
        if kind not in COLLECTIVES:
            raise collective.error(f"the exchange {kind!r} between slices is not known")
    elif kind == "all-reduce" and sum(each.bytes for each in results) < sum(each.bytes for each in operands):
        return "reduce-scatter"
    return kind


def _way(program: Program, done: Instruction) -> tuple[Instruction, ...]:
    """From the instruction that started what `done` ends by the fusions that carried it on to `done`.

    From fusion to fusion it is followed by a semaphore, which nothing else has.
    """
    home = program.home(done)
    operands = home.operands(done)
    if done.opcode == "recv-done":
        return _sent(home, operands[0]), done
    if done.opcode != "fusion":
        return operands[0], done
    way = [done]
    handed = next((each for each in operands if _is_semaphore(each)), None)
    while handed is not None and handed.opcode == "get-tuple-element" and handed.index is not None:
        (giver,) = home.operands(handed)
        way.insert(0, giver)
        part = program.collective_part(giver)
        if part is CollectivePart.START:
            return tuple(way)
        if part is not CollectivePart.CARRY:
            break
        (called,) = program.called(giver, "calls")
        element = called.by_name[called.root.operands[handed.index]]
        if element.opcode != "parameter":
            break
        handed = home.operands(giver)[int(element.argument)]
    raise done.error("what it ends is not found")


def _sent(home: Computation, received: Instruction) -> Instruction:
    """The send whose rendezvous a recv waits at."""
    name = "_xla_host_transfer_rendezvous"
    for each in home.instructions:
        if each.opcode == "send" and each.frontend_attribute(name) == received.frontend_attribute(name) is not None:
            return each
    raise received.error("nothing in its computation is sent to where it is received")


def _is_semaphore(instruction: Instruction) -> bool:
    return [array.space for array in instruction.results] == [MemorySpace.SEMAPHORE]
