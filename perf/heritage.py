# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The traversal of a graph export of Software Heritage: rows a CPU-second and memory, by the number of its entries.

    python perf/heritage.py [--entries=2000000 --entries=8000000 ...] [--folder=DIR]

Makes exports in ORC: repositories of 20 folders in 4 levels, each with 10 files and folders, of which every second
shares 16 folders with the one before, as forks do; two of three files have a content that others have too. Contents are
not fetched. A run is a process of its own; its CPU seconds are those of all its threads.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import orc

FOLDERS, ENTRIES, OWN_FOLDERS = 20, 10, 12
"""The last is a mean: every second repository has four of its own."""

TABLE_FILES = 4


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, action="append")
    parser.add_argument("--folder", default=None, help="for the exports and for what the traversal writes")
    parser.add_argument("--walk", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.walk:
        walk(*chosen.walk)
        return
    print(
        "| directory entries | repositories | files found | CPU s | entries a CPU-second | wall s | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for entries in chosen.entries or [2_000_000]:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            count = write_export(Path(folder, "export"), round(entries / ENTRIES / OWN_FOLDERS))
            command = [sys.executable, __file__, "--walk", f"{folder}/export", f"{folder}/work"]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            print(
                f"| {count:,} | {found['repositories']:,} | {found['files']:,} | {found['cpu']:.1f} | "
                f"{count / found['cpu']:,.0f} | {found['wall']:.1f} | {found['peak']:,.0f} |"
            )


def walk(export: str, work: str) -> None:
    """Walks an export, and prints what that took."""
    from sc2jax.corpus.heritage import Archive, exported_repositories
    from sc2jax.corpus.sources.left_out import LeftOut

    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    repositories = files = 0
    with exported_repositories(export, Archive("store"), work, LeftOut()) as found:
        for repository in found:
            repositories += 1
            files += len(repository.files)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = {"cpu": used, "wall": time.monotonic() - start, "peak": after.ru_maxrss / 1e3}
    print(json.dumps({"repositories": repositories, "files": files} | took))


def write_export(folder: Path, repositories: int) -> int:
    """Writes the tables; returns the number of directory entries."""
    draw = np.random.default_rng(0)
    trees, entries = [], 0
    for part in range(TABLE_FILES):
        numbers = np.arange(repositories)[part::TABLE_FILES]
        table = directory_entries(numbers, draw)
        entries += len(table)
        write(folder, "directory_entry", part, table)
        trees.append(table.filter(pa.array(np.asarray(table["type"]) == "file"))["target"])
        roots, commits = ids(numbers * FOLDERS, 1), ids(numbers, 2)
        snapshots = ids(numbers, 3)
        count = len(numbers)
        dates = pa.array(1_600_000_000_000_000_000 + numbers * 10**9, pa.timestamp("ns"))
        urls = [f"https://github.com/owner{number % 1000}/repository{number}" for number in numbers.tolist()]
        visits = {
            "origin": urls,
            "visit": [1] * count,
            "date": dates,
            "status": ["full"] * count,
            "snapshot": snapshots,
        }
        write(folder, "origin_visit_status", part, pa.table(visits))
        names = {"name": [b"refs/heads/main"] * count, "target": commits, "target_type": ["revision"] * count}
        write(folder, "snapshot_branch", part, pa.table({"snapshot_id": snapshots} | names))
        what = {"id": commits, "date": dates, "committer_date": dates, "directory": roots, "type": ["git"] * count}
        write(folder, "revision", part, pa.table(what))
    contents = pa.chunked_array([chunk for tree in trees for chunk in tree.chunks]).unique()
    hashes = pa.array([text.as_py()[::-1] for text in contents])
    lengths = pa.array(draw.integers(0, 20_000, len(contents)))
    table = pa.table({"sha1": hashes, "sha1_git": contents, "length": lengths})
    for part in range(TABLE_FILES):
        cut = -(-len(table) // TABLE_FILES)
        write(folder, "content", part, table.slice(part * cut, cut))
    return entries


def ids(numbers: np.ndarray, kind: int) -> pa.Array:
    """Identifiers in hexadecimal digits, as if drawn by chance."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return pa.array(
        [f"{one:016x}{kind:08x}{two:016x}" for one, two in zip(mixed.tolist(), numbers.tolist(), strict=True)]
    )


def directory_entries(numbers: np.ndarray, draw: np.random.Generator) -> pa.Table:
    """Of each repository the entries of its folders: folder i leads to folders 3i + 1 to 3i + 3."""
    folder, place = (grid.ravel() for grid in np.meshgrid(np.arange(FOLDERS), np.arange(ENTRIES), indexing="ij"))
    repository = np.repeat(numbers, len(folder))
    folder, place = np.tile(folder, len(numbers)), np.tile(place, len(numbers))
    child = 3 * folder + 1 + place
    is_folder = (place < 3) & (child < FOLDERS)
    # Folders from the fifth on are those of the repository before for every second one.
    of_child = np.where((child >= 4) & (repository % 2 == 1), repository - 1, repository)
    shared = draw.random(len(place)) < 2 / 3
    content = np.where(
        shared, draw.integers(0, len(place) // 4 + 1, len(place)), repository * 200 + folder * 10 + place
    )
    nodes = np.where(is_folder, of_child * FOLDERS + child, content)
    folders, files = ids(nodes, 1), ids(nodes, 4)
    own = (folder < 4) | (repository % 2 == 0)
    table = {
        "directory_id": ids(repository * FOLDERS + folder, 1),
        "name": pa.array([f"name_{number}.py".encode() for number in place.tolist()], pa.binary()),
        "type": np.where(is_folder, "dir", "file"),
        "target": pc.if_else(pa.array(is_folder), folders, files),
        "perms": np.where(is_folder, 0o040000, 0o100644).astype(np.int32),
    }
    return pa.table(table).filter(pa.array(own))


def write(folder: Path, name: str, part: int, table: pa.Table) -> None:
    """One file of a table."""
    path = folder / "orc" / name / f"{part}.orc"
    path.parent.mkdir(parents=True, exist_ok=True)
    orc.write_table(table, path, compression="zstd")


if __name__ == "__main__":
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    main()
