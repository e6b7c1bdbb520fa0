"""What archives hold, read again by where it begins: stretches of a file, and of what a compressed file expands to.

A compressed archive can only be read from its beginning on. So it is kept open between the batches of files that are
asked for, by one reader for all threads, which goes on where the last batch ended, and keeps what it passed last for
those that ask late: read in the order of the archive (`contents.reading_order`), it is expanded once.
"""

import atexit
import bz2
import contextlib
import dataclasses
import io
import itertools
import lzma
import os
import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from sc2jax.corpus.sources.left_out import SourceError
from sc2jax.corpus.sources.walk import open_regular

CHUNK = 256 << 10
"""Bytes that are expanded, or skipped, at once."""

STORED = -1
"""In place of the packed size: the content lies in the archive as it is."""

_PACKED_CHUNK = 64 << 10
_KEPT = 16 << 20
"""Bytes that were passed last and can be read again: threads do not come in the order of their batches."""

_MOST_IDLE = 4
"""Compressed archives that stay open while nobody reads them."""

_MOST_MEMORY = 256 << 20
"""Bytes that expanding may take; `xz -9` takes 65 MiB, and a header can ask for 4 GiB."""


class Readable(Protocol):
    """What gives at most `size` bytes, and none at its end alone."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102


class _Gzip:
    """zlib's decompressor under the names that those of bz2 and lzma have; it compares the checksum itself."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


class _Expanded:
    """What a compressed file expands to; never more than was asked for is held, however well it is compressed."""

    def __init__(self, file: Readable, begin: Callable[[], _Gzip | bz2.BZ2Decompressor | lzma.LZMADecompressor]):
        self._file, self._begin = file, begin
        self._object = begin()
        self._waiting = b""

    def read(self, size: int) -> bytes:
        while not self._object.eof or self._begin_next():
            given = b""
            if self._object.needs_input:
                given, self._waiting = self._waiting or self._file.read(_PACKED_CHUNK), b""
            found = self._object.decompress(given, size)
            if found:
                return found
            if not given and self._object.needs_input and not self._object.eof:
                raise EOFError("it ends early")
        return b""

    def _begin_next(self) -> bool:
        """Whether another stream follows, as where several processes compressed; zeros are padding."""
        waiting = self._object.unused_data
        while not (waiting := waiting.lstrip(b"\0")):
            waiting = self._file.read(_PACKED_CHUNK)
            if not waiting:
                return False
        self._waiting, self._object = waiting, self._begin()
        return True


_MAGIC: dict[bytes, Callable[[io.BufferedReader], Readable]] = {
    b"\x1f\x8b": lambda file: _Expanded(file, _Gzip),
    b"BZh": lambda file: _Expanded(file, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda file: _Expanded(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MOST_MEMORY)),
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(file, "zstd"),
}
"""What compressed files begin with -> what expands them."""


def open_archive(path: str) -> io.BufferedReader:
    """The bytes of an archive.

    Raises:
        SourceError: see `open_regular`.
    """
    return io.BufferedReader(open_regular(path))


def expanding(file: io.BufferedReader) -> Readable | None:
    """What a compressed file expands to; None if it is not compressed in a way that is known."""
    begin = file.peek(8)
    return next((expand(file) for magic, expand in _MAGIC.items() if begin.startswith(magic)), None)


class _Stream:
    """What a compressed file expands to, from its beginning on, and the last of what was passed."""

    def __init__(self, path: str):
        self._file = open_archive(path)
        source = expanding(self._file)
        if source is None:
            self._file.close()
            raise SourceError("unreadable_file", path, "it is not compressed any more")
        self._source = source
        self._kept: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self.end = 0

    def begins(self) -> int:
        """The first byte that can still be read."""
        return self._kept[0][0] if self._kept else self.end

    def stretch(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, which must not lie before what is kept.

        Raises:
            EOFError: it ends before.
        """
        while self.end < offset + size:
            found = self._source.read(CHUNK)
            if not found:
                raise EOFError("it ends early")
            self._kept.append((self.end, found))
            self.end += len(found)
            self._size += len(found)
            while self._size > _KEPT and self._kept[0][0] + len(self._kept[0][1]) <= offset:
                self._size -= len(self._kept.popleft()[1])
        parts = []
        for start, part in reversed(self._kept):
            if start < offset + size:
                parts.append(part[max(offset - start, 0) : offset + size - start])
            if start <= offset:
                break
        return b"".join(reversed(parts))

    def close(self) -> None:
        self._file.close()


@dataclasses.dataclass
class _Shared:
    """The one reader of a compressed archive."""

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    stream: _Stream | None = None
    users: int = 0


class _Streams:
    """The compressed archives that are open in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple, _Shared] = OrderedDict()

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[_Shared]:
        """The reader of an archive for one thread; a file that took the archive's place has a reader of its own."""
        found = os.stat(path)  # noqa: PTH116
        key = path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        with self._lock:
            shared = self._open.setdefault(key, _Shared())
            self._open.move_to_end(key)
            shared.users += 1
        try:
            with shared.lock:
                yield shared
        finally:
            with self._lock:
                shared.users -= 1
                idle = [key for key, each in self._open.items() if not each.users]
                closing = [self._open.pop(key) for key in idle[: max(0, len(idle) - _MOST_IDLE)]]
            for each in closing:
                _close(each)

    def close(self) -> None:
        """Closes all, when nobody reads any more."""
        for each in self._open.values():
            _close(each)
        self._open.clear()


_STREAMS = _Streams()
atexit.register(_STREAMS.close)


def _close(shared: _Shared) -> None:
    if shared.stream is not None:
        shared.stream.close()
        shared.stream = None


def _stretch(shared: _Shared, path: str, offset: int, size: int) -> bytes:
    if shared.stream is None or offset < shared.stream.begins():
        _close(shared)
        shared.stream = _Stream(path)
    try:
        return shared.stream.stretch(offset, size)
    except BaseException:
        _close(shared)
        raise


def read_streamed(container: bytes, members: Sequence[bytes], limit: int) -> Iterator[bytes | SourceError]:
    """The stretches of what a compressed archive expands to, as `offset size`; they are read in the archive's order."""
    path = os.fsdecode(container.partition(b"\0")[2])
    asked = [tuple(map(int, member.split())) for member in members]
    found: dict[tuple[int, ...], bytes | SourceError] = {}
    fault = None
    try:
        with _STREAMS.reading(path) as shared:
            for offset, size in sorted(set(asked)):
                large = SourceError("unreadable_file", path, f"more than {limit:,} bytes") if size > limit else None
                found[offset, size] = large or _stretch(shared, path, offset, size)
    except Exception as error:  # decompressors raise what they like
        fault = _as_fault(path, error)
    yield from (found.get(each) if each in found else fault for each in asked)  # pyright: ignore[reportReturnType]


def read_slices(container: bytes, members: Sequence[bytes], limit: int) -> Iterator[bytes | SourceError]:
    """The stretches of an archive itself, as `offset size packed`, which may be deflated."""
    path = os.fsdecode(container.partition(b"\0")[2])
    try:
        archive = open_archive(path)
    except SourceError as fault:
        yield from itertools.repeat(fault, len(members))
        return
    with archive:
        for member in members:
            offset, size, packed = map(int, member.split())
            try:
                if size > limit:
                    raise SourceError("unreadable_file", path, f"more than {limit:,} bytes")
                archive.seek(offset)
                content = archive.read(size) if packed == STORED else _inflated(archive, size, packed)
            except Exception as error:  # as above
                content = _as_fault(path, error)
            yield content


def _inflated(archive: io.BufferedReader, size: int, packed: int) -> bytes:
    content, inflate = bytearray(), zlib.decompressobj(wbits=-15)
    while packed > 0 and not inflate.eof and len(content) < size:
        data = inflate.unconsumed_tail
        if not data:
            data = archive.read(min(packed, _PACKED_CHUNK))
            packed -= len(data)
            if not data:
                break
        content += inflate.decompress(data, size - len(content))
    return bytes(content)


def _as_fault(path: str, error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    return SourceError("unreadable_file", path, getattr(error, "strerror", None) or str(error)[:200])
