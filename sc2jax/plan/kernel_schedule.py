"""Reads the TPU compiler's own schedule of a Pallas kernel.

The compiler's last listing of a kernel has one very long instruction word ("bundle") per line, branches included. Here
the listing becomes a tree of loops and predicated regions, each with its bundles, its work for the matrix units and how
often it is executed.

A bundle takes at least one cycle. On v5e and v5p a count of bundles can even beat the chip's peak: every 11 or 12
bundles the compiler sends a product of 16 rows to a unit that needs 16 cycles for it. It does the same in XLA's own
matrix product, where XLA's estimate of the cycles agrees with 16. `cycles` therefore gives each matrix unit the time it
needs and carries its backlog forward. Neither figure includes waiting for copies or for results.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sc2jax.parallel.chips import GENERATIONS, Tpu

BRANCH_DELAYS = {"v5e": 4, "v5p": 4, "v6e": 4, "tpu7x": 1}
"""Of the generations whose listings are read: bundles after a branch that are executed before it takes effect."""

SLOTS = ("MXU", "XLU", "VALU", "VPOP", "EUP", "VLOAD", "FILL", "VSTORE", "SPILL", "SALU")
_ROWS = {"bf16": 16, "f32": 8}  # of a packed vector register that one matrix-unit instruction sends in


class MissedLoopError(Exception):
    """The counted bundles cannot have done the work: part of the program is missing or was counted too rarely."""


@dataclass(eq=False)
class Region:
    """Bundles `first` to `last`, executed together: the whole, a loop's body, or what a branch may skip."""

    kind: str  # "kernel", "loop" or "branch"
    first: int
    last: int
    trips: int | None = None  # of a loop whose end is a constant in the listing
    children: list["Region"] = field(default_factory=list)
    parent: "Region | None" = None
    waits: bool = False  # for the copies that the pipeline started
    vector: bool = False  # holds vector instructions; else it only computes addresses and starts copies
    pipeline_step: bool = False  # one step of the grid, guarded by the stage of Pallas's pipeline

    def walk(self) -> Iterator["Region"]:
        """This region and those inside it, in program order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def own(self) -> Iterator[int]:
        """The bundles that belong to no region inside."""
        inside = {bundle for child in self.children for bundle in range(child.first, child.last + 1)}
        return (bundle for bundle in range(self.first, self.last + 1) if bundle not in inside)


@dataclass(frozen=True)
class Operand:
    """An input or output, which XLA leaves in HBM or has put into VMEM, and the window that a grid step sees."""

    in_vmem: bool
    bytes: int
    window_bytes: int
    strided: bool  # the window holds some columns of the array only

    @property
    def copied_in_vmem(self) -> bool:
        """By vector instructions around the step; a window in VMEM whose rows are whole is used where it is."""
        return self.in_vmem and self.strided


@dataclass(frozen=True)
class Branch:
    """What a grid step may do, and how often it is done on one core: a predicated region, or a loop's body."""

    name: str
    times: int
    loop: bool = False
    certain: bool = False  # follows from what is around it, so that the compiler may have left the branch out


@dataclass
class Kernel:
    """One Pallas kernel's final schedule."""

    name: str
    tpu: Tpu
    root: Region
    bundles: list[str]
    slots: list[tuple[int, ...]]  # how many instructions of each of SLOTS a bundle has
    capacity: tuple[int, ...]
    vmem_bytes: int
    operands: dict[int, "Operand"]
    unit_cycles: list[dict[str, int]] = field(default_factory=list)  # per bundle: matrix unit -> cycles of work sent

    def cycles(self, region: Region) -> int:
        """The fewest cycles that the region's own bundles take: issued in order, each matrix unit at its pace."""
        clock, free = 0, {}
        for bundle in region.own():
            clock += 1
            for unit, work in self.unit_cycles[bundle].items():
                free[unit] = max(free.get(unit, 0), clock) + work
        return max([clock, *free.values()])

    def matrix_flops(self, region: Region) -> int:
        """What the products in the region's own bundles could compute with every row and column of the units in use."""
        rate = 2 * self.tpu.unit_size**2 * self.tpu.rows_per_cycle
        return sum(work * rate for bundle in region.own() for work in self.unit_cycles[bundle].values())

    def utilisation(self, region: Region) -> dict[str, float]:
        """Share of each slot's capacity that the region's own bundles use: the fullest slot is what limits it."""
        own = list(region.own())
        totals = [sum(column) for column in zip(*(self.slots[bundle] for bundle in own), strict=True)] or [0] * len(
            SLOTS
        )
        return {
            name: total / (have * max(len(own), 1))
            for name, total, have in zip(SLOTS, totals, self.capacity, strict=True)
        }

    def executions(
        self, steps: int, branches: Sequence[Branch], copies: Mapping[int, int] | None = None
    ) -> dict[Region, tuple[str, int]]:
        """Region -> name and executions on one core.

        `branches` names, in program order, the predicated regions inside a grid step that hold vector instructions
        (what `pl.when` became) and the loops whose ends are no constants. A loop that may be executed no time at all is
        inside a region of its own, which is named too. `copies` says how often the window of an operand moves on one
        core; if XLA has put the operand into VMEM, the window is copied around the step. Regions that only start copies
        are counted as executed every time: they are a few bundles.

        Raises:
            MissedLoopError: the listing is another program's, or may be read in several ways.
        """
        certain = [branch for branch in branches if branch.certain]
        found, first_error = [], None
        for left_out in itertools.chain.from_iterable(
            itertools.combinations(certain, number) for number in range(len(certain) + 1)
        ):
            try:
                kept = [branch for branch in branches if branch not in left_out]
                found.append(self._executions(steps, kept, copies or {}))
            except MissedLoopError as error:
                first_error = first_error or error
        if not found:
            raise first_error or MissedLoopError(self.name)
        if any(times != found[0][region][1] for other in found for region, (_, times) in other.items()):
            raise MissedLoopError(f"{self.name}: {branches} fit the listing in several ways\n{self.tree()}")
        return found[0]

    def _executions(
        self, steps: int, branches: Sequence[Branch], copies: Mapping[int, int]
    ) -> dict[Region, tuple[str, int]]:
        waiting, counts = list(branches), {}
        copying = [
            Branch(f"copy {number}", copies.get(number, steps))
            for number, operand in sorted(self.operands.items())
            if operand.copied_in_vmem
        ]

        def visit(region: Region, times: int, inside_step: bool) -> None:
            name = region.kind
            if region.kind == "loop":
                if (
                    region.parent is self.root
                    and not inside_step
                    and any(child.pipeline_step for child in region.children)
                ):
                    if region.trips is None or not steps <= region.trips <= steps + 2:
                        raise MissedLoopError(
                            f"{self.name}: the grid's loop turns {region.trips} times and not {steps} on a core"
                        )
                    name, times = "grid", region.trips
                elif region.trips is not None:
                    times *= region.trips
                else:
                    name, times = self._next(waiting, region)
            elif region.pipeline_step:
                name, times, inside_step = "step", steps, True
            elif region.kind == "branch" and region.vector and inside_step:
                name, times = self._next(waiting, region)
            elif region.kind == "branch" and region.vector and not region.children:
                name, times = self._next(copying, region)
            counts[region] = (name, times)
            for child in region.children:
                visit(child, times, inside_step)

        visit(self.root, 1, False)
        if waiting:
            raise MissedLoopError(
                f"{self.name}: the listing has no region for {[branch.name for branch in waiting]}\n{self.tree()}"
            )
        return counts

    def _next(self, waiting: list[Branch], region: Region) -> tuple[str, int]:
        if not waiting or waiting[0].loop != (region.kind == "loop"):
            raise MissedLoopError(
                f"{self.name}: nothing says how often {region.kind} at {region.first:#x} is executed\n{self.tree()}"
            )
        branch = waiting.pop(0)
        return branch.name, branch.times

    def schedule(
        self, steps: int, branches: Sequence[Branch], flops: int, copies: Mapping[int, int] | None = None
    ) -> dict[str, int]:
        """Bundles and cycles of a whole call on one core that must do `flops` in its matrix units."""
        counts = self.executions(steps, branches, copies)
        regions = [(region, counts[region][1]) for region in self.root.walk()]
        done = sum(self.matrix_flops(region) * times for region, times in regions)
        if done < flops:
            raise MissedLoopError(
                f"{self.name}: the regions send {done:.4g} FLOPs to the matrix units and the call needs {flops:.4g}"
            )
        cycles = sum(self.cycles(region) * times for region, times in regions)
        bundles = sum(len(list(region.own())) * times for region, times in regions)
        return {"bundles": bundles, "cycles": cycles, "matrix_flops": done}

    def tree(self, counts: Mapping[Region, tuple[str, int]] | None = None) -> str:
        """One line per region: its place, bundles and cycles, the matrix units' share and the fullest other slots."""
        lines = [f"{self.name}: {len(self.bundles)} bundles, {self.vmem_bytes / 2**20:.2f} MiB of VMEM"]

        def visit(region: Region, depth: int) -> None:
            own = len(list(region.own()))
            label, times = (counts or {}).get(region, (region.kind, None))
            shares = sorted(self.utilisation(region).items(), key=lambda item: -item[1])
            full = " ".join(f"{name} {share:.0%}" for name, share in shares[:5] if share)
            busy = sum(sum(self.unit_cycles[bundle].values()) for bundle in region.own()) // self.tpu.matrix_units
            what = "  " * depth + ("step" if region.pipeline_step else label)
            what += f" x{region.trips}" if region.kind == "loop" and region.trips is not None else ""
            executed = "" if times is None else f" executed {times}"
            where = f"{what:24} {region.first:#7x}-{region.last:#x}"
            lines.append(
                f"{where} bundles {own:6} cycles {self.cycles(region):6} matrix units {busy:6}  {full}{executed}"
            )
            for child in region.children:
                visit(child, depth + 1)

        visit(self.root, 0)
        return "\n".join(lines)


_BUNDLE = re.compile(r"^\s*(0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:[ >]*\{")
_BRANCH = re.compile(r"sbr\.rel\b[^;}]*?target = \$region(\d+)")
_MARK = re.compile(r"Start(?:/End empty)? region (\d+)")
_EXIT = re.compile(r"scmp\.(\w+)[.\w]* (%s\w+), (\d+) /\* loop exit test")
_OPERAND = re.compile(
    r"inlined_call_operand\.(?P<space>\w+) \[shape: (?P<array>[^]]*\]), index: (?P<number>\d+), kind: [^/]*/\*"
    r"(?:[^*]*The window shape is (?P<window>\w+\[[\d,]*\]))?"
)
_ELEMENT_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_PRODUCT = re.compile(r"vmatmul(?:\.(?!mxu)[\w]+)*[^;}]*?mxu(\d)")


def read_kernel(generation: str, listing: Path) -> Kernel:
    """Parses `*final_bundles.txt` and its neighbours in the dump."""
    bundles: list[str] = []
    for line in listing.read_text(errors="replace").splitlines():
        if match := _BUNDLE.match(line):
            if int(match[1], 16) != len(bundles):
                raise MissedLoopError(f"{listing}: bundle {match[1]} follows bundle {len(bundles) - 1:#x}")
            bundles.append(line)
        elif bundles:
            bundles[-1] += "\n" + line
    if not bundles:
        raise MissedLoopError(f"{listing} holds no bundles: the dump's format has changed")
    tpu = GENERATIONS[generation].tpu
    assert tpu is not None
    name = re.sub(r"^\d+-|-\d+-final_bundles\.txt$", "", listing.name)
    prefix = listing.name.split("-", 1)[0] + "-" + name
    capacity, slots = _slots(_only(listing.parent, f"{prefix}-*-final_hlo-static-per-bundle-utilization.txt"))
    if len(slots) != len(bundles):
        raise MissedLoopError(f"{listing}: {len(bundles)} bundles, but the utilisation of {len(slots)}")
    kernel = Kernel(
        name,
        tpu,
        _regions(bundles, BRANCH_DELAYS[generation]),
        bundles,
        slots,
        capacity,
        _vmem(_only(listing.parent, f"{prefix}-*-post-delay-converter.txt")),
        {int(match["number"]): _operand(match) for match in _OPERAND.finditer(bundles[0])},
    )
    kernel.unit_cycles = [_matrix_work(bundle, tpu) for bundle in bundles]
    return kernel


def _only(folder: Path, pattern: str) -> Path:
    found = [path for path in folder.glob(pattern) if "pre-delay" not in path.name]
    if len(found) != 1:
        raise FileNotFoundError(f"{pattern} names {len(found)} files in {folder}")
    return found[0]


def _operand(match: re.Match[str]) -> Operand:
    array, window = match["array"], match["window"] or match["array"]
    strided = re.split(r"[\[,]", array)[-1] != re.split(r"[\[,]", window)[-1]
    return Operand(match["space"] == "vmem", _bytes(array), _bytes(window), strided)


def _bytes(array: str) -> int:
    kind, sizes = array.rstrip("]").split("[")
    return _ELEMENT_BYTES[kind] * math.prod(int(size) for size in sizes.split(",") if size)


def _matrix_work(bundle: str, tpu: Tpu) -> dict[str, int]:
    work: dict[str, int] = {}
    for match in _PRODUCT.finditer(bundle):
        kind = next((kind for kind in _ROWS if f".{kind}." in match[0]), None)
        if kind is None:
            raise ValueError(f"unknown matrix-unit instruction {match[0]!r}: how many rows does it send?")
        work[match[1]] = work.get(match[1], 0) + _ROWS[kind] // tpu.rows_per_cycle
    return work


def _slots(path: Path) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    rows = [tuple(map(int, line.split())) for line in path.read_text().splitlines() if re.match(r"^[\d\s]+$", line)]
    return rows[0], rows[1:]


def _vmem(path: Path) -> int:
    """The end of the highest buffer that the kernel has for itself, spilled registers included."""
    ends = re.findall(r"space=vmem, size = (\w+), offset = (\w+), scoped", path.read_text(errors="replace"))
    return max((int(size, 0) + int(offset, 0) for size, offset in ends), default=0)


def _regions(bundles: list[str], delay: int) -> Region:
    """The tree of loops (a branch back) and predicated regions (a branch forward) of a listing."""
    starts = {int(mark): number for number, bundle in enumerate(bundles) for mark in _MARK.findall(bundle)}
    found = []
    for number, bundle in enumerate(bundles):
        for target in _BRANCH.findall(bundle):
            if int(target) not in starts and "/* core id */" in "".join(bundles[:number]):
                continue  # to the exit: the second core of a chip has nothing to do in a grid that is not split
            to = starts[int(target)]
            if to > number:
                found.append(Region("branch", number + 1 + delay, to - 1))
            else:
                found.append(Region("loop", to, number + delay, _trips(bundles[to : number + delay + 1])))
    root = Region("kernel", 0, len(bundles) - 1)
    for region in sorted(
        (region for region in found if region.first <= region.last), key=lambda region: (region.first, -region.last)
    ):
        place = root
        while (
            inner := next((child for child in place.children if child.first <= region.first <= child.last), None)
        ) is not None:
            place = inner
        if region.last > place.last:
            raise MissedLoopError(
                f"regions {place.first:#x}-{place.last:#x} and {region.first:#x}-{region.last:#x} overlap"
            )
        region.parent = place
        place.children.append(region)
    for region in root.walk():
        text = "\n".join(bundles[region.first : region.last + 1])
        region.vector = re.search(r"%v\d", text) is not None
        region.waits = "pipeline-emitter-dma-wait" in text
    for loop in root.children:
        # A step waits for its windows; where XLA has put all of them into VMEM, none does.
        steps = [region for region in loop.children if region.kind == "branch" and region.vector]
        steps = [region for region in steps if region.waits] or sorted(steps, key=lambda step: step.first - step.last)[
            :1
        ]
        for region in steps:
            region.pipeline_step = loop.kind == "loop" or region.waits
    return root


def _trips(body: list[str]) -> int | None:
    """How often a loop that counts from 0 by 1 is executed; None if its end is not a constant."""
    text = "\n".join(body)
    tests = _EXIT.findall(body[-1]) or [test for bundle in body for test in _EXIT.findall(bundle)]
    if not tests:
        return None
    comparison, counter, end = tests[-1]
    if comparison != "ge" or not re.search(rf"{counter} = sadd\.s32 1,", text):
        raise MissedLoopError(f"a loop ends by {comparison} {counter}, {end} and does not count by 1")
    return int(end)
