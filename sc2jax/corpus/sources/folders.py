"""Local folders: each top-level folder or file is a repository, such as the packages of a site-packages folder."""

import csv
import dataclasses
import os

from sc2jax.corpus.sources.git_trees import working_tree
from sc2jax.corpus.sources.license_files import is_license_file
from sc2jax.corpus.sources.walk import (
    SKIPPED_FOLDERS,
    FoundRepository,
    as_text,
    folder_entries,
    read_bytes,
    walk_files,
)

_DISTRIBUTION_SUFFIXES = (".dist-info", ".egg-info")


@dataclasses.dataclass(frozen=True)
class SourceFolder:
    """A folder to curate: the top-level entries in `only` (all if it is empty) that are not in `without`."""

    root: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def packages_of(source: SourceFolder, root: str) -> list[FoundRepository]:
    """Each top-level entry is a repository of its own, and so is every working tree below."""
    repositories, trees = [], []
    for entry in top_level_entries(root):
        if (source.only and entry.name not in source.only) or entry.name in source.without:
            continue
        if entry.is_file(follow_symlinks=False):
            files = [(as_text(entry.name), entry.path)]
        else:
            files = [(as_text(os.path.relpath(path, entry.path)), path) for path in walk_files(entry.path, trees)]
        if files:
            repositories.append(FoundRepository(root, as_text(entry.name), "", files))
    _attach_licenses(root, repositories)
    repositories += [working_tree(root, tree, os.path.relpath(tree, root)) for tree in trees]
    return repositories


def top_level_entries(root: str) -> list[os.DirEntry[str]]:
    """What may be a package in a source: its folders and regular files, without the metadata of distributions."""
    return [
        entry
        for entry in folder_entries(root)
        if entry.name not in SKIPPED_FOLDERS
        and not entry.name.endswith(_DISTRIBUTION_SUFFIXES)
        and (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False))
    ]


def _attach_licenses(root: str, packages: list[FoundRepository]) -> None:
    """Licences that lie beside the packages: in the metadata of a distribution, else loose in the source."""
    by_name = {package.name: package for package in packages}
    distributions = [
        entry.path
        for entry in folder_entries(root)
        if entry.name.endswith(_DISTRIBUTION_SUFFIXES) and entry.is_dir(follow_symlinks=False)
    ]
    if not distributions:
        loose = [
            e.path for e in top_level_entries(root) if e.is_file(follow_symlinks=False) and is_license_file(e.name)
        ]
        for package in packages:
            package.licenses += [path for path in loose if path != package.files[0][1]]
    for folder in distributions:
        texts = [path for path in walk_files(folder) if is_license_file(os.path.basename(path))]  # noqa: PTH119
        for name in _installed_names(folder):
            if name in by_name:
                by_name[name].licenses += texts


def _installed_names(distribution: str) -> set[str]:
    """The top-level entries that a distribution installed, by its RECORD, or top_level.txt where there is none."""
    record = os.path.join(distribution, "RECORD")  # noqa: PTH118
    if os.path.exists(record):  # noqa: PTH110
        lines = read_bytes(record).decode("utf-8", "replace").splitlines()
        return {row[0].split("/", 1)[0] for row in csv.reader(lines) if row}
    names = os.path.join(distribution, "top_level.txt")  # noqa: PTH118
    if os.path.exists(names):  # noqa: PTH110
        return {name for line in read_bytes(names).decode().split() for name in (line, f"{line}.py")}
    return set()
