"""Texts that lie in a table of The Stack v2 itself, as the bytes that they were before they were decoded."""

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from sc2jax import storage
from sc2jax.corpus.sources.left_out import SourceError

ROW = b"row"
"""Kind of the locations of these contents."""


def row_location(table: str, group: int, row: int, size: int | None, encoding: str, sha1_git: str) -> bytes:
    """A row of a row group of a Parquet file, with what says whether its text gives back the content that it was."""
    return b"%b\0%b\0%d %d %d %b %b" % (
        ROW,
        os.fsencode(table),
        group,
        row,
        size or 0,
        sha1_git.encode(),
        encoding.encode(),
    )


def read_rows(container: bytes, members: Sequence[bytes], limit: int) -> Iterator[bytes | SourceError]:
    """The contents of some rows, in order; neighbours of a row group are read together."""
    path = os.fsdecode(container.partition(b"\0")[2])
    for group, found in itertools.groupby(members, lambda member: int(member.split()[0])):
        rows = [member.decode().split(" ", 4)[1:] for member in found]
        try:
            texts = _texts(path, group)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield from itertools.repeat(SourceError("damaged_content", path, str(error)), len(rows))
            continue
        for row, size, sha1_git, encoding in rows:
            try:
                yield _as_it_was(texts[int(row)].as_py(), path, int(size), sha1_git, encoding, limit)
            except SourceError as fault:
                yield fault


@functools.lru_cache(maxsize=4)
def _texts(path: str, group: int) -> pa.ChunkedArray:
    """The texts of a row group, of which a unit of work asks for some, and the next one for the next ones."""
    with storage.open_file(path) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=["content"]).column("content")


def _as_it_was(text: str | bytes | None, path: str, size: int, sha1_git: str, encoding: str, limit: int) -> bytes:
    if text is None:
        raise SourceError("not_published", path)
    if size > limit:
        raise SourceError("unreadable_file", path, f"more than {limit:,} bytes")
    try:
        content = text if isinstance(text, bytes) else text.encode(encoding or "utf-8")
    except (LookupError, UnicodeError) as error:
        raise SourceError("damaged_content", path, str(error)) from error
    of_git = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    of_git.update(content)
    if len(content) != size or of_git.hexdigest() != sha1_git:
        raise SourceError("damaged_content", path, "its text is not what its identifier says")
    return content
