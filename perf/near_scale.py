"""What near-deduplication takes at a size: wall time, CPU-seconds, memory of all processes and temporary disk.

    python perf/near_scale.py --files=2000000 [--shared=0.1] [--alike=0.1] [--folder=/tmp/near_scale] [--only=greedy]

Makes signatures directly, in units of Arrow files: a tenth of the files are like another (at 0.8 to 0.95), and a tenth
share one band and are otherwise unlike. Then runs the greedy rule, the paper's (components by stars), and the
comparison across the split with a twentieth held out, each in a process of its own. All that lies below the folder is
deleted.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.across import across
from sc2jax.corpus.dedup.components import transitive
from sc2jax.corpus.dedup.rounds import greedy
from sc2jax.corpus.dedup.signed import Signed, signature_column, signed_schema

UNIT, PERMUTATIONS = 8192, 250


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """Units of signatures, one file each: of certain units those that are in, renumbered."""

    folder: str
    chosen: tuple[int, ...]
    starts: np.ndarray
    permutations: int = PERMUTATIONS

    def units(self) -> pa.Table:
        """A row for each unit."""
        return pa.table({"unit": np.arange(len(self.chosen))})

    def read(self, unit: int) -> pa.Table:
        """One file."""
        with pa.memory_map(f"{self.folder}/{self.chosen[unit]}.arrow") as file:
            table = pa.ipc.open_file(file).read_all()
        return table.set_column(0, "id", pa.array(np.arange(self.starts[unit], self.starts[unit + 1])))


def on_disk(folder: str, files: int, chosen: range | None = None) -> OnDisk:
    """The files of certain units, or of all."""
    units = chosen or range(-(-files // UNIT))
    sizes = [min(UNIT, files - unit * UNIT) for unit in units]
    return OnDisk(folder, tuple(units), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def write(folder: Path, files: int, alike: float, shared: float) -> None:
    """Files follow from their numbers; one that is like another is like one of any lower number."""
    folder.mkdir(parents=True)
    for unit in range(-(-files // UNIT)):
        ids = np.arange(unit * UNIT, min(files, (unit + 1) * UNIT))
        draw = np.random.default_rng((1, unit))
        signatures = fresh(ids)
        copies = np.flatnonzero(draw.random(len(ids)) < alike)
        originals = fresh(draw.integers(0, np.maximum(ids[copies], 1)))
        kept = draw.random((len(copies), PERMUTATIONS)) < draw.uniform(0.8, 0.95, len(copies))[:, None]
        signatures[copies] = np.where(kept, originals, signatures[copies])
        sharing = draw.random(len(ids)) < shared
        signatures[sharing, :10] = 7
        orders = draw.permutation(1 << 20)[: len(ids)].astype(np.uint64) * np.uint64(1 << 40) + ids.astype(np.uint64)
        columns = [
            pa.array(ids),
            pa.array(orders),
            pa.array(np.zeros(len(ids), np.uint64)),
            signature_column(signatures),
        ]
        table = pa.Table.from_arrays(columns, schema=signed_schema(PERMUTATIONS))
        with pa.ipc.new_file(str(folder / f"{unit}.arrow"), table.schema) as sink:
            sink.write_table(table)


def fresh(ids: np.ndarray) -> np.ndarray:
    """A signature for each number that is like no other's."""
    state = ids.astype(np.uint64)[:, None] * np.uint64(PERMUTATIONS) + np.arange(PERMUTATIONS, dtype=np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state >> np.uint64(32)).astype(np.uint32)


def run(kind: str, folder: str, files: int) -> int:
    """One of the computations; how many files fall."""
    signed: Signed = on_disk(f"{folder}/signed", files)
    work = f"{folder}/work"
    if kind == "greedy":
        found = greedy(work, signed, 0.7)
    elif kind == "stars":
        found = transitive(work, signed, 0.7)
    else:
        units = -(-files // UNIT)
        cut = max(1, units // 20)
        heldout, training = (on_disk(f"{folder}/signed", files, part) for part in (range(cut), range(cut, units)))
        found = across(work, heldout, training, 0.61)
    with found as buckets:
        return buckets.rows


def measured(kind: str, folder: str, files: int) -> dict[str, float]:
    """The same in a process of its own: seconds, CPU-seconds, the most memory and disk that were seen."""
    Path(folder, "work").mkdir(exist_ok=True)
    before, started = os.times(), time.perf_counter()
    command = [sys.executable, __file__, f"--files={files}", f"--folder={folder}", f"--run={kind}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        seen = {"memory": 0.0, "disk": 0.0}
        watch = threading.Thread(target=watched, args=(process, Path(folder, "work"), seen))
        watch.start()
        output = process.communicate()[0]
        watch.join()
    if process.returncode:
        raise SystemExit(f"{kind} ended with status {process.returncode}")
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return {"fallen": json.loads(output), "wall": time.perf_counter() - started, "cpu": busy, **seen}


def watched(process: subprocess.Popen[str], work: Path, seen: dict[str, float]) -> None:
    """Looks ten times a second at the memory of a process and all below it, and once a second at the disk."""
    turn = 0
    while process.poll() is None:
        seen["memory"] = max(seen["memory"], resident(process.pid))
        if turn % 10 == 0:
            seen["disk"] = max(seen["disk"], below(work))
        turn += 1
        time.sleep(0.1)


def resident(pid: int) -> float:
    """Memory in MB that is the processes' own: not the pages of mapped files, which the kernel takes back."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        _, all_pages, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
    except OSError:
        return 0
    own = (int(all_pages) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return own + sum(resident(int(child)) for child in children)


def below(folder: Path) -> float:
    """GB of the files below a folder."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).stat().st_size
            except OSError:
                continue  # deleted meanwhile
    return total / 1e9


def main() -> None:
    """Prints a line for each computation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--alike", type=float, default=0.1)
    parser.add_argument("--shared", type=float, default=0.1)
    parser.add_argument("--folder", default="/tmp/near_scale")
    parser.add_argument("--only", choices=["greedy", "stars", "across"])
    parser.add_argument("--run", choices=["greedy", "stars", "across"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        print(json.dumps(run(chosen.run, chosen.folder, chosen.files)))
        return
    try:
        write(Path(chosen.folder, "signed"), chosen.files, chosen.alike, chosen.shared)
        print("computation    files     fallen   wall s    CPU s   us/file   memory MB   disk GB")
        for kind in [chosen.only] if chosen.only else ["greedy", "stars", "across"]:
            found = measured(kind, chosen.folder, chosen.files)
            print(
                f"{kind:11} {chosen.files:>8} {found['fallen']:>10} {found['wall']:>8.1f} {found['cpu']:>8.1f} "
                f"{found['cpu'] / chosen.files * 1e6:>9.1f} {found['memory']:>11.0f} {found['disk']:>9.2f}"
            )
    finally:
        shutil.rmtree(chosen.folder)


if __name__ == "__main__":
    main()
