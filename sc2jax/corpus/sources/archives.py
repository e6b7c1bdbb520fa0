"""Archives: the files of a tar or zip, as source distributions, wheels, packages of npm and crates are, never unpacked.

An archive is damaged or sound as a whole, but for the files of a zip, which stand for themselves. Of several members of
one name the last counts, as when it is unpacked.
"""

import dataclasses
import os
import posixpath
import tarfile

from sc2jax.corpus.sources.archive_members import (
    FILE,
    FOLDER,
    HARD_LINK,
    LINK,
    Allowance,
    Member,
    damage,
    tar_members,
    zip_members,
)
from sc2jax.corpus.sources.git_trees import MOST_IN_A_LEVEL, MOST_LEVELS
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import DISTRIBUTION_SUFFIXES, is_license_file, promises_license
from sc2jax.corpus.sources.walk import SKIPPED_FOLDERS, FoundFile, FoundRepository, open_regular

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_ZIPPED = (b"PK\3\4", b"PK\5\6")
_OF_TAR = (".tar", ".tar.gz", ".tgz", ".crate", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_OF_ZIP = (".zip", ".whl")
"""What names of archives end with; others, such as .docx and .jar, are files."""

DESCRIPTION_SUFFIX = ".dsc"
"""Of a file beside Debian's archives that says what they are, and is no source."""

_MOST_NAMES = 256 << 20
"""Characters of all the paths of an archive."""


def is_archive(path: str) -> bool:
    """Whether both the name of a regular file and what it begins with say so; what cannot be read is none."""
    name = path.lower()
    if not name.endswith(_OF_TAR + _OF_ZIP):
        return False
    try:
        with open_regular(path) as file:
            begin = file.read(tarfile.BLOCKSIZE) or b""
    except (SourceError, OSError):
        return False
    if name.endswith(_OF_ZIP):
        return begin.startswith(_ZIPPED)
    return begin.startswith(_COMPRESSED) or _begins_tar(begin)


def _begins_tar(begin: bytes) -> bool:
    """Whether this is the header of a tar's first member, or the end of one without any."""
    if len(begin) == tarfile.BLOCKSIZE and not begin.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(begin, "utf-8", "surrogateescape")
    except Exception:  # as it likes
        return False
    return True


def archive_repository(source: str, path: str, left_out: LeftOut) -> FoundRepository:
    """The files of an archive; links, devices, damaged and unsafe members are left out.

    Args:
        source: the folder that was named as a source, or the archive itself.
        path: of the archive, without links.
        left_out: counts what is left out.

    Returns:
        The repository, named after the archive's file; without files if that is damaged, or expands without end.
    """
    contents = _Contents(path)
    try:
        contents.collect()
    except SourceError as fault:
        whole = SourceError(fault.reason, path, fault.detail)
        left_out.add(whole)
        return FoundRepository(source, as_text(os.path.basename(path)), "", [], fault=whole)  # noqa: PTH119
    for fault in contents.faults:
        left_out.add(fault)
    return contents.repository(source, left_out)


class _Contents:
    """The members of one archive by path, while they are collected."""

    def __init__(self, path: str):
        self._path = path
        self._members: dict[str, Member] = {}
        self.faults: list[SourceError] = []

    def collect(self) -> None:
        """Goes through the archive once.

        Raises:
            SourceError: it is of no use as a whole.
        """
        with damage(self._path):
            allowance = Allowance(self._path, os.lstat(self._path).st_size)
        members = (zip_members if self._path.lower().endswith(_OF_ZIP) else tar_members)(self._path, allowance)
        names = 0
        for count, member in enumerate(members, 1):
            names += len(member.name) + len(member.target)
            if count > MOST_IN_A_LEVEL or names > _MOST_NAMES:
                raise SourceError("too_many_paths", self._path)
            self._add(member, allowance)

    def _add(self, member: Member, allowance: Allowance) -> None:
        path = inner_path(member.name)
        if member.kind == FOLDER or (path and not SKIPPED_FOLDERS.isdisjoint(path.split("/")[:-1])):
            return
        if not path:
            self.faults.append(SourceError("unsafe_member", f"{self._path}/{member.name}"))
            return
        if member.kind == HARD_LINK:
            target = self._members.get(inner_path(member.target) or "")
            if target is not None and target.kind == FILE:
                allowance.take(target.size)
                member = target
            else:
                member = dataclasses.replace(member, kind=LINK, target="")
        if path in self._members:
            self.faults.append(SourceError("replaced_member", f"{self._path}/{path}"))
        self._members[path] = member

    def repository(self, source: str, left_out: LeftOut) -> FoundRepository:
        """What was collected, without a folder that all lies in."""
        tops = {path.partition("/")[0] if "/" in path else "" for path in self._members}
        top = len(tops.pop()) + 1 if len(tops) == 1 and "" not in tops else 0
        members = {path[top:]: member for path, member in self._members.items()}
        files: dict[str, FoundFile] = {}
        deep: set[str] = set()
        for path, member in members.items():
            parts = path.split("/")
            if len(parts) > MOST_LEVELS:
                deep.add("/".join(parts[:MOST_LEVELS]))
            elif member.kind == FILE:
                files[path] = FoundFile(as_text(path), member.location, member.size, member.swhid)
            else:
                left_out.add(SourceError(member.kind, f"{self._path}/{path}", member.detail))
        for folder in sorted(deep):
            left_out.add(SourceError("too_deep", f"{self._path}/{folder}"))
        repository = FoundRepository(source, as_text(os.path.basename(self._path)), "", list(files.values()))  # noqa: PTH119
        _add_licenses(repository, members, files)
        return repository


def _add_licenses(repository: FoundRepository, members: dict[str, Member], files: dict[str, FoundFile]) -> None:
    """Licences that are no files, with what a link of that kind leads to, and those of a distribution's metadata."""
    for path, member in members.items():
        of_all = path.partition("/")[0].endswith(DISTRIBUTION_SUFFIXES) and "/" in path
        name = posixpath.basename(path)
        if path in files:
            if of_all and is_license_file(name):
                repository.own_licenses.append(files[path])
        elif promises_license(as_text(path)):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.target))
            linked = files.get(target) if member.kind == LINK and member.target else None
            repository.missing.append((as_text(path), linked))
            if of_all:
                repository.missing.append((as_text(name), linked))


def inner_path(name: str) -> str | None:
    """The path of a member within its archive; None if it leads out of it, or nowhere."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        return None
    return "/".join(parts)
