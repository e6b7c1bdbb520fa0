"""Local folders: each top-level folder, file or archive is a repository, such as the packages of site-packages."""

import csv
import dataclasses
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence

from sc2jax.corpus.sources.archives import DESCRIPTION_SUFFIX, archive_repository, is_archive
from sc2jax.corpus.sources.git_trees import git_repository
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import (
    DISTRIBUTION_SUFFIXES,
    is_license_file,
    licensed_folder,
    promises_license,
)
from sc2jax.corpus.sources.walk import (
    SKIPPED_FOLDERS,
    Entry,
    FoundFile,
    FoundRepository,
    folder_entries,
    kind_of,
    read_bytes,
    walk_files,
)

_RECORD_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class SourceFolder:
    """A folder to curate: the top-level entries in `only` (all if it is empty) that are not in `without`.

    It may also be an archive, which is taken as a whole.
    """

    root: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Whether a top-level entry is to be curated."""
        return (not self.only or name in self.only) and name not in self.without


@dataclasses.dataclass(frozen=True)
class Beside:
    """What lies beside the packages of a folder and says of their licences.

    Attributes:
        installed: top-level name -> the texts of the distributions that installed it.
        loose: the texts that speak for every package without one of those.
        claimed: the names that some distribution installed.
        some_unknown: whether there is a distribution of which it cannot be read what it installed.
        has_archives: whether archives lie in the folder, and with them perhaps Debian's descriptions of them.
    """

    installed: Mapping[str, tuple[str, ...]]
    loose: tuple[str, ...]
    claimed: frozenset[str]
    some_unknown: bool
    has_archives: bool

    def of(self, names: Collection[str]) -> "Beside":
        """The part of it that speaks for some of the packages."""
        texts = {as_text(name): self.installed[as_text(name)] for name in names if as_text(name) in self.installed}
        claimed = self.claimed.intersection(map(as_text, names))
        return dataclasses.replace(self, installed=texts, claimed=claimed)


class NamedEntry:
    """An entry of a folder that is known by its name; what it is, is looked at when it is asked for."""

    def __init__(self, folder: str, name: str):
        self.name, self.path = name, os.path.join(folder, name)  # noqa: PTH118

    def is_file(self, *, follow_symlinks: bool) -> bool:
        """Whether it is a regular file."""
        return not follow_symlinks and stat.S_ISREG(self._mode())

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        """Whether it is a folder."""
        return not follow_symlinks and stat.S_ISDIR(self._mode())

    def is_symlink(self) -> bool:
        """Whether it is a link."""
        return stat.S_ISLNK(self._mode())

    def _mode(self) -> int:
        return os.lstat(self.path).st_mode


def packages_of(root: str, names: Sequence[str], beside: Beside, left_out: LeftOut) -> Iterator[FoundRepository]:
    """Of some top-level entries of a folder each is a repository of its own, and so is every working tree below."""
    for entry, kind in top_level([NamedEntry(root, name) for name in names], left_out):
        if kind == "file" and is_archive(entry.path):
            yield archive_repository(root, entry.path, left_out)
            continue
        if kind == "file" and beside.has_archives and entry.name.endswith(DESCRIPTION_SUFFIX):
            continue
        trees: list[str] = []
        missing: list[str] = []
        found = [entry.path] if kind == "file" else list(walk_files(entry.path, left_out, trees, missing))
        if found:
            package = _package(root, entry, root if kind == "file" else entry.path, found, missing)
            _attach_licenses(package, beside)
            yield package
        for tree in trees:
            yield git_repository(root, tree, os.path.relpath(tree, root), left_out)


def _package(root: str, entry: Entry, base: str, found: list[str], missing: list[str]) -> FoundRepository:
    files = [FoundFile(as_text(os.path.relpath(path, base)), os.fsencode(path)) for path in found]
    at = {file.location: file for file in files} if missing else {}
    not_taken = [
        (as_text(os.path.relpath(path, base)), at.get(os.fsencode(os.path.realpath(path)))) for path in missing
    ]
    return FoundRepository(root, as_text(entry.name), "", files, not_taken)


def top_level(entries: Sequence[Entry], left_out: LeftOut) -> Iterator[tuple[Entry, str]]:
    """What may be a package: folders and regular files (`kind_of`), without the metadata of distributions."""
    for entry in entries:
        if entry.name not in SKIPPED_FOLDERS and not entry.name.endswith(DISTRIBUTION_SUFFIXES):
            kind = kind_of(entry, left_out)
            if kind:
                yield entry, kind


def texts_beside(source: SourceFolder, entries: Sequence[os.DirEntry[str]], left_out: LeftOut) -> Beside:
    """What lies beside the packages of a folder: the metadata of distributions, and loose licences.

    A loose one that a distribution installed speaks for its packages; another one for every package that has no licence
    from a distribution, as beside the metadata in an unpacked source distribution. Where it cannot be read whose
    metadata it is, it speaks for all that no other distribution claims, and what it says is unknown.
    """
    loose = _loose_licenses(entries)
    installed: dict[str, tuple[str, ...]] = {}
    claimed: set[str] = set()
    some_unknown = False
    for folder in (entry.path for entry in entries if _is_distribution(entry)):
        try:
            names = _installed_names(folder)
        except SourceError as fault:
            left_out.add(fault)
            some_unknown = True
            continue
        texts = [path for name, path in loose.items() if name in names]
        texts += [path for path in _texts_in(folder, left_out) if not path or is_license_file(os.path.basename(path))]  # noqa: PTH119
        claimed |= names
        for name in names:
            installed[name] = (*installed.get(name, ()), *texts)
    unclaimed = tuple(path for name, path in loose.items() if name not in claimed)
    held = (entry for entry in entries if source.holds(entry.name))
    has_archives = any(kind_of(entry, LeftOut()) == "file" and is_archive(entry.path) for entry in held)
    return Beside(installed, unclaimed, frozenset(claimed), some_unknown, has_archives)


def _attach_licenses(package: FoundRepository, beside: Beside) -> None:
    package.licenses += beside.installed.get(package.name, ())
    if not package.licenses:
        package.licenses += [path for path in beside.loose if os.fsencode(path) != package.files[0].location]
    if package.name not in beside.claimed:
        package.licenses_unknown = beside.some_unknown


def _loose_licenses(entries: Sequence[os.DirEntry[str]]) -> dict[str, str]:
    """What may tell of a licence directly in a source, be it a file or not, by name: where to read it, or ""."""
    uncounted = LeftOut()  # they were counted as packages
    loose = {}
    for entry in entries:
        kind = kind_of(entry, uncounted)
        if kind == "file" and is_license_file(entry.name) and not is_archive(entry.path):  # such as mit-1.0.tar.gz
            loose[entry.name] = entry.path
        elif kind == "folder" and licensed_folder(f"{entry.name}/any") == "":
            loose |= {path: path for path in _texts_in(entry.path, uncounted)}
        elif not kind and promises_license(entry.name):
            loose[entry.name] = _target(entry.path, os.path.dirname(entry.path))  # noqa: PTH120
    return loose


def _texts_in(folder: str, left_out: LeftOut) -> list[str]:
    """The files below a folder, and for each other thing there that promises a licence where to read it, or ""."""
    missing: list[str] = []
    return [*walk_files(folder, left_out, missing=missing), *(_target(path, folder) for path in missing)]


def _target(path: str, folder: str) -> str:
    """The regular file in a folder that a link leads to; "" if it leads elsewhere or is no link."""
    target = os.path.realpath(path)
    inside = os.path.commonpath([folder, target]) == folder
    return target if inside and os.path.isfile(target) else ""  # noqa: PTH113


def _is_distribution(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(DISTRIBUTION_SUFFIXES) and kind_of(entry, LeftOut()) == "folder"


def _installed_names(distribution: str) -> set[str]:
    """The top-level entries that a distribution installed, by its RECORD, or top_level.txt where there is none.

    Raises:
        SourceError: the file cannot be read.
    """
    found = {entry.name for entry in folder_entries(distribution)}
    record, names = f"{distribution}/RECORD", f"{distribution}/top_level.txt"
    if "RECORD" in found:
        lines = read_bytes(record, _RECORD_BYTES).decode("utf-8", "replace").splitlines()
        try:
            return {row[0].split("/", 1)[0] for row in csv.reader(lines) if row}
        except csv.Error as error:
            raise SourceError("unreadable_file", record, str(error)) from error
    if "top_level.txt" in found:
        text = read_bytes(names, _RECORD_BYTES).decode("utf-8", "replace")
        return {name for line in text.split() for name in (line, f"{line}.py")}
    return set()
