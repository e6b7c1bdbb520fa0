# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Whether the texts of source files are what was written: their digests, and the records of their edits."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.errors import UserError
from sc2jax.records.edits import edits_sha256, inconsistent
from sc2jax.records.faults import Fault, shown
from sc2jax.records.schemas import SOURCE_FILE

_CHECKED = ("content", "text_sha256", "edits", "edits_sha256")
_SPAN = ("start", "end", "source_start", "source_end")


def columns_to_check(names: Sequence[str], wanted: Sequence[str] | None, path: str) -> list[str]:
    """The columns to read so that the texts of source files can be checked; none where no such text is wanted.

    Args:
        names: the columns of the part; a part of source files is one with texts and digests of them.
        wanted: those to read; None means all.
        path: of the part, for the error.

    Raises:
        UserError: the part lacks columns of a source file, such as the record of edits.
    """
    if not {"content", "text_sha256"} <= set(names):
        return []
    if not set(SOURCE_FILE.names) <= set(names):
        raise UserError(f"{path} was written by an earlier version; run curate again")
    return list(_CHECKED) if not wanted or "content" in wanted else []


def changed_texts(table: pa.Table) -> Iterator[Fault]:
    """The rows whose text or edits have another digest than they should, or edits that cannot be."""
    if not table.num_rows or not set(_CHECKED) <= set(table.column_names):
        return
    digests = table["text_sha256"].to_pylist()
    for row, (found, digest) in enumerate(zip(_digests(table["content"]), digests, strict=True)):
        if found != digest:
            yield Fault(row, "changed", f"its text has the sha256 {found} instead of {shown(digest)}")
    yield from _changed_edits(table["edits"], table["edits_sha256"])
    yield from _impossible_edits(pa.concat_arrays(table["edits"].chunks), table["content"])


def _changed_edits(edits: pa.ChunkedArray, digests: pa.ChunkedArray) -> Iterator[Fault]:
    # Most texts have no edits, so all of those are compared at once.
    unedited = pc.equal(pc.list_value_length(edits), 0)
    suspicious = pc.invert(pc.and_(unedited, pc.equal(digests, edits_sha256([]))))
    for row in np.flatnonzero(suspicious.to_numpy()).tolist():
        found, digest = edits_sha256(edits[row].as_py()), digests[row].as_py()
        if found != digest:
            yield Fault(row, "changed", f"its edits have the sha256 {found} instead of {shown(digest)}")


def _impossible_edits(edits: pa.Array, texts: pa.ChunkedArray) -> Iterator[Fault]:
    owners = pc.list_parent_indices(edits).to_numpy()
    if not len(owners):
        return
    fields = edits.flatten()
    spans = np.stack([fields.field(name).to_numpy() for name in _SPAN], axis=1)
    lengths = pc.utf8_length(texts).to_numpy()
    for index in np.flatnonzero(inconsistent(spans, owners, lengths)).tolist():
        row = int(owners[index])
        what = f"the edit {shown(fields[index].as_py())} cannot be one of its text of {lengths[row]} characters"
        yield Fault(row, "changed", what)


def _digests(texts: pa.ChunkedArray) -> Iterator[str]:
    """The sha256 of each text in UTF-8, without a copy of it."""
    for chunk in texts.cast(pa.large_string()).chunks:
        _, offsets, data = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset :][: len(chunk) + 1].tolist()
        content = memoryview(data) if data else memoryview(b"")
        for start, end in itertools.pairwise(bounds):
            yield hashlib.sha256(content[start:end]).hexdigest()
