"""Regenerates the table of docs/planning.md: every size and stage on the slices of 256 chips, and a peer beside them.

    python perf/planning_table.py --out=DIR [--jobs=2] [CELL ...] [--extrapolated=CELL ...] \
        [--peer=PROGRAM.txt:LAYERS:SIZE:SLICE ...]

A cell is a config for a slice with overrides, compiled whole, --jobs of them at a time: the compiler has one thread.
Programs are kept in DIR, so that a table that was interrupted goes on, and may be read again by another estimate: they
are those of the code that compiled them, so another state of the step needs another DIR. With names of cells only
these are compiled. `--extrapolated` says how far a cell is from what follows from 4 and 8 of its layers. A peer's
program is one of MaxText that perf/tpu_peer.py wrote, of LAYERS layers; what the others take is what the turns of its
loops over layers do.
"""

import argparse
import dataclasses
import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sc2jax import storage
from sc2jax.config import load_config, to_settings
from sc2jax.config_values import override
from sc2jax.parallel.chips import GIB
from sc2jax.plan.compilation import CompiledStep, Memory, PlannedStep, TooLarge, compile_step
from sc2jax.plan.estimate import utilisation
from sc2jax.plan.interconnect import Place
from sc2jax.plan.measured import step_digest
from sc2jax.plan.planning import make_plan, plan_json, read_step
from sc2jax.plan.search import layer_seconds
from sc2jax.plan.slices import Slice, find_slice
from sc2jax.training.utilisation import flops_per_token
from sc2jax.verbs.plan import planned_step


@dataclasses.dataclass(frozen=True)
class Cell:
    """A config for a slice."""

    config: str
    slice: str
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """As in "15b base v5p-512"; of several slices with their number, and what is not as usual."""
        slices = next((one.partition("=")[2] for one in self.overrides if one.startswith("mesh.slices=")), "")
        size, stage = self.config.removeprefix("starcoder2:").split(",stage=")
        again = ", full" if FULL in self.overrides else ""
        tiles = ", small tiles" if SMALL_TILES in self.overrides else ""
        return f"{size} {stage} {f'{slices} x ' if slices else ''}{self.slice}{again}{tiles}"


def _cell(config: str, slice_name: str, *overrides: str) -> Cell:
    return Cell(config, slice_name, ("model.rematerialization=dots", "training.loss_chunk=8192", *overrides))


BASE_15B, LONG_15B = "starcoder2:15b,stage=base", "starcoder2:15b,stage=long"
BASE_7B, LONG_7B = "starcoder2:7b,stage=base", "starcoder2:7b,stage=long"
BASE_3B, LONG_3B = "starcoder2:3b,stage=base", "starcoder2:3b,stage=long"
WIDE, NARROW = ("mesh.data=2", "mesh.fsdp=128"), ("mesh.data=8", "mesh.fsdp=32")
HALVES = ("mesh.data=4", "mesh.fsdp=32", "mesh.sequence=2")
QUARTERS = ("mesh.data=2", "mesh.fsdp=32", "mesh.sequence=4")
"""Of rows, on a device: a batch of the long stage has fewer rows than there are devices."""

FULL = "model.rematerialization=full"
"""Where what `dots` keeps of a row does not fit."""
SMALL_TILES = (
    "training.compiler_options=('xla_tpu_scoped_vmem_limit_kib=24576',"
    "'xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter=','xla_enable_async_reduce_scatter_fusion=')"
)
"""With which steps compile in a fraction of the time; what that costs these cells was not measured."""
ONE_ROW = "training.batch_size=256"
"""Where two rows do not fit at a time: parts of a batch, one after the other, would keep the batch, but the compiler
does not let their collectives go on beside compute."""

CELLS = (
    _cell(BASE_15B, "v5p-512", *WIDE),
    _cell(LONG_15B, "v5p-512", *WIDE),
    _cell(BASE_7B, "v5e-256", *NARROW, ONE_ROW),
    _cell(BASE_15B, "v6e-256", *WIDE, ONE_ROW),
    _cell(BASE_7B, "v5p-512", *NARROW),
    _cell(BASE_15B, "tpu7x-256", *WIDE),
    _cell(BASE_3B, "v5p-512", *NARROW),
    _cell(BASE_3B, "v5e-256", *NARROW, ONE_ROW),
    _cell(BASE_3B, "v6e-256", *NARROW),
    _cell(BASE_3B, "tpu7x-256", *NARROW),
    _cell(BASE_7B, "v6e-256", *NARROW, "training.batch_size=512"),
    _cell(BASE_7B, "tpu7x-256", *NARROW),
    _cell(LONG_3B, "v5p-512", *HALVES),
    _cell(LONG_7B, "v5p-512", *QUARTERS),
    _cell(BASE_15B, "v5p-512", "mesh.slices=2", *WIDE),
    _cell(BASE_15B, "v5e-256", *WIDE, ONE_ROW, FULL),
    _cell(LONG_3B, "v5e-256", *QUARTERS, FULL, SMALL_TILES),
    _cell(LONG_3B, "v6e-256", *HALVES, SMALL_TILES),
    _cell(LONG_3B, "tpu7x-256", *HALVES, SMALL_TILES),
    _cell(LONG_7B, "v5e-256", *QUARTERS, FULL, SMALL_TILES),
    _cell(LONG_7B, "v6e-256", *QUARTERS, FULL, SMALL_TILES),
    _cell(LONG_7B, "tpu7x-256", *QUARTERS),
    _cell(LONG_15B, "v5e-256", "mesh.fsdp=128", "mesh.sequence=2", "training.batch_size=128", FULL, SMALL_TILES),
    _cell(LONG_15B, "v6e-256", *WIDE, FULL, SMALL_TILES),
    _cell(LONG_15B, "tpu7x-256", *WIDE),
)
PAPER_TOKENS = {"3b": 2.6, "7b": 3.5, "15b": 4.1}
"""Millions in a step (StarCoder2 paper, section 6.1)."""
COLUMNS = (
    "program", "rows a device", "M tokens a step (paper)", "mesh", "HBM, GiB", "of what is given", "ms a step",
    "overlapped / exposed", "as chips were measured", "attention not causal", "compiled in",
)  # fmt: skip


def planned(cell: Cell, folder: Path, whole: bool = True) -> dict:
    """What is found of a cell, as `plan.json` has it; the program is taken from the folder if it is there."""
    config = load_config(cell.config)
    for one in cell.overrides:
        key, _, value = one.partition("=")
        override(config, key, value)
    step, slice_ = planned_step(to_settings(config)), find_slice(cell.slice)

    def compiled_by(step: PlannedStep, slice_: Slice) -> CompiledStep | TooLarge:
        return _kept(folder / f"{slice_.name}-{step_digest(step)[:16]}.json.gz", lambda: compile_step(step, slice_))

    plan = make_plan(
        step, slice_, price=0, whole=whole, cache=str(folder / "kernels"), tell=_tell, compiled_by=compiled_by
    )
    return {"too_large": dataclasses.asdict(plan)} if isinstance(plan, TooLarge) else plan_json(plan)


def _kept(path: Path, make: Callable[[], CompiledStep | TooLarge]) -> CompiledStep | TooLarge:
    """What lies in a file, or is made and put there."""
    if not path.exists():
        content = json.dumps(dataclasses.asdict(make())).encode()
        storage.write_whole(str(path), gzip.compress(content))
    found = json.loads(gzip.decompress(path.read_bytes()))
    if "text" not in found:
        return TooLarge(**found)
    places = tuple(Place(place["slice"], tuple(place["chip"])) for place in found.pop("places"))
    return CompiledStep(memory=Memory(**found.pop("memory")), places=places, **found)


def row(cell: Cell, found: dict) -> str:
    """A line of the table."""
    if "too_large" in found:
        needed = found["too_large"]["needed"] / GIB
        return f"| {cell.name} {' '.join(cell.overrides)} | does not fit: {needed:.1f} GiB |" + " |" * (
            len(COLUMNS) - 2
        )
    memory = found["memory"]
    shares = [
        f"{100 * found[name]['overlapped']:.1f} / {100 * found[name]['exposed']:.1f}"
        for name in ("utilisation", "utilisation_as_measured", "utilisation_uncausal")
    ]
    mesh = " x ".join(f"{name} {size}" for name, size in found["mesh"].items() if size > 1)
    cells = (
        cell.name,
        f"{found['rows_a_device']:g}",
        f"{found['training']['tokens'] / found['training']['steps'] / 1e6:.2f} ({PAPER_TOKENS[cell.name.split()[0]]})",
        mesh,
        f"{memory['arguments_gib']:.1f} + {memory['beside_gib']:.1f}",
        f"{memory['share']:.0%}",
        f"{1000 * found['step_seconds']:,.0f}",
        *shares,
        f"{found['compile_seconds']:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def peer_row(described: str, folder: Path) -> str:
    """A line for a peer's program."""
    text, layers, size, slice_name = described.rsplit(":", 3)
    path, slice_ = Path(text), find_slice(slice_name)
    step: PlannedStep = planned_step(to_settings(load_config(f"starcoder2:{size},stage=base")))
    about = json.loads(path.with_suffix(".json").read_text())
    places = tuple(Place(0, chip) for chip in _chips(slice_) for _ in range(slice_.chip.devices))
    compiled = CompiledStep(Memory(0, 0, 0), 0.0, places, {}, path.read_text())
    figures, timeline = read_step(compiled, step, slice_, str(folder / "kernels"))
    more = step.model.num_layers - int(layers)
    time = figures.time.plus(layer_seconds(timeline), more)
    rows = about["config"]["per_device_batch_size"]
    flops = rows * step.model.context_length * flops_per_token(step.model, step.model.context_length)
    found = utilisation(flops, 1, slice_.chip.peak_flops, time)
    shares = f"{100 * found.overlapped:.1f} / {100 * found.exposed:.1f}"
    return (
        f"| MaxText {about['versions']['maxtext']}: {path.parent.name}/{path.stem} | {rows} | | data "
        f"{about['config']['ici_data_parallelism']} | | | {1000 * time.exposed:,.0f} | {shares} | | | |"
    )


def extrapolation(cell: Cell, folder: Path) -> str:
    """How far what 4 and 8 layers say is from the whole."""
    whole, few = planned(cell, folder), planned(cell, folder, whole=False)
    pairs = {
        "exposed": (few["seconds"]["exposed"], whole["seconds"]["exposed"]),
        "overlapped": (few["seconds"]["overlapped"], whole["seconds"]["overlapped"]),
        "memory": (few["hbm_gib"], whole["hbm_gib"]),
    }
    errors = ", ".join(f"{name} {found / exact - 1:+.2%}" for name, (found, exact) in pairs.items())
    return f"{cell.name} from 4 and 8 layers: {errors}; compiled in {few['compile_seconds']:.0f} s"


def compile_apart(names: Sequence[str], extrapolated: Sequence[str], folder: Path, jobs: int) -> None:
    """Compiles what is not in the folder yet, so many programs at a time, each in a process of its own."""

    def run(arguments: Sequence[str]) -> None:
        command = [sys.executable, __file__, f"--out={folder}", "--jobs=0", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, ([name] for name in names)))
        list(pool.map(run, ([f"--extrapolated={name}", name] for name in extrapolated)))


def _chips(slice_: Slice) -> Sequence[tuple[int, ...]]:
    return list(itertools.product(*map(range, slice_.extents)))


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Prints the table."""
    cells = {cell.name: cell for cell in CELLS}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="0: all of them in this process")
    parser.add_argument("--extrapolated", action="append", default=[], choices=list(cells))
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("cells", nargs="*", choices=[*cells, []], help="names, as in the table; none: all")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.cells or list(cells)
    if options.jobs:
        compile_apart(names, options.extrapolated, options.out, options.jobs)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for name in names:
        print(row(cells[name], planned(cells[name], options.out)), flush=True)
    for described in options.peer:
        print(peer_row(described, options.out), flush=True)
    for name in options.extrapolated:
        print(extrapolation(cells[name], options.out), flush=True)


if __name__ == "__main__":
    main()
