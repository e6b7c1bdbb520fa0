"""Units of reading: the row groups of a dataset, each holding whole documents."""

import bisect
import itertools
import logging
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.records.dataset import read_row_group, refuse_missing
from sc2jax.records.manifest import Output, read_manifest


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


class Units:
    """The units of one split of a dataset, read on demand.

    A unit stays in memory for as long as anyone holds it, so that streams that read the same one share it. No part is
    opened before it is read, however many there are; but unless damaged parts are to be skipped, it is checked at once
    that none is missing.

    Raises:
        UserError: the dataset is unfinished, or parts are missing and are not to be skipped.
    """

    def __init__(
        self, folder: str, split: str, columns: Sequence[str], group_by: str = "", *, skip_damaged: bool = False
    ) -> None:
        manifest = read_manifest(folder)
        self.folder = folder
        self.digest = manifest.digest
        self._columns, self._group_by = columns, group_by
        self._outputs = manifest.under(split)
        self._ends = list(itertools.accumulate(output.row_groups for output in self._outputs))
        self._held: weakref.WeakValueDictionary[int, Unit] = weakref.WeakValueDictionary()
        if not all(output.row_groups for output in self._outputs if output.rows):
            raise UserError(f"{folder} was written by an earlier version; run the stage that wrote it again")
        if not skip_damaged:
            refuse_missing(folder, self._outputs)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Unit:
        unit = self._held.get(index)
        if unit is None:
            output, row_group = self._place(index)
            unit = Unit(read_row_group(self.folder, output, row_group, self._columns), self._group_by)
            self._held[index] = unit
        return unit

    def name(self, index: int) -> str:
        """A unit's part and row group."""
        output, row_group = self._place(index)
        return f"{output.path}#{row_group}"

    def require(self, split: str) -> None:
        """Makes sure that there is something to read.

        Raises:
            UserError: the split is empty.
        """
        if not len(self):
            raise UserError(f"the corpus {self.folder} has no files in its split {split!r}; curate more source code")

    def _place(self, index: int) -> tuple[Output, int]:
        """The part that a unit is in, and the number of its row group there."""
        part = bisect.bisect_right(self._ends, index)
        output = self._outputs[part]
        return output, index - (self._ends[part] - output.row_groups)


def report_skipped(error: UserError) -> None:
    """Logs what was left out because it is damaged."""
    logging.getLogger("sc2jax").warning("skipped: %s", terminal_text(str(error)))
