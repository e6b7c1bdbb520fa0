"""Attention kernels for TPUs side by side, by the TPU compiler's own schedule and without a TPU.

    python perf/tpu_kernels.py [--chips v5e,v5p] [--shape "15b 16384"] [--cases splash] [--regions]

A row is a case of `tpu_contenders.py` on a chip, compiled in its own process:

- the FLOPs of the visible pairs, the least HBM bytes (every tensor moved once, angles and segment ids left out), and
  the ratio of the bytes moved to the least;
- blocks of the score matrix visited and needed, and pieces where a kernel computes parts of a block; the VMEM of the
  largest kernel;
- bundles and cycles of the whole call on one core, in millions (`tpu_schedule.py` says how they differ), each also
  relative to the floor: the cycles that the matrix units of all cores of the device need at their peak for the visible
  pairs;
- the compiler's estimate, in millions of cycles, for what XLA does around the kernels (for a backward pass also around
  the forward pass that it needs).
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from tpu_compiler import ENVIRONMENT, dump, kernels_of
from tpu_contenders import CASES, SHAPES, Blocks, Launch
from tpu_schedule import CHIPS, Kernel, Operand

COLUMNS = (
    "case",
    "chip",
    "GFLOP",
    "least MB",
    "moved",
    "blocks",
    "VMEM MiB",
    "bundles",
    "cycles",
    "floor",
    "XLA",
    "bundles/floor",
    "cycles/floor",
)


def moves(blocks: Blocks, steps: int) -> int:
    """How often a window moves: whenever its block differs from that of the step before."""
    if isinstance(blocks, int):
        return 0
    index = np.stack([np.broadcast_to(np.asarray(part), steps) for part in blocks])
    return 1 + int((index[:, 1:] != index[:, :-1]).any(axis=0).sum())


def moved_bytes(operand: Operand, blocks: Blocks, steps: int) -> int:
    """Between HBM and VMEM: the pipeline copies a window when it moves."""
    if isinstance(blocks, int):
        return blocks
    if operand.in_vmem:  # where XLA has put it
        return operand.bytes
    return operand.window_bytes * moves(blocks, steps)


def launch_bytes(kernel: Kernel, launch: Launch) -> int:
    """What one call of a kernel moves in all."""
    steps = int(np.prod(launch.grid))
    stays: Blocks = (0,)
    return sum(
        moved_bytes(operand, launch.operands.get(number, stays), steps) for number, operand in kernel.operands.items()
    )


def row(case: str, shape: str, chip: str, folder: Path, regions: bool) -> str:
    """Compiles a case and sets its figures in a row."""
    subject, generation = CASES[case].subject(SHAPES[shape]), CHIPS[chip]
    around = dump(chip, f"{Path(__file__).with_name('tpu_contenders.py')}:subject", [case, shape], folder)
    kernels = kernels_of(chip, folder)
    total = {"bundles": 0, "cycles": 0}
    moved, vmem = subject.bytes_around, 0
    for launch in subject.launches:
        kernel = kernels[launch.kernel]
        cores = generation.cores if launch.split else 1
        steps = int(np.prod(launch.grid)) // cores
        branches = [(name, times // cores) for name, times in launch.branches]
        copies = {number: -(-moves(where, steps * cores) // cores) for number, where in launch.operands.items()}
        schedule = kernel.schedule(steps, branches, launch.flops // cores, copies)
        total = {name: total[name] + schedule[name] for name in total}
        moved += launch_bytes(kernel, launch)
        vmem = max(vmem, kernel.vmem_bytes)
        if regions:
            print(kernel.tree(kernel.executions(steps, branches, copies)))
    floor = subject.visible_flops / (generation.flops_per_cycle * generation.cores)
    blocks = " + ".join(
        ", ".join(f"{visited}/{needed} of {side}" for side, (visited, needed) in launch.blocks.items())
        for launch in subject.launches
    )
    cells = (
        case,
        chip,
        f"{subject.visible_flops / 1e9:.0f}",
        f"{subject.least_bytes / 1e6:.0f}",
        f"{moved / subject.least_bytes:.2f}",
        blocks,
        f"{vmem / 2**20:.1f}",
        *(
            f"{cycles / 1e6:.2f}"
            for cycles in (total["bundles"], total["cycles"], floor, around["cycles_around_kernels"])
        ),
        f"{total['bundles'] / floor:.2f}",
        f"{total['cycles'] / floor:.2f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--chips", default=",".join(CHIPS), help="comma-separated")
    parser.add_argument("--shape", default="15b 16384", choices=SHAPES)
    parser.add_argument("--cases", default="", help="only the cases whose names contain this")
    parser.add_argument("--regions", action="store_true", help="print every kernel's tree of regions too")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    print(f"{options.shape}: {SHAPES[options.shape]}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for case in CASES:
        for chip in options.chips.split(","):
            if options.cases in case:
                with tempfile.TemporaryDirectory() as folder:
                    print(row(case, options.shape, chip, Path(folder), options.regions), flush=True)


if __name__ == "__main__":
    main()
