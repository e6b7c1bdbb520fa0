"""Where the bytes of a listed file lie, as a few bytes, and how they are read again from there.

A location is the path of a file on disk, or `kind NUL container NUL member`: paths hold no NUL.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from sc2jax.corpus.sources.archive_streams import read_slices, read_streamed
from sc2jax.corpus.sources.git_objects import ObjectStore, opened
from sc2jax.corpus.sources.heritage_contents import KIND, read_objects
from sc2jax.corpus.sources.left_out import SourceError
from sc2jax.corpus.sources.stack_v2_texts import ROW, read_rows
from sc2jax.corpus.sources.walk import read_bytes

Content = bytes | SourceError
"""What a location holds, or why that cannot be read."""

_GIT, _SLICE, _STREAM = b"git", b"slice", b"stream"


def git_location(store: ObjectStore) -> bytes:
    """What the locations of all objects of a store begin with; the object's name follows."""
    return b"\0".join([_GIT, store.hash.encode(), os.fsencode(store.bound), os.fsencode(store.folder), b""])


def slice_location(archive: str, offset: int, size: int, packed: int) -> bytes:
    """A stretch of an archive, of `packed` bytes if it is deflated, else `archive_streams.STORED`."""
    return b"%b\0%b\0%d %d %d" % (_SLICE, os.fsencode(archive), offset, size, packed)


def stream_location(archive: str, offset: int, size: int) -> bytes:
    """A stretch of what a compressed archive expands to."""
    return b"%b\0%b\0%d %d" % (_STREAM, os.fsencode(archive), offset, size)


def reading_order(location: bytes) -> int:
    """Where a file comes among those of its repository, if these are to be read fast; files of equal place may come
    in any order."""
    return int(location.rpartition(b"\0")[2].split()[0]) if location.startswith(_STREAM + b"\0") else 0


def begin_blob(size: int) -> "hashlib._Hash":
    """What git hashes before a content of `size` bytes."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def blob_swhid(whole: "hashlib._Hash") -> str:
    """The Software Heritage identifier of a content that was hashed as git does."""
    return f"swh:1:cnt:{whole.hexdigest()}"


def read_contents(locations: Sequence[bytes], limit: int) -> Iterator[Content]:
    """The content at each location, in order, of at most `limit` bytes; neighbours in a container are read together."""
    for container, group in itertools.groupby(locations, lambda location: location.rpartition(b"\0")[0]):
        members = [location.rpartition(b"\0")[2] for location in group]
        yield from _READERS[container.partition(b"\0")[0]](container, members, limit)


def _from_disk(_: bytes, paths: Sequence[bytes], limit: int) -> Iterator[Content]:
    for path in paths:
        try:
            yield read_bytes(os.fsdecode(path), limit)
        except SourceError as fault:
            yield fault


def _from_git(container: bytes, names: Sequence[bytes], limit: int) -> Iterator[Content]:
    _, hash_, bound, folder = container.split(b"\0")
    store = ObjectStore(os.fsdecode(folder), os.fsdecode(bound), hash_.decode())
    try:
        with opened(store) as objects:
            yield from objects.read([name.decode() for name in names], limit)
    except SourceError as fault:
        yield from itertools.repeat(fault, len(names))


_READERS: dict[bytes, Callable[[bytes, Sequence[bytes], int], Iterator[Content]]] = {
    b"": _from_disk,
    _GIT: _from_git,
    _SLICE: read_slices,
    _STREAM: read_streamed,
    KIND: read_objects,
    ROW: read_rows,
}
"""Kind of a container -> what reads its members."""
