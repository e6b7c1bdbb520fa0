"""What a program's instructions take of a device's time: the compiler's cycles, kernels' own, bytes over bandwidth.

No instruction takes less than its own roofline: the products inside of it at the chip's peak, and the bytes that it
moves between HBM and the core at the bandwidth of HBM.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator

from sc2jax.parallel.chips import Chip, Tpu
from sc2jax.plan.collectives import Collective, collectives_of
from sc2jax.plan.device_groups import Groups
from sc2jax.plan.hlo import Cost, Program
from sc2jax.plan.hlo_bytes import bytes_moved
from sc2jax.plan.hlo_flops import flops_of
from sc2jax.plan.hlo_text import Computation, Instruction
from sc2jax.plan.interconnect import Network
from sc2jax.plan.kernels import KernelCost
from sc2jax.plan.timeline import Lane, Repeat, Task, Timeline, Wait, timeline

FORWARD, BACKWARD, LOSS, UPDATE = "forward", "backward", "loss", "update"
PARTS = (FORWARD, LOSS, BACKWARD, UPDATE)
"""Of a step, in their order: the update has the sums over all gradients too."""
PRODUCT, ATTENTION, OTHER, LAYOUT, COPY = "products", "attention", "other", "layout copies", "copies between memories"


@dataclasses.dataclass(frozen=True)
class Speed:
    """What a device does in a second.

    Attributes:
        clock: cycles.
        product_flops: of bfloat16 products; no product is faster.
        bandwidth: bytes between HBM and the core.
    """

    clock: float
    product_flops: float
    bandwidth: float

    def seconds(self, cycles: float, flops: float, moved_bytes: float) -> float:
        """How long something takes that is computed in so many cycles, not less than its roofline."""
        return max(cycles / self.clock, flops / self.product_flops, moved_bytes / self.bandwidth)


def peak_speed(chip: Chip, tpu: Tpu) -> Speed:
    """By the data sheet."""
    return Speed(tpu.clock, chip.peak_flops, chip.memory_bandwidth)


def measured_speed(chip: Chip, tpu: Tpu) -> Speed:
    """By what chips were measured to reach of that."""
    return Speed(tpu.clock, chip.peak_flops * tpu.product_ceiling, chip.memory_bandwidth * tpu.copy_ceiling)


@dataclasses.dataclass(frozen=True)
class Timing:
    """How the instructions of a program are timed.

    Attributes:
        program: the program.
        speed: of a device.
        network: the links.
        cost_of: what one execution of a Pallas kernel takes.
        part_of: the part of the step that an instruction belongs to.
    """

    program: Program
    speed: Speed
    network: Network
    cost_of: Callable[[Instruction], KernelCost]
    part_of: Callable[[Instruction], str]

    def step(self) -> Timeline:
        """The whole program."""
        return self._timeline(self.program.entry)

    def _timeline(self, computation: Computation) -> Timeline:
        return timeline(self._steps(computation))

    def _steps(self, computation: Computation) -> Iterator[Task | Wait | Repeat]:
        found = list(collectives_of(self.program, computation))
        starts, ends = {each.start: each for each in found}, {each.done: each for each in found if each.asynchronous}
        for each in computation.instructions:
            inner = self.program.inner(each)
            if inner is not None and each.opcode == "while":
                yield Repeat(each.name, self._timeline(inner[0]), inner[1])
            elif inner is not None:
                yield from self._steps(inner[0])
            elif each in ends:
                yield from self._ended(ends[each])
            elif each in starts:
                yield self._begun(starts[each])
            else:
                yield from self._unit(each)

    def _begun(self, collective: Collective) -> Task:
        """What goes on beside compute of a collective; all of it where nothing else says how far it comes."""
        start, seconds = collective.start, self._collective_seconds(collective)
        if collective.carriers:
            seconds = min(seconds, sum(map(self._compute_seconds, collective.carriers)))
        return Task(
            start.name, self.part_of(start), collective.kind, seconds, Lane.LINKS, starts=collective.asynchronous
        )

    def _ended(self, collective: Collective) -> Iterator[Task | Wait]:
        """The end of a collective, and what its carriers have left of it."""
        start = collective.start
        yield Wait(start.name)
        left = self._collective_seconds(collective) - self._begun(collective).seconds
        if left > 0:
            yield Task(collective.done.name, self.part_of(start), collective.kind, left, Lane.LINKS)

    def _unit(self, each: Instruction) -> Iterator[Task | Wait]:
        cost = self.program.cost(each)
        part = self.part_of(each)
        if cost is Cost.COPY:
            seconds = bytes_moved(self.program, each) / self.speed.bandwidth
            yield Task(each.name, part, COPY, seconds, Lane.COPIES, starts=True)
        elif cost is Cost.WAIT:
            yield Wait(self.program.home(each).operands(each)[0].name)
        elif cost is Cost.KERNEL:
            yield Task(each.name, part, ATTENTION, self._kernel_seconds(each))
        elif cost is not Cost.FREE:
            yield Task(each.name, part, self._kind(each), self._compute_seconds(each))

    def _compute_seconds(self, each: Instruction) -> float:
        flops, moved = flops_of(self.program, each), bytes_moved(self.program, each)
        return self.speed.seconds(each.estimated_cycles or 0, flops, moved)

    def _kernel_seconds(self, kernel: Instruction) -> float:
        cost = self.cost_of(kernel)
        return self.speed.seconds(cost.cycles, cost.flops, cost.hbm_bytes)

    def _kind(self, each: Instruction) -> str:
        if flops_of(self.program, each):
            return PRODUCT
        return LAYOUT if each.opcode in ("copy", "transpose", "reshape") or each.name.startswith("copy") else OTHER

    def _collective_seconds(self, collective: Collective) -> float:
        if collective.between_slices:
            return self.network.between_slices_seconds(collective.operand_bytes)
        if collective.kind == "collective-permute":
            pairs = [(source, target) for source, target in collective.groups]
            return self.network.permute_seconds(collective.operand_bytes, pairs)
        whole = max(collective.operand_bytes, collective.result_bytes)
        rings = rings_of(collective.start) or self._rings_told.get(collective.groups[:1], 0)
        return self.network.seconds(collective.kind, whole, collective.groups, rings)

    @functools.cached_property
    def _rings_told(self) -> dict[Groups, int]:
        """The least that the compiler says of collectives among the same devices; of asynchronous ones it is silent."""
        least: dict[Groups, int] = {}
        for computation, _ in self.program.executed_computations():
            for each in collectives_of(self.program, computation):
                rings = rings_of(each.start)
                if rings:
                    among = each.groups[:1]
                    least[among] = min(rings, least.get(among, rings))
        return least


def rings_of(instruction: Instruction) -> int:
    """Along how many rings at once the compiler passes a collective, each in both directions; 0 if it does not say.

    The names of its strategies are all that tells it: `StrategyND{colors:3` has three rings, `1DAllGather...` one,
    and `UniDirection1DRingStrategy{colors:2` two of which each goes one way.
    """
    config = instruction.backend_config.get("collective_algorithm_config", {})
    emitter, strategy = config.get("emitter", ""), config.get("debug", "")
    colors = re.search(r"(\w*)\{colors:(\d+)", strategy)
    if colors is not None:
        return max(1, int(colors[2]) // (2 if colors[1].startswith("UniDirection") else 1))
    dimensions = re.match(r"(\d)D", emitter)
    return int(dimensions[1]) if dimensions is not None else 0


def _named_part(instruction: Instruction) -> str:
    """The part of a train step that an instruction's name says it comes from; "" if it says nothing.

    Names have the path of JAX's transformations. The loss has its gradients within its forward pass, in a map over
    shards of its own; layers have theirs within a loop's body.
    """
    path = instruction.op_name
    if "transpose(jvp" in path:
        return BACKWARD
    if "jvp(" in path:
        return LOSS if re.search(r"jvp\(\)/(shard_map|cond|chunked)", path) else FORWARD
    return UPDATE if path.startswith("jit(") else ""


def parts_of(program: Program) -> Callable[[Instruction], str]:
    """What says the part of a train step that an instruction belongs to.

    Where its name does not, as of what the compiler has added, it is that of most instructions around it.
    """
    around: dict[str, str] = {}

    def part_of(instruction: Instruction) -> str:
        named = _named_part(instruction)
        if named:
            return named
        computation = program.home(instruction)
        if computation.name not in around:
            parts = collections.Counter(filter(None, map(_named_part, computation.instructions)))
            around[computation.name] = parts.most_common(1)[0][0] if parts else UPDATE
        return around[computation.name]

    return part_of
