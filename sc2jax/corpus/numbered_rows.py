"""The rows of a stage, found again by their number.

The stages of deduplication know a file by its row number alone: what they keep is a list of numbers, and no text is
copied.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sc2jax.records.dataset import open_part, read_part
from sc2jax.records.manifest import Manifest, Output


@dataclasses.dataclass(frozen=True)
class Committed:
    """A stage that is complete: its folder, and the manifest in there."""

    folder: str
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The digest of what it wrote."""
        return self.manifest.digest


@dataclasses.dataclass(frozen=True)
class NumberedRows:
    """The rows below a prefix of a stage, numbered from 0 in the order of its parts and row groups."""

    folder: str
    parts: tuple[Output, ...]
    part_of_group: np.ndarray
    group_in_part: np.ndarray
    starts: np.ndarray  # first row of each row group, and the number of rows at the end
    schema: pa.Schema

    @classmethod
    def of(cls, stage: Committed, prefix: str) -> "NumberedRows":
        """Those of a whole stage."""
        return cls.of_parts(stage.folder, tuple(stage.manifest.under(prefix)))

    @classmethod
    def of_parts(cls, folder: str, parts: tuple[Output, ...]) -> "NumberedRows":
        """Reads the footers of the parts."""
        part_of_group, group_in_part, sizes = [], [], []
        schema = pa.schema([])
        for index, output in enumerate(parts):
            with open_part(folder, output) as part:
                schema = part.schema_arrow
                for group in range(part.num_row_groups):
                    part_of_group.append(index)
                    group_in_part.append(group)
                    sizes.append(part.metadata.row_group(group).num_rows)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.array(part_of_group, np.int64), np.array(group_in_part, np.int64)
        return cls(folder, parts, *places, starts, schema)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def groups(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Each row group with the number of its first row."""
        at = 0
        for output in self.parts:
            for table in read_part(self.folder, output, columns):
                yield at, table
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
