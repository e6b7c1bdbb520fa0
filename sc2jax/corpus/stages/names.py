"""Names of repositories: one that several sources hold becomes as many names as there are repositories of it.

As much of a source's path goes before a name as tells the sources apart. Should the name that this gives be that of
another repository too, its number among them follows a `~`, and so on until no two are the same.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sc2jax.corpus.shuffle import Buckets, by_hash, dealt, text_keys
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.records.dataset import read_row_group, write_part
from sc2jax.records.manifest import Output

NAMES = pa.schema([pa.field("repository", pa.string(), nullable=False)])
"""The names of a unit's repositories; that of one that is put aside is ""."""

_FOUND = pa.schema([("name", pa.string()), ("unit", pa.int64()), ("row", pa.int64())])
_MOST_ROWS = 1 << 20
"""Repositories of a bucket."""

Read = Callable[[int], pa.Table]
"""Reads the repositories of a unit."""


@dataclasses.dataclass(frozen=True)
class _Names:
    """The names as they are after some turns: those that were found, but for the units that have others."""

    folder: str
    read: Read
    renamed: Mapping[int, Output]

    def of(self, unit: int) -> list[str]:
        if unit in self.renamed:
            return read_row_group(self.folder, self.renamed[unit], 0)["repository"].to_pylist()
        return self.read(unit)["repository"].to_pylist()


def name_repositories(
    folder: str, roots: Sequence[str], counts: Sequence[int], read: Read, left_out: Mapping[str, LeftOut]
) -> dict[int, Output]:
    """Gives every repository a name of its own.

    Args:
        folder: of the stage.
        roots: the source of each unit.
        counts: the repositories of each unit.
        read: gives the repositories of a unit (schema FOUND_REPOSITORIES).
        left_out: by source; counts a repository that has both the source and the name of another one.

    Returns:
        For each unit in which there are others than were found, the part with all of its names.
    """
    names = _Names(folder, read, {})
    buckets = -(-sum(counts) // _MOST_ROWS) or 1
    units = pa.table({"unit": np.arange(len(roots))})
    turn = 0
    while True:
        deal = functools.partial(_by_name, names=names, buckets=buckets)
        with dealt(folder, units, deal, _FOUND, buckets) as found:
            rename = functools.partial(_rename, found=found, roots=roots, first=turn == 0)
            with dealt(folder, found.units(), rename, _FOUND, len(roots)) as changed:
                if not changed.rows:
                    return dict(names.renamed)
                renamed = _write(folder, changed, names, roots, left_out)
        names = dataclasses.replace(names, renamed={**names.renamed, **renamed})
        turn += 1


def _by_name(unit: pa.Table, names: _Names, buckets: int) -> tuple[pa.Table, np.ndarray]:
    number = unit["unit"][0].as_py()
    found = names.of(number)
    rows = [row for row, name in enumerate(found) if name]
    kept = [found[row] for row in rows]
    table = pa.table({"name": kept, "unit": [number] * len(rows), "row": rows}, _FOUND)
    return table, by_hash(text_keys(kept), buckets)


def _rename(bucket: pa.Table, found: Buckets, roots: Sequence[str], first: bool) -> tuple[pa.Table, np.ndarray]:
    """New names for those that are not alone with theirs."""
    table = found.read(bucket["bucket"][0].as_py())
    names = np.array(table["name"].to_pylist(), object)
    _, inverse, counts = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[inverse] > 1)
    groups: dict[str, list[tuple[str, int, int]]] = {}
    at, row = table["unit"].to_numpy(), table["row"].to_numpy()
    for index in shared.tolist():
        unit = int(at[index])
        groups.setdefault(names[index], []).append((roots[unit], unit, int(row[index])))
    changed = [each for name, group in sorted(groups.items()) for each in _apart(name, sorted(group), first)]
    columns = list(zip(*changed, strict=True)) or [(), (), ()]
    new = pa.table([pa.array(column, field.type) for column, field in zip(columns, _FOUND, strict=True)], _FOUND)
    return new, new["unit"].to_numpy()


def _apart(name: str, group: list[tuple[str, int, int]], first: bool) -> list[tuple[str, int, int]]:
    """The new names of a group, each with its unit and row; one that keeps its name is not among them."""
    if not first:
        return [(f"{name}~{number}", unit, row) for number, (_, unit, row) in enumerate(group, 1) if number > 1]
    kept: dict[str, tuple[int, int]] = {}
    changed = []
    for root, unit, row in group:
        if root in kept:
            changed.append(("", unit, row))
        else:
            kept[root] = unit, row
    if len(kept) > 1:
        prefixes = _prefixes(list(kept))
        changed += [(f"{prefix}/{name}".lstrip("/"), *kept[root]) for root, prefix in prefixes.items()]
    return changed


def _prefixes(roots: Sequence[str]) -> dict[str, str]:
    """As much of the end of each source's path as tells them apart."""
    parts = {root: Path(root).parts for root in roots}
    depth = 1
    while len({part[-depth:] for part in parts.values()}) < len(roots):
        depth += 1
    return {root: "/".join(as_text(name).strip("/") for name in part[-depth:]) for root, part in parts.items()}


def _write(
    folder: str, changed: Buckets, names: _Names, roots: Sequence[str], left_out: Mapping[str, LeftOut]
) -> dict[int, Output]:
    """Writes the names of the units in which some have changed."""
    written: dict[int, Output] = {}
    for unit in np.flatnonzero(changed.counts.sum(axis=0)).tolist():
        own = names.of(unit)
        for row in changed.read(unit).to_pylist():
            if not row["name"]:
                left_out[roots[unit]].add(SourceError("same_name", f"{roots[unit]}/{own[row['row']]}"))
            own[row["row"]] = row["name"]
        written[unit] = write_part(folder, "names", unit, [pa.table({"repository": own}, NAMES)], NAMES)
    return written
