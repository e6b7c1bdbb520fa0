"""Archives that tests make by hand, and what they see of a listing."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

from source_listings import LIMIT, WholeListing, list_sources, names

from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import git_blob_id, read_listed

Entry = tuple[str, bytes | str | dict]
"""The name of a member, and the bytes of a file, or what else its header says."""

GOOD = ("a.py", b"good\n")


def tar_of(path: Path, *entries: Entry, mode: str = "w", format_: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=format_, encoding="utf-8", errors="surrogateescape") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, what in entries:
            member = tarfile.TarInfo(name)
            content = what if isinstance(what, bytes) else b""
            member.size = len(content)
            for field, value in what.items() if isinstance(what, dict) else ():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def link(target: str, hard: bool = False) -> dict:
    return {"type": tarfile.LNKTYPE if hard else tarfile.SYMTYPE, "linkname": target}


def zip_of(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content, method)
    return path


def listed(*roots: str | os.PathLike, limit: int = LIMIT) -> WholeListing:
    return list_sources([SourceFolder(os.fspath(root)) for root in roots], limit)


def contents(listing: WholeListing, limit: int = LIMIT) -> dict[str, bytes]:
    """The files by path, as they are read again; each must be what its identifier says."""
    columns = [listing.files[name].to_pylist() for name in ("path", "source_bytes", "swhid", "location")]
    found = {}
    for (path, size, swhid, _), content in zip(
        zip(*columns, strict=True), read_listed(columns[3], columns[2], limit), strict=True
    ):
        assert isinstance(content, bytes), content
        assert (len(content), git_blob_id(content)) == (size, swhid)
        found[path] = content
    return found


def licenses(listing: WholeListing) -> set[tuple[str, str, bool]]:
    return {(row["folder"], row["swhid"], row["promised"]) for row in listing.licenses.to_pylist()}


def reasons(listing: WholeListing) -> dict[str, int]:
    return {reason: share["count"] for reason, share in listing.left_out.statistics.items()}


def named(listing: WholeListing) -> list[str]:
    return [name for share in listing.left_out.statistics.values() for name in share["named"]]


def beside(source: Path) -> WholeListing:
    """The listing, in which the neighbour must be; whatever is listed can be read."""
    listing = listed(source)
    assert ("neighbour", "n.py") in names(listing)
    contents(listing)
    return listing


def files(listing: WholeListing) -> set[str]:
    return {path for repository, path in names(listing) if repository != "neighbour"}
