"""What the stages of the recipe share: running one once, writing parts, and finding rows again by their number."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.records.dataset import damaged, open_part, read_row_group, write_part
from sc2jax.records.manifest import Manifest, Output, commit, completed, join, stage_key
from sc2jax.records.schemas import REJECTED_FILE

Written = tuple[list[Output], dict[str, Any]]
"""What a stage reports: its outputs, and its statistics."""


def run_stage(
    folder: str,
    name: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    write: Callable[[str], Written],
) -> Manifest:
    """Runs a stage into its folder, unless a manifest says that it is complete for the same config and inputs."""
    key = stage_key(name, version, config, inputs)
    done = completed(folder, key)
    if done is not None:
        return done
    outputs, statistics = write(folder)
    outputs = sorted(outputs, key=lambda output: output.path)
    return commit(folder, Manifest(name, key, dict(inputs), dict(config), tuple(outputs), statistics))


class PartWriter:
    """Collects row groups and writes a part whenever they have grown to `part_bytes`."""

    def __init__(self, folder: str, prefix: str, schema: pa.Schema, part_bytes: int):
        self._folder, self._prefix, self._schema, self._limit = folder, prefix, schema, part_bytes
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._outputs: list[Output] = []

    def add(self, table: pa.Table) -> None:
        """Adds a row group; an empty one is passed over."""
        if table.num_rows:
            self._tables.append(table)
            self._bytes += table.nbytes
            if self._bytes >= self._limit:
                self._flush()

    def finish(self) -> list[Output]:
        """Writes what is left and returns all parts."""
        if self._tables:
            self._flush()
        return self._outputs

    def _flush(self) -> None:
        index = len(self._outputs)
        self._outputs.append(write_part(self._folder, self._prefix, index, self._tables, self._schema))
        self._tables, self._bytes = [], 0


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows below a prefix of a stage, numbered from 0 in the order of its parts and row groups."""

    folder: str
    parts: tuple[Output, ...]
    part_of_group: np.ndarray
    group_in_part: np.ndarray
    starts: np.ndarray  # first row of each row group, and the number of rows at the end

    @classmethod
    def of(cls, folder: str, manifest: Manifest, prefix: str) -> "Rows":
        """Reads the footers of the parts."""
        parts, part_of_group, group_in_part, sizes = tuple(manifest.under(prefix)), [], [], []
        for index, output in enumerate(parts):
            with open_part(folder, output) as part:
                for group in range(part.num_row_groups):
                    part_of_group.append(index)
                    group_in_part.append(group)
                    sizes.append(part.metadata.row_group(group).num_rows)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return cls(folder, parts, np.array(part_of_group, np.int64), np.array(group_in_part, np.int64), starts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def groups(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Each row group with the number of its first row."""
        at = 0
        for output in self.parts:
            with open_part(self.folder, output) as part:
                for group in range(part.num_row_groups):
                    try:
                        table = part.read_row_group(group, columns=list(columns))
                    except (pa.ArrowInvalid, OSError) as error:
                        raise damaged(join(self.folder, output.path), str(error)) from error
                    yield at, table.select(list(columns))
                    at += table.num_rows

    def take(self, ids: np.ndarray, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Certain rows (ascending), a table for each row group that holds some of them."""
        for at, table in self.groups(columns):
            low, high = np.searchsorted(ids, [at, at + table.num_rows])
            if low < high:
                yield table.take(pa.array(ids[low:high] - at))

    def column(self, name: str) -> np.ndarray:
        """One column of all rows, for numbers or texts of one length."""
        found = [table.column(0).to_numpy() for _, table in self.groups([name])]
        return np.concatenate(found) if found else np.zeros(0)

    def units(self, ids: np.ndarray) -> tuple[pa.Table, np.ndarray]:
        """Work for the engine: certain rows (ascending), and the cuts between the row groups that hold them."""
        group = np.searchsorted(self.starts, ids, side="right") - 1
        return pa.table({"id": ids}), np.flatnonzero(np.diff(group, prepend=-1))

    def take_unit(self, ids: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """The rows of one unit."""
        group = int(np.searchsorted(self.starts, ids[0], side="right")) - 1
        part = self.parts[int(self.part_of_group[group])]
        table = read_row_group(self.folder, part, int(self.group_in_part[group]), columns)
        return table.select(list(columns)).take(pa.array(ids - self.starts[group]))


def write_ids(folder: str, prefix: str, ids: np.ndarray) -> list[Output]:
    """The numbers of the rows that a stage keeps."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    if not len(ids):
        return []
    return [write_part(folder, prefix, 0, [pa.table({"id": ids})], schema)]


def read_ids(folder: str, manifest: Manifest, prefix: str) -> np.ndarray:
    """What `write_ids` wrote."""
    return Rows.of(folder, manifest, prefix).column("id").astype(np.int64)


def write_twins(
    folder: str, rows: Rows, dropped: np.ndarray, kept: np.ndarray, stage: str, reason: str, part_bytes: int
) -> list[Output]:
    """Rejects of a deduplication: rows `dropped` (ascending) in favour of `kept`, which each detail names."""
    writer = PartWriter(folder, "rejects", REJECTED_FILE, part_bytes)
    wanted = np.unique(kept)
    names = np.empty(len(wanted), object)
    at = 0
    for table in rows.take(wanted, ["repository", "path"]):
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        names[at : at + table.num_rows] = [f"{repository}: {path}" for repository, path in pairs]
        at += table.num_rows
    at = 0
    for table in rows.take(dropped, ["repository", "path", "swhid", "source_bytes"]):
        count = table.num_rows
        twins = names[np.searchsorted(wanted, kept[at : at + count])]
        decided = {"stage": [stage] * count, "reason": [reason] * count, "detail": [f"kept {twin}" for twin in twins]}
        writer.add(pa.table({**{name: table[name] for name in table.column_names}, **decided}))
        at += count
    return writer.finish()


def funnel_line(stage: str, files: int, size: int, dropped: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """One line of the funnel: what came in and went out, with (files, bytes) dropped for each reason."""
    return {
        "stage": stage,
        "files_in": files,
        "files_out": files - sum(count for count, _ in dropped.values()),
        "bytes_in": size,
        "bytes_out": size - sum(lost for _, lost in dropped.values()),
        "dropped": {reason: count for reason, (count, _) in sorted(dropped.items())},
    }
