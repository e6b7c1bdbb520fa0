"""Units of reading: the row groups of a curated corpus, each holding whole repositories."""

import dataclasses
import weakref
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import pyarrow as pa

from sc2jax.errors import UserError
from sc2jax.records.dataset import open_part, read_row_group
from sc2jax.records.manifest import Output, read_manifest

SPLITS = ("train", "heldout")
_COLUMNS = ("repository", "path", "content")


class Repository(TypedDict):
    """An example: a repository and its files, in order of their paths."""

    repository: str
    paths: list[str]
    contents: list[str]


class Unit:
    """The repositories of one row group."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        names = np.asarray(self._table.column("repository").combine_chunks().dictionary_encode().indices)
        starts = np.flatnonzero(np.diff(names, prepend=-1))
        self._bounds = np.append(starts, len(names)).tolist()

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> Repository:
        start, stop = self._bounds[index : index + 2]
        rows = self._table.slice(start, stop - start)
        return Repository(
            repository=rows.column("repository")[0].as_py(),
            paths=rows.column("path").to_pylist(),
            contents=rows.column("content").to_pylist(),
        )

    def __iter__(self) -> Iterator[Repository]:
        return (self[index] for index in range(len(self)))


@dataclasses.dataclass(frozen=True)
class _Place:
    output: Output
    row_group: int


class Units:
    """The units of one split of a corpus, read when asked for.

    A unit is kept for as long as somebody holds it, so that streams that read the same one share it.

    Raises:
        UserError: the corpus is unfinished or damaged.
    """

    def __init__(self, corpus: str, split: str) -> None:
        self.corpus = corpus
        manifest = read_manifest(corpus)
        self._places: list[_Place] = []
        self._held: weakref.WeakValueDictionary[int, Unit] = weakref.WeakValueDictionary()
        for output in manifest.under(split):
            with open_part(corpus, output) as part:
                self._places += [
                    _Place(output, group)
                    for group in range(part.num_row_groups)
                    if part.metadata.row_group(group).num_rows
                ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Unit:
        unit = self._held.get(index)
        if unit is None:
            place = self._places[index]
            unit = Unit(read_row_group(self.corpus, place.output, place.row_group, _COLUMNS))
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
            raise UserError(f"the corpus {self.corpus} has no files in its split {split!r}; curate more source code")
