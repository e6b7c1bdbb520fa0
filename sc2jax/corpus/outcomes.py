"""What a stage writes down of its decisions: the rows that it rejects, and its line of the funnel.

A row is known by its number among those that the stage `files` keeps. What is decided on them is a table in buckets
(schema DECIDED), and what is written a part for each group of units: so no process holds the rows of a corpus, nor
their numbers.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from sc2jax.corpus.dedup.across import UNVERIFIED
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.shuffle import Buckets, dealt
from sc2jax.corpus.units import Units
from sc2jax.records.dataset import PartWriter, read_part, write_part
from sc2jax.records.manifest import Output, canonical_json
from sc2jax.records.schemas import REJECTED_FILE
from sc2jax.records.stage import Written
from sc2jax.records.statistics import StageFunnel

DECIDED = pa.schema([pa.field("id", pa.int64()), pa.field("kept", pa.int64())])
"""A row that falls, and the one that is kept in its place."""

DETAILED = pa.schema(
    [pa.field("id", pa.int64()), pa.field("reason", pa.string()), pa.field("detail", pa.string())],
)
"""A row that falls, why, and the figure or file that decided."""

COMMON = "common_bands_across_split"
"""Why a file falls that shares so many bands with so many files that it was not compared with them."""

_NOT_COMPARED = "so many files on both sides share its bands that none was compared"

_DROPPED = pa.schema([pa.field("id", pa.int64(), nullable=False)])
_DONE = pa.schema([pa.field("result", pa.string())])


@dataclasses.dataclass(frozen=True)
class Fallen:
    """The rows that some stages have dropped.

    Attributes:
        files: the rows.
        stages: that are complete.
        more: what the stage at work has dropped already, by group of units; the column `id` holds numbers of rows.
    """

    files: Units
    stages: tuple[Committed, ...]
    more: tuple[Buckets, ...] = ()

    def of(self, unit: int) -> np.ndarray:
        """Those of a unit, ascending, numbered within it."""
        group = str(self.files.group_of_unit(unit))
        low, high = self.files.starts[unit : unit + 2].tolist()
        found = [np.zeros(0, np.int64)]
        for stage in self.stages:
            path = stage.manifest.statistics["dropped"].get(group)
            if path is not None:
                output = next(output for output in stage.manifest.outputs if output.path == path)
                for table in read_part(stage.folder, output):
                    ids = table["id"].to_numpy()
                    found.append(ids[slice(*np.searchsorted(ids, [low, high]))] - low)
        for buckets in self.more:
            ids = buckets.read(self.files.group_of_unit(unit))["id"].to_numpy()
            found.append(ids[(ids >= low) & (ids < high)] - low)
        return np.unique(np.concatenate(found))

    def kept(self, unit: int) -> np.ndarray:
        """The rows of a unit that are left, ascending, numbered within it."""
        left = np.ones(int(np.diff(self.files.starts[unit : unit + 2])[0]), bool)
        left[self.of(unit)] = False
        return np.flatnonzero(left)


def write_duplicates(
    folder: str, files: Units, decided: Buckets, stage: str, reason: str, before: StageFunnel, part_bytes: int
) -> Written:
    """Writes which rows fall in favour of which others.

    Args:
        folder: of the stage.
        files: the rows that the numbers stand for.
        decided: schema DECIDED.
        stage: name of the stage in the funnel and in its rejects.
        reason: of the rejects.
        before: the funnel's line of the stage before.
        part_bytes: size of a Parquet part.
    """
    with named(folder, files, decided, files, "kept", reason, "kept ") as rows:
        return write_rejects(folder, files, [rows], stage, before, part_bytes)


@contextlib.contextmanager
def named(
    folder: str, files: Units, decided: Buckets, others: Units, prefix: str, reason: str, verb: str
) -> Iterator[Buckets]:
    """The rows that fall (schema DETAILED), by group of units; the detail of each names the one that decided.

    A row that falls unverified (`across.UNVERIFIED`) has a reason of its own.

    Args:
        folder: of the stage.
        files: the rows that fall.
        decided: schema DECIDED; `kept` is a number among `others`.
        others: the rows that decided.
        prefix: of their parts.
        reason: of the rejects.
        verb: what comes before the name.
    """
    bring = functools.partial(_by_kept, decided=decided, others=others)
    with dealt(folder, decided.units(), bring, DECIDED, others.groups) as brought:
        name = functools.partial(_name, brought=brought, files=files, others=others, prefix=prefix)
        name = functools.partial(name, reason=reason, verb=verb)
        with dealt(folder, brought.units(), name, DETAILED, files.groups) as rows:
            yield rows


def _by_kept(bucket: pa.Table, decided: Buckets, others: Units) -> tuple[pa.Table, np.ndarray]:
    rows = decided.read(bucket["bucket"][0].as_py())
    return rows, others.group_of(np.maximum(rows["kept"].to_numpy(), 0))


def _name(
    bucket: pa.Table, brought: Buckets, files: Units, others: Units, prefix: str, reason: str, verb: str
) -> tuple[pa.Table, np.ndarray]:
    group = bucket["bucket"][0].as_py()
    rows = brought.read(group)
    ids, kept = rows["id"].to_numpy(), rows["kept"].to_numpy()
    wanted, places = np.unique(kept, return_inverse=True)
    verified = wanted != UNVERIFIED
    names = np.full(len(wanted), _NOT_COMPARED, object)
    names[verified] = [f"{verb}{name}" for name in _names(others, group, wanted[verified], prefix)]
    reasons = np.where(kept == UNVERIFIED, COMMON, reason)
    columns = {"id": ids, "reason": pa.array(reasons, pa.string()), "detail": pa.array(names[places], pa.string())}
    return pa.table(columns), files.group_of(ids)


def _names(units: Units, group: int, ids: np.ndarray, prefix: str) -> Iterator[str]:
    """How a detail names each of some rows (ascending) of a group: by its repository and its path."""
    for table in take(units, group, ids, prefix, ["repository", "path"]):
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        yield from (f"{repository}: {path}" for repository, path in pairs)


def take(units: Units, group: int, ids: np.ndarray, prefix: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some rows (ascending) of a group of units."""
    for unit in units.units_in(group):
        low, high = np.searchsorted(ids, units.starts[unit : unit + 2])
        if low < high:
            yield from units.rows(unit, prefix).take(ids[low:high] - units.starts[unit], columns)


def write_rejects(
    folder: str, files: Units, rejected: Sequence[Buckets], stage: str, before: StageFunnel, part_bytes: int
) -> Written:
    """Writes the rows that a stage drops, and its line of the funnel.

    Args:
        folder: of the stage.
        files: the rows that the numbers stand for.
        rejected: schema DETAILED, by group of units; a row that is in several has the reason of the first.
        stage: its name.
        before: the funnel's line of the stage before.
        part_bytes: size of a Parquet part.
    """
    work = functools.partial(
        _write_group, folder=folder, files=files, rejected=rejected, stage=stage, part_bytes=part_bytes
    )
    outputs: list[Output] = []
    dropped: dict[str, str] = {}
    lost: dict[str, tuple[int, int]] = {}
    groups = pa.table({"bucket": np.arange(files.groups)})
    with map_units(groups, np.arange(len(groups)), work, _DONE) as results:
        for group, table in enumerate(results):
            done = json.loads(table["result"][0].as_py())
            found = [Output(**output) for output in done["outputs"]]
            outputs += found
            if found:
                dropped[str(group)] = found[0].path
            for reason, count, size in done["lost"]:
                files_lost, bytes_lost = lost.get(reason, (0, 0))
                lost[reason] = files_lost + count, bytes_lost + size
    line = funnel_line(stage, before["files_out"], before["bytes_out"], lost)
    return outputs, {"funnel": [line], "dropped": dropped}


def _write_group(
    groups: pa.Table, folder: str, files: Units, rejected: Sequence[Buckets], stage: str, part_bytes: int
) -> pa.Table:
    group = groups["bucket"][0].as_py()
    rows = pa.concat_tables([DETAILED.empty_table(), *(buckets.read(group) for buckets in rejected)])
    ids, first = np.unique(rows["id"].to_numpy(), return_index=True)
    outputs, lost = [], []
    if len(ids):
        outputs.append(write_part(folder, "dropped", group, [pa.table({"id": ids}, _DROPPED)], _DROPPED))
        outputs += _write_rejects(folder, files, group, ids, rows.take(pa.array(first)), stage, part_bytes, lost)
    result = {"outputs": [dataclasses.asdict(output) for output in outputs], "lost": lost}
    return pa.table({"result": [canonical_json(result)]}, _DONE)


def _write_rejects(
    folder: str,
    files: Units,
    group: int,
    ids: np.ndarray,
    rows: pa.Table,
    stage: str,
    part_bytes: int,
    lost: list[tuple[str, int, int]],
) -> list[Output]:
    writer = PartWriter(folder, "rejects", REJECTED_FILE, part_bytes, f"{group:05d}")
    at = 0
    for table in take(files, group, ids, "kept", ["repository", "path", "swhid", "source_bytes"]):
        count = table.num_rows
        of_these = rows.slice(at, count)
        decided = {"stage": [stage] * count, "reason": of_these["reason"], "detail": of_these["detail"]}
        writer.add(pa.table({**{name: table[name] for name in table.column_names}, **decided}))
        sums = pa.table({"reason": of_these["reason"], "size": table["source_bytes"]}).group_by("reason")
        summed = sums.aggregate([("size", "count"), ("size", "sum")])
        lost += [(row["reason"], row["size_count"], row["size_sum"]) for row in summed.to_pylist()]
        at += count
    return writer.finish()


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
