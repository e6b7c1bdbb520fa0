"""Units of reading: the row groups of a dataset, each holding whole documents."""

import bisect
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.records.checks import refuse_other_columns
from sc2jax.records.dataset import part_schema, read_records, refuse_missing
from sc2jax.records.faults import REASONS
from sc2jax.records.manifest import Output, read_manifest
from sc2jax.records.schemas import SCHEMAS


class Unit:
    """The records of one row group, by document: `group_by` names the column that a document's rows share, if any.

    `left_out` says how many records are not among them, for each of the reasons in `records/faults.py`.
    """

    def __init__(self, table: pa.Table, group_by: str, left_out: Mapping[str, int]) -> None:
        self.table = table.combine_chunks()
        self.left_out = left_out
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

    No part is opened before it is read, however many there are; but unless damaged parts are to be skipped, it is
    checked at once that none is missing. Records are checked against their `kind`, if one is given; where damage is
    skipped, those that are not of it are left out.

    Raises:
        UserError: the dataset is unfinished, or parts are missing and are not to be skipped.
    """

    def __init__(
        self,
        folder: str,
        split: str,
        columns: Sequence[str],
        group_by: str = "",
        kind: str = "",
        *,
        skip_damaged: bool = False,
    ) -> None:
        manifest = read_manifest(folder)
        self.folder = folder
        self.digest = manifest.digest
        self._columns, self._group_by, self._kind = columns, group_by, kind
        self.skip_damaged = skip_damaged
        self._outputs = manifest.under(split)
        self._ends = list(itertools.accumulate(output.row_groups for output in self._outputs))
        if not all(output.row_groups for output in self._outputs if output.rows):
            raise UserError(f"{folder} was written by an earlier version; run the stage that wrote it again")
        if not skip_damaged:
            refuse_missing(folder, self._outputs)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Unit:
        output, row_group = self._place(index)
        table, left_out = read_records(
            self.folder, output, row_group, self._columns, self._kind, skip_faulty=self.skip_damaged
        )
        if left_out:
            said = f"left out of {self.name(index)}: {_counted(left_out)}"
            logging.getLogger("sc2jax").warning(terminal_text(said))
        return Unit(table, self._group_by, left_out)

    def readable(self) -> Iterator[tuple[int, "Unit"]]:
        """All units by their numbers, without damaged ones where these are to be skipped.

        Raises:
            UserError: one is damaged, and is not to be skipped.
        """
        for index in range(len(self)):
            unit = self.read(index)
            if unit is not None:
                yield index, unit

    def read(self, index: int) -> "Unit | None":
        """A unit; None if it is damaged and such ones are to be skipped.

        Raises:
            UserError: it is damaged, and is not to be skipped.
        """
        try:
            return self[index]
        except UserError as error:
            if not self.skip_damaged:
                raise
            report_skipped(error)
            return None

    @property
    def sizes(self) -> list[float]:
        """The bytes of each unit on disk, taken to be equal within a part."""
        return [output.bytes / output.row_groups for output in self._outputs for _ in range(output.row_groups)]

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

    def refuse_other_records(self, where: str) -> None:
        """Makes sure, by the first part that can be opened, that there are records of the kind that is wanted.

        Args:
            where: what the message calls the dataset.

        Raises:
            UserError: they lack columns; or the part is damaged, and damage is not to be skipped.
        """
        for output in self._outputs:
            try:
                found = part_schema(self.folder, output)
            except UserError:
                if self.skip_damaged:
                    continue
                raise
            refuse_other_columns(found, SCHEMAS[self._kind], self._columns, where)
            return

    def _place(self, index: int) -> tuple[Output, int]:
        """The part that a unit is in, and the number of its row group there."""
        part = bisect.bisect_right(self._ends, index)
        output = self._outputs[part]
        return output, index - (self._ends[part] - output.row_groups)


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} records of which {REASONS[reason]}" for reason, count in left_out.items())


def report_skipped(error: UserError) -> None:
    """Logs what was left out because it is damaged."""
    logging.getLogger("sc2jax").warning("skipped: %s", terminal_text(str(error)))
