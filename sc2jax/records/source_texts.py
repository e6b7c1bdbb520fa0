# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Whether the texts of source files are what was written: their digests, and the records of their edits."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.errors import UserError
from sc2jax.records.edits import inconsistent

_SPAN = ("start", "end", "source_start", "source_end")


class Fault(NamedTuple):
    """A row whose text is not what was written, and in what way."""

    row: int
    what: str


def columns_to_check(names: Sequence[str], wanted: Sequence[str] | None, path: str) -> list[str]:
    """The columns to read so that the texts of source files can be checked; none where no such text is wanted.

    Args:
        names: the columns of the part; a part of source files is one with digests of their texts.
        wanted: those to read; None means all.
        path: of the part, for the error.

    Raises:
        UserError: the part has no record of edits.
    """
    if "text_sha256" not in names:
        return []
    if "edits" not in names:
        raise UserError(f"{path} was written by an earlier version; run curate again")
    return ["content", "text_sha256", "edits"] if not wanted or "content" in wanted else []


def changed_text(table: pa.Table) -> Fault | None:
    """The first row whose text has another digest than it should, or edits that cannot be; None if there is none."""
    for row, (found, digest) in enumerate(
        zip(_digests(table["content"]), table["text_sha256"].to_pylist(), strict=True)
    ):
        if found != digest:
            return Fault(row, f"its text has the sha256 {found} instead of {digest}")
    edits = pa.concat_arrays(table["edits"].chunks) if table.num_rows else pa.array([], pa.list_(pa.int64()))
    owners = pc.list_parent_indices(edits).to_numpy()
    if not len(owners):
        return None
    fields = edits.flatten()
    spans = np.stack([fields.field(name).to_numpy() for name in _SPAN], axis=1)
    lengths = pc.utf8_length(table["content"]).to_numpy()
    faulty = np.flatnonzero(inconsistent(spans, owners, lengths))
    if not len(faulty):
        return None
    row = int(owners[faulty[0]])
    return Fault(
        row, f"the edit {fields[int(faulty[0])].as_py()} cannot be one of its text of {lengths[row]} characters"
    )


def _digests(texts: pa.ChunkedArray) -> Iterator[str]:
    """The sha256 of each text in UTF-8, without a copy of it."""
    for chunk in texts.cast(pa.large_string()).chunks:
        _, offsets, data = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset :][: len(chunk) + 1].tolist()
        content = memoryview(data) if data else memoryview(b"")
        for start, end in itertools.pairwise(bounds):
            yield hashlib.sha256(content[start:end]).hexdigest()
