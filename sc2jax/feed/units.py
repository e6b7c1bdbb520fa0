"""Units of reading: the row groups of a dataset, each holding whole documents."""

import dataclasses
import logging
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.errors import UserError
from sc2jax.records.dataset import open_part, read_row_group
from sc2jax.records.manifest import Output, read_manifest

SPLITS = ("train", "heldout")


class Unit:
    """The records of one row group, by document: `group_by` names the column that a document's rows share, if any."""

    def __init__(self, table: pa.Table, group_by: str) -> None:
        self.table = table.combine_chunks()
        starts = np.arange(table.num_rows)
        if group_by:
            names = np.asarray(self.table.column(group_by).combine_chunks().dictionary_encode().indices)
            starts = np.flatnonzero(np.diff(names, prepend=-1))
        self._bounds = np.append(starts, table.num_rows)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        start, stop = self._bounds[index : index + 2].tolist()
        return self.table.slice(start, stop - start).to_pylist()


@dataclasses.dataclass(frozen=True)
class _Place:
    output: Output
    row_group: int


class Units:
    """The units of one split of a dataset, read when asked for.

    A unit is kept for as long as somebody holds it, so that streams that read the same one share it. With
    `skip_damaged` parts that are missing or damaged are left out; how many is `lost_parts`.

    Raises:
        UserError: the dataset is unfinished, or damaged and that is not to be skipped.
    """

    def __init__(
        self, folder: str, split: str, columns: Sequence[str], group_by: str = "", *, skip_damaged: bool = False
    ) -> None:
        self.folder = folder
        self.digest = read_manifest(folder).digest
        self.lost_parts = 0
        self._columns, self._group_by = columns, group_by
        self._places: list[_Place] = []
        self._held: weakref.WeakValueDictionary[int, Unit] = weakref.WeakValueDictionary()
        for output in read_manifest(folder).under(split):
            try:
                self._places += _row_groups(folder, output)
            except UserError as error:
                if not skip_damaged:
                    raise
                report_skipped(error)
                self.lost_parts += 1

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Unit:
        unit = self._held.get(index)
        if unit is None:
            place = self._places[index]
            unit = Unit(read_row_group(self.folder, place.output, place.row_group, self._columns), self._group_by)
            self._held[index] = unit
        return unit

    def name(self, index: int) -> str:
        """A unit's part and row group."""
        place = self._places[index]
        return f"{place.output.path}#{place.row_group}"

    def require(self, split: str) -> None:
        """Makes sure that there is something to read.

        Raises:
            UserError: the split is empty.
        """
        if not self._places:
            raise UserError(f"the corpus {self.folder} has no files in its split {split!r}; curate more source code")


def report_skipped(error: UserError) -> None:
    """Says what was left out because it is damaged."""
    logging.getLogger("sc2jax").warning("skipped: %s", error)


def _row_groups(folder: str, output: Output) -> list[_Place]:
    with open_part(folder, output) as part:
        footer = part.metadata
        return [_Place(output, group) for group in range(part.num_row_groups) if footer.row_group(group).num_rows]
