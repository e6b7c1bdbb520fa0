"""Attention kernels for TPUs side by side, by the TPU compiler's own schedule and without a TPU.

    python perf/tpu_kernels.py [--chips v5e,v5p] [--shape "15b 16384"] [--cases splash] [--regions]

A row is a case of `tpu_contenders.py` on a chip, compiled in its own process:

- the FLOPs of the visible pairs, the least HBM bytes (every tensor moved once, angles and segment ids left out), and
  the ratio of the bytes moved to the least;
- blocks of the score matrix visited and needed, and pieces where a kernel computes parts of a block; the VMEM of the
  largest kernel;
- bundles and cycles of the whole call on one core, in millions (`sc2jax/plan/kernel_schedule.py` says how they differ),
  each also relative to the floor: the cycles that the matrix units of all cores of the device need at their peak for
  the visible pairs;
- the compiler's estimate, in millions of cycles, for what XLA does around the kernels (for a backward pass also around
  the forward pass that it needs).
"""

import argparse
import os
import tempfile
from pathlib import Path

from tpu_contenders import CASES, SHAPES

from sc2jax.parallel.chips import GENERATIONS
from sc2jax.plan.environment import ENVIRONMENT
from sc2jax.plan.kernel_compilation import dump, kernels_of
from sc2jax.plan.kernel_schedule import BRANCH_DELAYS

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


def row(case: str, shape: str, chip: str, folder: Path, regions: bool) -> str:
    """Compiles a case and sets its figures in a row."""
    contender, tpu = CASES[case].at(SHAPES[shape]), GENERATIONS[chip].tpu
    assert tpu is not None
    around = dump(chip, f"{Path(__file__).with_name('tpu_contenders.py')}:subject", [case, shape], folder)
    kernels = kernels_of(chip, folder)
    total = {"bundles": 0, "cycles": 0}
    moved, vmem = contender.bytes_around, 0
    for launch in contender.subject.launches:
        kernel = kernels[launch.kernel]
        schedule = launch.schedule(kernel)
        total = {name: total[name] + schedule[name] for name in total}
        moved += launch.moved_bytes(kernel)
        vmem = max(vmem, kernel.vmem_bytes)
        if regions:
            print(kernel.tree(launch.executions(kernel)))
    floor = contender.visible_flops / (tpu.flops_per_cycle * tpu.cores)
    blocks = " + ".join(
        ", ".join(f"{visited}/{needed} of {side}" for side, (visited, needed) in launch.blocks.items())
        for launch in contender.subject.launches
    )
    cells = (
        case,
        chip,
        f"{contender.visible_flops / 1e9:.0f}",
        f"{contender.least_bytes / 1e6:.0f}",
        f"{moved / contender.least_bytes:.2f}",
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
    parser.add_argument("--chips", default=",".join(BRANCH_DELAYS), help="comma-separated")
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
