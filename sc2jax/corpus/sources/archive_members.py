"""The members of tar and zip archives, in one pass over them, with the size and the identifier of each file.

The standard library reads the formats. What it would believe of a hostile archive is bounded here: it is given headers
a little at a time and forward only, and what it calls the end of an archive is one.
"""

import contextlib
import dataclasses
import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO

from sc2jax.corpus.sources.archive_streams import CHUNK, STORED, Readable, expanding, open_archive
from sc2jax.corpus.sources.contents import begin_blob, blob_swhid, slice_location, stream_location
from sc2jax.corpus.sources.left_out import SourceError
from sc2jax.corpus.sources.walk import open_regular

FILE, HARD_LINK, LINK, FOLDER, SPECIAL = "file", "hard_link", "link", "folder", "special_file"

MOST_EXPANDED = 64 << 30
"""Bytes of one archive's files."""

MOST_RATIO = 100
"""Of an archive's files to the archive; programs are packed to a third, and to a tenth."""

SLACK = 64 << 20
"""Bytes that an archive may hold however small it is."""

_MOST_HEADERS = 1 << 20
"""Bytes between two members of a tar; names and attributes take some hundred."""

_MOST_GLOBALS = 64
"""Keywords that a tar sets for all members that follow."""

_NUMBERS = re.compile(rb"[0-9]{256}")
"""Nothing in a header; Python before 3.11.10 looks through it in the square of its length (CVE-2024-6232)."""

_MOST_DIRECTORY = 32 << 20
"""Bytes of a zip's directory, which is held as a whole: some hundred thousand members."""

_MOST_TARGET = 1 << 16
_ENCRYPTED = 1
_UTF8_NAME = 1 << 11
_ON_UNIX = frozenset({3, 19})  # and macOS


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """Something that an archive holds.

    Attributes:
        name: as the archive has it; bytes that are not UTF-8 are escaped as `os.fsdecode` does.
        kind: one of the above, or the reason why a file is not taken.
        location: of its content (`contents.py`).
        size: of its content in bytes.
        swhid: the identifier of its content.
        target: what a link leads to.
        detail: what is wrong with it.
    """

    name: str
    kind: str
    location: bytes = b""
    size: int = 0
    swhid: str = ""
    target: str = ""
    detail: str = ""


class Allowance:
    """How many more bytes an archive may hold."""

    def __init__(self, path: str, packed: int):
        self._path, self._left = path, min(MOST_EXPANDED, MOST_RATIO * packed + SLACK)

    def take(self, size: int) -> None:
        """Raises SourceError if these are too many."""
        self._left -= size
        if self._left < 0:
            raise SourceError("archive_bomb", self._path)


def tar_members(path: str, allowance: Allowance) -> Iterator[Member]:
    """The members of a tar, compressed or not.

    Raises:
        SourceError: it cannot be read, is damaged, or holds too much.
    """
    with open_archive(path) as file:
        with damage(path):
            source = expanding(file)
            forward = _Forward(path, source or file, allowance)
            header = _HeaderOfStream if source else _Header
            tar = tarfile.TarFile(fileobj=forward, tarinfo=header, encoding="utf-8", errors="surrogateescape")  # pyright: ignore[reportArgumentType]
        while True:
            with damage(path):
                found = _next_in_tar(tar, forward, path, compressed=source is not None)
            if found is None:
                break
            yield found
        with damage(path):
            while source and forward.read_some(CHUNK):
                pass  # the checksum comes last


def _next_in_tar(tar: tarfile.TarFile, forward: "_Forward", path: str, *, compressed: bool) -> Member | None:
    forward.expect_header()
    info = tar.next()
    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # it keeps all, for those who come back
    if info is None:
        return None
    if info.size < 0 or len(tar.pax_headers) > _MOST_GLOBALS:
        raise ValueError("a header that no archive has")
    if info.issparse():
        return Member(info.name, "sparse_member")
    if info.isreg():
        offset = forward.tell()
        location = (
            stream_location(path, offset, info.size) if compressed else slice_location(path, offset, info.size, STORED)
        )
        return Member(info.name, FILE, location, info.size, forward.swhid(info.size))
    kinds = {tarfile.LNKTYPE: HARD_LINK, tarfile.SYMTYPE: LINK, tarfile.DIRTYPE: FOLDER}
    return Member(info.name, kinds.get(info.type, SPECIAL), target=info.linkname)


class _Forward:
    """What tarfile reads an archive through: never backwards, headers in small pieces, and no more than is allowed."""

    def __init__(self, path: str, source: Readable, allowance: Allowance):
        self._path, self._source, self._allowance = path, source, allowance
        self._position = 0
        self._headers = _MOST_HEADERS

    def expect_header(self) -> None:
        """The next member begins."""
        self._headers = _MOST_HEADERS

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise ValueError("a member that begins before the one before it ends")
        while self._position < position and self.read_some(min(position - self._position, CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """A header, or less at the end."""
        self._headers -= size
        if size < 0 or self._headers < 0:
            raise ValueError("a header that is too long")
        parts = list(self._exactly(size))
        content = b"".join(parts)
        if size > tarfile.BLOCKSIZE and _NUMBERS.search(content):
            raise ValueError("a header of numbers")
        return content

    def read_some(self, size: int) -> bytes:
        """Up to `size` bytes, and none at the end alone."""
        found = self._source.read(size)
        self._position += len(found)
        self._allowance.take(len(found))
        return found

    def swhid(self, size: int) -> str:
        """The identifier of what follows."""
        whole, left = begin_blob(size), size
        for part in self._exactly(size):
            whole.update(part)
            left -= len(part)
        if left:
            raise EOFError("it ends early")
        return blob_swhid(whole)

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size and (found := self.read_some(min(size, CHUNK))):
            size -= len(found)
            yield found


class _HeaderOfStream(tarfile.TarInfo):
    """Tells a broken header from the end of an archive, which tarfile takes for the same, but for the first."""

    _ENDS: tuple[type[Exception], ...] = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile):  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().fromtarfile(archive)
        except cls._ENDS:
            raise
        except tarfile.HeaderError as error:
            raise ValueError(str(error)) from error


class _Header(_HeaderOfStream):
    """The same where no compression says whether an archive is whole: zeros must end it."""

    _ENDS = (tarfile.EOFHeaderError,)  # pyright: ignore[reportAttributeAccessIssue]


def zip_members(path: str, allowance: Allowance) -> Iterator[Member]:
    """The members of a zip; those that are damaged are told one by one.

    Raises:
        SourceError: it cannot be read, its directory is damaged, or it holds too much.
    """
    with _Bounded(path) as file:
        with damage(path):
            archive = zipfile.ZipFile(file)
        for info in archive.infolist():
            yield _in_zip(archive, file, info, path, allowance)


class _Bounded(io.BufferedReader):
    """What zipfile reads an archive through: no piece is larger than a directory may be."""

    def __init__(self, path: str):
        super().__init__(open_regular(path))
        self._path = path

    def read(self, size: int | None = -1, /) -> bytes:
        asked = _MOST_DIRECTORY + 1 if size is None or size < 0 else size
        found = super().read(min(asked, _MOST_DIRECTORY + 1))
        if len(found) > _MOST_DIRECTORY:
            raise SourceError("too_many_paths", self._path)
        return found


def _in_zip(archive: zipfile.ZipFile, file: _Bounded, info: zipfile.ZipInfo, path: str, allowance: Allowance) -> Member:
    name = os.fsdecode(info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8_NAME else "cp437"))
    mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system in _ON_UNIX else 0
    if name.endswith("/") or mode == stat.S_IFDIR:
        return Member(name, FOLDER)
    if mode not in (0, stat.S_IFREG, stat.S_IFLNK):
        return Member(name, SPECIAL)
    if info.flag_bits & _ENCRYPTED:
        return Member(name, "encrypted_member")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile expands others without bound
        return Member(name, "damaged_member", detail=f"compression {info.compress_type} is not read")
    try:
        with damage(path), archive.open(info) as content:
            offset = file.tell()
            if mode == stat.S_IFLNK:
                return Member(name, LINK, target=os.fsdecode(content.read(_MOST_TARGET)))
            swhid = _swhid_in_zip(content, info.file_size, allowance)
    except SourceError as fault:
        if fault.reason != "damaged_archive":
            raise
        return Member(name, "damaged_member", detail=fault.detail)
    packed = info.compress_size if info.compress_type == zipfile.ZIP_DEFLATED else STORED
    return Member(name, FILE, slice_location(path, offset, info.file_size, packed), info.file_size, swhid)


def _swhid_in_zip(content: IO[bytes], size: int, allowance: Allowance) -> str:
    whole, left = begin_blob(size), size
    while part := content.read(CHUNK):
        allowance.take(len(part))
        whole.update(part)
        left -= len(part)
    if left:
        raise EOFError("it is shorter than the directory says")
    return blob_swhid(whole)


@contextlib.contextmanager
def damage(path: str) -> Iterator[None]:
    """Whatever is raised at an archive's bytes says that it is damaged: the libraries raise all kinds of errors."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        raise SourceError("damaged_archive", path, str(error)[:200] or type(error).__name__) from error
