"""The default source: the Python that runs this, its standard library with some of the distributions beside it."""

import hashlib
import os
import sysconfig

from sc2jax.corpus.language import language_of_name
from sc2jax.corpus.sources.folders import SourceFolder, top_level
from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.walk import folder_entries, walk_files


def machine_sources(max_distribution_bytes: int, seed: int) -> list[SourceFolder]:
    """The standard library, and top-level packages of the installed distributions that together fit the limit."""
    paths = sysconfig.get_paths()
    sources = [SourceFolder(paths["stdlib"], without=("site-packages", "dist-packages"))]
    if os.path.isdir(paths["purelib"]):  # noqa: PTH112
        chosen = choose_packages(package_sizes(paths["purelib"]), max_distribution_bytes, seed)
        if chosen:
            sources.append(SourceFolder(paths["purelib"], only=chosen))
    return sources


def package_sizes(root: str) -> dict[str, int]:
    """Bytes of the files that have a language, for each top-level package of a folder; none if it cannot be read."""
    uncounted = LeftOut()  # what is chosen is walked again, and counted then
    try:
        entries = folder_entries(root)
    except SourceError:
        return {}
    sizes = {}
    for entry, kind in top_level(entries, uncounted):
        files = walk_files(entry.path, uncounted) if kind == "folder" else [entry.path]
        sizes[entry.name] = sum(
            _size(path)
            for path in files
            if language_of_name(os.path.basename(path))  # noqa: PTH119
        )
    return sizes


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:  # it vanished, or cannot be read
        return 0


def choose_packages(sizes: dict[str, int], limit: int, seed: int) -> tuple[str, ...]:
    """Whole packages up to `limit` bytes, in the order of a seeded hash of their names; what does not fit is skipped.

    The order of one package does not depend on the others, so a new distribution changes the choice little.
    """
    chosen = []
    for name in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()):
        if 0 < sizes[name] <= limit:
            chosen.append(name)
            limit -= sizes[name]
    return tuple(sorted(chosen))
