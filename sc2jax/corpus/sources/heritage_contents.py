# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Contents of Software Heritage: objects named by their plain sha1, packed by gzip, in its bucket or a copy of it.

As in bigcode-project/the-stack-v2 (`2_download_files/get_file_contents.py`), the object of a content is
`content/<sha1>` in s3://softwareheritage; a folder of the same layout, on any store or disk, serves as well. What is
fetched is compared with both hashes that the graph has of it. There, any fault makes a content null; here, an object
that is not there, one that could not be fetched, and one that is damaged are three reasons.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sc2jax import storage
from sc2jax.corpus.sources.heritage_tables import NOTHING, hexed
from sc2jax.corpus.sources.left_out import SourceError
from sc2jax.errors import UserError
from sc2jax.records.statistics import LeftOutShare
from sc2jax.storage import join
from sc2jax.stores import StoreError, fetched, is_store

KIND = b"heritage"
"""Of the locations of these contents."""

FAILED = ("absent_content", "unfetched_content", "damaged_content")
"""The reasons for which an object is not taken."""

_HEADER_BYTES = 1 << 12
_AT_ONCE = 256
_GZIP = 16 + zlib.MAX_WBITS


def heritage_locations(store: str, sha1: pa.Array, sha1_git: pa.Array, sizes: pa.Array) -> pa.Array:
    """Where contents lie: the bucket or folder that holds `content/`, their hashes and their bytes; null without these.

    Args:
        store: the bucket or folder.
        sha1: 20 bytes each, by which objects are named; null for what has no content.
        sha1_git: 20 bytes each.
        sizes: in bytes.
    """
    begin = pa.scalar(b"%b\0%b\0" % (KIND, os.fsencode(store)), pa.binary())
    named = hexed(pc.fill_null(sha1, NOTHING))
    member = pc.binary_join_element_wise(named, hexed(sha1_git), sizes.cast(pa.string()), " ").cast(pa.binary())
    return pc.if_else(pc.is_valid(sha1), pc.binary_join_element_wise(begin, member, b""), None)


def read_objects(container: bytes, members: Sequence[bytes], limit: int) -> Iterator[bytes | SourceError]:
    """The contents of a store, in order; those of a remote one are fetched many at a time."""
    store = os.fsdecode(container.partition(b"\0")[2])
    for low in range(0, len(members), _AT_ONCE):
        asked = [member.decode().split() for member in members[low : low + _AT_ONCE]]
        paths = [join(store, f"content/{sha1}") for sha1, _, _ in asked]
        # What deflate cannot make smaller it makes larger by less than a thousandth.
        most = [int(size) + int(size) // 1000 + _HEADER_BYTES for _, _, size in asked]
        found = fetched(paths, most) if is_store(store) else map(_from_disk, paths, most)
        for path, (sha1, sha1_git, size), packed in zip(paths, asked, found, strict=True):
            try:
                yield _unpacked(packed, path, (sha1, sha1_git), int(size), limit)
            except SourceError as fault:
                yield fault


def _from_disk(path: str, most: int) -> bytes | Exception:
    try:
        with storage.open_file(path) as file:
            return file.read(most)
    except (OSError, UserError) as error:
        return error


def _unpacked(packed: bytes | Exception, path: str, hashes: tuple[str, str], size: int, limit: int) -> bytes:
    """A content, given its object.

    Raises:
        SourceError: it is not there, damaged, or larger than is read.
    """
    if isinstance(packed, FileNotFoundError | NotADirectoryError):
        raise SourceError("absent_content", path)
    if isinstance(packed, Exception):
        detail = str(packed) if isinstance(packed, StoreError) else getattr(packed, "strerror", None) or str(packed)
        raise SourceError("unfetched_content", path, detail)
    if size > limit:
        raise SourceError("unreadable_file", path, f"more than {limit:,} bytes")
    unpacking = zlib.decompressobj(_GZIP)
    try:
        content = unpacking.decompress(packed, size + 1)
    except zlib.error as error:
        raise SourceError("damaged_content", path, str(error)) from error
    if len(content) != size or not unpacking.eof or unpacking.unused_data:
        raise SourceError("damaged_content", path, f"it does not hold {size:,} bytes")
    of_git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    of_git.update(content)
    if (hashlib.sha1(content, usedforsecurity=False).hexdigest(), of_git.hexdigest()) != hashes:
        raise SourceError("damaged_content", path, "it is another content than its name says")
    return content


def refuse_too_many_failed(left_out: Mapping[str, LeftOutShare], asked: int, share: float) -> None:
    """Stops a run of which too much would be missing.

    Args:
        left_out: what was left out, by reason.
        asked: contents of Software Heritage that were asked for.
        share: of them that may fail.

    Raises:
        UserError: more of them failed.
    """
    counts = {reason: left_out[reason]["count"] for reason in FAILED if reason in left_out}
    failed = sum(counts.values())
    if failed <= share * asked:
        return
    words = {"absent_content": "not there", "unfetched_content": "not fetched", "damaged_content": "damaged"}
    listed = ", ".join(f"{count:,} {words[reason]}" for reason, count in counts.items())
    named = next(name for reason in counts for name in left_out[reason]["named"])
    raise UserError(
        f"{failed:,} of {asked:,} contents of Software Heritage failed ({listed}; such as {named}), more than "
        f"corpus.max_failed_share ({share:.2%}); see that corpus.heritage_contents, the network and the credentials "
        "are right and run the same command again, or allow more"
    )
