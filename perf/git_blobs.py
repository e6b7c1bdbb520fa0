"""Blobs of a git repository through sc2jax beside `git cat-file --batch`: megabytes a CPU-second.

    python perf/git_blobs.py REPOSITORY [--every 20]

Both read the same blobs in the same order, by turns; sc2jax also hands each one to Python and hashes it, as it does
when it curates. CPU-seconds are those of all processes of a side.
"""

import argparse
import os
import resource
import statistics
import subprocess
import time

from sc2jax.corpus.sources.contents import git_location
from sc2jax.corpus.sources.git_folder import bare_git_folder, find_git_folder, object_store, read_head
from sc2jax.corpus.sources.git_objects import close_stores, git_program
from sc2jax.corpus.sources.listing import read_listed

LIMIT = 10 << 20


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository")
    parser.add_argument("--every", type=int, default=20, help="reads each so-many-th blob, in the order of names")
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    root = os.path.realpath(chosen.repository)
    names, size = blobs(root, chosen.every)
    print(f"{len(names):,} blobs of {size / 1e6:,.0f} MB in {root}, {os.cpu_count()} cores")
    sides = {"git cat-file --batch": by_git, "sc2jax": by_sc2jax}
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(chosen.turns):
        for side, read in sides.items():
            before, start = cpu_seconds(), time.monotonic()
            read(root, names)
            used = cpu_seconds() - before
            speeds[side].append(size / 1e6 / used)
            took = f"{used:6.1f} CPU s, {time.monotonic() - start:6.1f} s"
            print(f"{side:22} {took}, {speeds[side][-1]:6.1f} MB a CPU-second")
    ratios = [ours / theirs for theirs, ours in zip(*speeds.values(), strict=True)]
    print(f"ratio: median {statistics.median(ratios):.2f}, {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def blobs(root: str, every: int) -> tuple[list[str], int]:
    """The names of blobs that would be read, and their bytes."""
    command = [git_program(), "-C", root, "cat-file", "--batch-all-objects", "--batch-check"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    found = [(name, int(size)) for name, kind, size in rows if kind == "blob" and int(size) < LIMIT][::every]
    return [name for name, _ in found], sum(size for _, size in found)


def by_git(root: str, names: list[str]) -> None:
    """Writes the blobs to nowhere."""
    asked = "".join(f"{name}\n" for name in names).encode()
    subprocess.run(
        [git_program(), "-C", root, "cat-file", "--batch"], input=asked, check=True, stdout=subprocess.DEVNULL
    )


def by_sc2jax(root: str, names: list[str]) -> None:
    """The blobs as the corpus reads them: a few megabytes at a time, each compared with its name."""
    git = find_git_folder(root, root) if os.path.lexists(f"{root}/.git") else bare_git_folder(root, root)
    prefix = git_location(object_store(git, read_head(git).hash))
    for low in range(0, len(names), 200):
        part = names[low : low + 200]
        locations = [prefix + name.encode() for name in part]
        for content in read_listed(locations, [f"swh:1:cnt:{name}" for name in part], LIMIT):
            assert isinstance(content, bytes)
    close_stores()


def cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


if __name__ == "__main__":
    main()
