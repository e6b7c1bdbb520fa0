"""What a stage writes down of its decisions: the rows that it keeps, those that it rejects, its lines of the funnel."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from sc2jax.corpus.numbered_rows import NumberedRows
from sc2jax.records.dataset import PartWriter, write_part
from sc2jax.records.manifest import Output
from sc2jax.records.schemas import REJECTED_FILE
from sc2jax.records.stage import Written
from sc2jax.records.statistics import StageFunnel

_ID = pa.schema([pa.field("id", pa.int64(), nullable=False)])


def write_ids(folder: str, prefix: str, ids: np.ndarray) -> list[Output]:
    """The numbers of the rows that a stage keeps."""
    return [write_part(folder, prefix, 0, [pa.table({"id": ids})], _ID)] if len(ids) else []


def write_decision(
    folder: str, files: NumberedRows, ids: np.ndarray, kept_by: np.ndarray, stage: str, reason: str, part_bytes: int
) -> Written:
    """Writes which of the rows `ids` are kept, and which are dropped since `kept_by` is another row.

    Args:
        folder: of the stage.
        files: the rows that the numbers stand for.
        ids: the rows that the stage decides on, ascending.
        kept_by: for each the row that is kept in its place; for a kept row that is itself.
        stage: name of the stage in the funnel and in its rejects.
        reason: of the rejects.
        part_bytes: size of a Parquet part.
    """
    size = files.column("source_bytes").astype(np.int64)
    fallen = ids != kept_by
    outputs = write_ids(folder, "kept", ids[~fallen])
    outputs += write_duplicates(folder, files, ids[fallen], kept_by[fallen], stage, reason, part_bytes)
    dropped = {reason: (int(fallen.sum()), int(size[ids[fallen]].sum()))} if fallen.any() else {}
    return outputs, {"funnel": [funnel_line(stage, len(ids), int(size[ids].sum()), dropped)]}


def write_duplicates(
    folder: str, files: NumberedRows, dropped: np.ndarray, kept: np.ndarray, stage: str, reason: str, part_bytes: int
) -> list[Output]:
    """Rejects of a deduplication: rows `dropped` (ascending) in favour of `kept`, which each detail names."""
    details = [f"kept {name}" for name in row_names(files, kept)]
    return write_rejects(folder, files, dropped, stage, [reason] * len(dropped), details, part_bytes)


def write_rejects(
    folder: str,
    files: NumberedRows,
    dropped: np.ndarray,
    stage: str,
    reasons: Sequence[str],
    details: Sequence[str],
    part_bytes: int,
) -> list[Output]:
    """The rows `dropped` (ascending), each with its reason and detail."""
    writer = PartWriter(folder, "rejects", REJECTED_FILE, part_bytes)
    at = 0
    for table in files.take(dropped, ["repository", "path", "swhid", "source_bytes"]):
        count = table.num_rows
        decided = {"stage": [stage] * count, "reason": reasons[at : at + count], "detail": details[at : at + count]}
        writer.add(pa.table({**{name: table[name] for name in table.column_names}, **decided}))
        at += count
    return writer.finish()


def row_names(files: NumberedRows, rows: np.ndarray) -> list[str]:
    """How a detail names each of certain rows, in any order: its repository and its path."""
    wanted, places = np.unique(rows, return_inverse=True)
    names: list[str] = []
    for table in files.take(wanted, ["repository", "path"]):
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        names += [f"{repository}: {path}" for repository, path in pairs]
    return [names[place] for place in places.tolist()]


def funnel_line(stage: str, files: int, size: int, dropped: Mapping[str, tuple[int, int]]) -> StageFunnel:
    """One line of the funnel: what came in and went out, with (files, bytes) dropped for each reason."""
    return {
        "stage": stage,
        "files_in": files,
        "files_out": files - sum(count for count, _ in dropped.values()),
        "bytes_in": size,
        "bytes_out": size - sum(lost for _, lost in dropped.values()),
        "dropped": {reason: count for reason, (count, _) in sorted(dropped.items())},
    }
