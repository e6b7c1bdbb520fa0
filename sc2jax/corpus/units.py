"""Units of work: what one worker lists, judges or signs at a time, and what each unit has come to.

A unit holds whole repositories, and what comes of it depends on nothing else: its key is a digest of all that it is
made of. So a unit whose key an earlier run knows is not worked on again, whatever became of the others, and a stage
that was interrupted goes on with the units that it lacks.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax import storage
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed, NumberedRows
from sc2jax.progress import progress
from sc2jax.records.dataset import read_tables, write_part
from sc2jax.records.manifest import Output, canonical_json, changed_outputs
from sc2jax.storage import join

_UNITS = "units"
"""The table of a stage's units, below its folder."""

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("outputs", pa.list_(pa.string()), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("statistics", pa.string(), nullable=False),
        pa.field("complete", pa.bool_(), nullable=False),
        pa.field("failed", pa.int64(), nullable=False),
    ]
)
"""A unit: its key, a digest of what it holds, the paths of what it wrote, how many rows go on to the next stage,
figures in JSON, whether all that it read was as it was listed, and how much could not be read."""

_ROWS = 10_000

_MOST_GROUPS = 1024
"""Buckets of a shuffle by units."""


def units_of_a_group(units: int) -> int:
    """How many consecutive units, of so many, form a group where there is a bucket or a part for each."""
    return -(-units // _MOST_GROUPS) or 1


@dataclasses.dataclass(frozen=True)
class UnitResult:
    """What a unit has come to.

    Attributes:
        outputs: that it wrote.
        rows: that go on to the next stage.
        statistics: as JSON can hold them.
        complete: whether another run would come to the same; one that met what may be mended is done again.
        failed: how much of what it had to read could not be read.
    """

    outputs: tuple[Output, ...]
    rows: int
    statistics: Mapping[str, Any]
    complete: bool = True
    failed: int = 0


Work = Callable[[str, str, int], UnitResult]
"""Does a unit, given a folder, the label of its parts, and its number."""

_RESULT = pa.schema([pa.field("result", pa.string())])


def do_units(
    folder: str,
    notes: str,
    earlier: "Units | None",
    keys: Sequence[str],
    contents: Sequence[str],
    work: Work,
    desc: str,
    *,
    retry_failed: bool = False,
) -> tuple[list[Output], list[UnitResult]]:
    """Does all units that neither an earlier run nor an interrupted one has done.

    Args:
        folder: where the outputs go.
        notes: a folder for what each finished unit notes.
        earlier: the stage as it was, with outputs that still lie where they lay, or None.
        keys: of the units, in their order.
        contents: a digest of what each holds, whatever is done with it; the names of its parts follow from it.
        work: picklable.
        desc: what the progress is called.
        retry_failed: whether those units of an earlier run are done again that could not read all that they had to.

    Returns:
        The outputs, the table of the units among them, and what the units have come to, in order.
    """
    before = earlier.whole_results() if earlier else {}
    known = {key: result for key, result in before.items() if not (retry_failed and result.failed)}
    known |= _noted(folder, notes)
    missing = np.array([number for number, key in enumerate(keys) if key not in known], np.int64)
    results = {number: known[key] for number, key in enumerate(keys) if key in known}
    do = functools.partial(_do, folder=folder, contents=contents, work=work)
    with map_units(pa.table({"number": missing}), np.arange(len(missing)), do, _RESULT) as done:
        bar = progress(done, total=len(keys), initial=len(keys) - len(missing), desc=desc, unit="unit")
        for number, table in zip(missing.tolist(), bar, strict=True):
            text = table["result"][0].as_py()
            results[number] = _from_json(text)
            storage.write_whole(join(notes, f"{keys[number]}.json"), text.encode())
    ordered = [results[number] for number in range(len(keys))]
    outputs = [output for result in ordered for output in result.outputs]
    return [*outputs, *_write_table(folder, keys, contents, ordered)], ordered


def _do(rows: pa.Table, folder: str, contents: Sequence[str], work: Work) -> pa.Table:
    number: int = rows["number"][0].as_py()
    result = work(folder, label_of(contents[number]), number)
    return pa.table({"result": [canonical_json(dataclasses.asdict(result))]}, _RESULT)


def label_of(content: str) -> str:
    """Digits that stand in the names of a unit's parts: they follow from what it holds, not from where it stands."""
    return f"{int(content[:12], 16):015d}"


def _from_json(text: str) -> UnitResult:
    fields = json.loads(text)
    return UnitResult(**{**fields, "outputs": tuple(Output(**output) for output in fields["outputs"])})


def _noted(folder: str, notes: str) -> dict[str, UnitResult]:
    """What an interrupted run of this very stage had finished."""
    found = {}
    for name in storage.names(notes):
        if not storage.is_unfinished(name):
            found[name.removesuffix(".json")] = _from_json(storage.read_bytes(join(notes, name)).decode())
    return _whole(folder, found)


def _whole(folder: str, results: Mapping[str, UnitResult]) -> dict[str, UnitResult]:
    """Those whose outputs lie there whole, as far as `manifest.completed` looks."""
    outputs = tuple(output for result in results.values() for output in result.outputs)
    changed = changed_outputs(folder, outputs)
    return {
        key: result for key, result in results.items() if not any(output.path in changed for output in result.outputs)
    }


def _write_table(
    folder: str, keys: Sequence[str], contents: Sequence[str], results: Sequence[UnitResult]
) -> Iterator[Output]:
    rows = [
        {
            "key": key,
            "content": content,
            "outputs": [output.path for output in result.outputs],
            "rows": result.rows,
            "statistics": canonical_json(result.statistics),
            "complete": result.complete,
            "failed": result.failed,
        }
        for key, content, result in zip(keys, contents, results, strict=True)
    ]
    for start in range(0, len(rows), _ROWS):
        table = pa.Table.from_pylist(rows[start : start + _ROWS], _SCHEMA)
        # What later stages read is the units' outputs; keys change where these do not.
        yield dataclasses.replace(write_part(folder, _UNITS, start // _ROWS, [table], _SCHEMA), result=False)


@dataclasses.dataclass(frozen=True)
class Units:
    """The units of a stage that is complete; their rows, those that go on, are numbered from 0 through all of them.

    Attributes:
        stage: that they are of.
        keys: of the units.
        contents: a digest of what each holds.
        outputs: of each.
        starts: the number of each unit's first row, and of all rows at the end.
        statistics: of each, in JSON.
        complete: whether another run would come to the same.
        failed: how much of what each had to read could not be read.
    """

    stage: Committed
    keys: tuple[str, ...]
    contents: tuple[str, ...]
    outputs: tuple[tuple[Output, ...], ...]
    starts: np.ndarray
    statistics: tuple[str, ...]
    complete: tuple[bool, ...]
    failed: tuple[int, ...]

    @classmethod
    def of(cls, stage: Committed) -> "Units":
        """Reads the table of a stage's units."""
        by_path = {output.path: output for output in stage.manifest.outputs}
        tables = [_SCHEMA.empty_table(), *read_tables(stage.folder, stage.manifest, _UNITS)]
        rows = pa.concat_tables(tables).to_pylist()
        starts = np.concatenate([[0], np.cumsum([row["rows"] for row in rows])]).astype(np.int64)
        return cls(
            stage,
            tuple(row["key"] for row in rows),
            tuple(row["content"] for row in rows),
            tuple(tuple(by_path[path] for path in row["outputs"]) for row in rows),
            starts,
            tuple(row["statistics"] for row in rows),
            tuple(row["complete"] for row in rows),
            tuple(row["failed"] for row in rows),
        )

    @classmethod
    def of_parts(cls, stage: Committed, prefix: str) -> "Units":
        """The parts of a stage that has no units below a prefix, each as a unit."""
        parts = stage.manifest.under(prefix)
        starts = np.concatenate([[0], np.cumsum([part.rows for part in parts])]).astype(np.int64)
        keys, outputs = tuple(part.sha256 for part in parts), tuple((part,) for part in parts)
        return cls(stage, keys, keys, outputs, starts, ("{}",) * len(parts), (True,) * len(parts), (0,) * len(parts))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def digest(self) -> str:
        """The digest of what the stage wrote."""
        return self.stage.digest

    def table(self) -> pa.Table:
        """A row for each unit: work for the engine."""
        return pa.table({"unit": np.arange(len(self))})

    def parts(self, unit: int, prefix: str) -> tuple[Output, ...]:
        """The parts that a unit wrote below a prefix."""
        return tuple(output for output in self.outputs[unit] if output.path.startswith(f"{prefix}/"))

    def rows(self, unit: int, prefix: str) -> NumberedRows:
        """The rows that a unit wrote below a prefix, numbered from 0."""
        return NumberedRows.of_parts(self.stage.folder, self.parts(unit, prefix))

    def unit_of(self, ids: np.ndarray) -> np.ndarray:
        """The unit of each of some numbers of rows."""
        return np.searchsorted(self.starts, ids, side="right") - 1

    @property
    def groups(self) -> int:
        """Into how many groups the units fall, of as many consecutive ones each: buckets of a shuffle."""
        return -(-len(self) // self._group_units)

    @property
    def _group_units(self) -> int:
        return units_of_a_group(len(self))

    def group_of(self, ids: np.ndarray) -> np.ndarray:
        """The group of units that each of some numbers of rows is in."""
        return self.unit_of(ids) // self._group_units

    def units_in(self, group: int) -> range:
        """The units of a group."""
        return range(group * self._group_units, min((group + 1) * self._group_units, len(self)))

    def group_of_unit(self, unit: int) -> int:
        """The group that a unit is in."""
        return unit // self._group_units

    def whole_results(self) -> dict[str, UnitResult]:
        """By key, the units that need not be done again."""
        found = {
            key: UnitResult(outputs, rows, json.loads(statistics), failed=failed)
            for key, outputs, rows, statistics, complete, failed in zip(
                self.keys,
                self.outputs,
                np.diff(self.starts).tolist(),
                self.statistics,
                self.complete,
                self.failed,
                strict=True,
            )
            if complete
        }
        return _whole(self.stage.folder, found)
