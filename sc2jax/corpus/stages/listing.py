# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""The listing: what the sources hold, as tables on disk, in units of whole repositories.

The sources are listed anew in every run, for nothing else says whether they have changed; what is read of them again
is what the keys of the units say. A unit is a row group in each of three tables: its repositories (schema
FOUND_REPOSITORIES), their files (FILES) and what may tell of their licences (LICENSE_FILES), which name their
repository by its number in the unit.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import MIB, SourceConfig
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import LeftOut, in_a_line
from sc2jax.corpus.sources.listing import (
    FILES,
    FOUND_REPOSITORIES,
    LICENSE_FILES,
    SOURCES,
    Batch,
    Listed,
    batches_of,
    draw,
    list_repository,
    refuse_output_inside,
)
from sc2jax.corpus.sources.walk import FoundRepository
from sc2jax.corpus.stages.names import name_repositories
from sc2jax.errors import UserError
from sc2jax.progress import progress
from sc2jax.records.dataset import read_row_group, read_tables, write_labelled_part, write_part
from sc2jax.records.manifest import Output
from sc2jax.records.stage import Written
from sc2jax.records.statistics import LeftOutShare
from sc2jax.storage import is_url, join

_TABLES: Mapping[str, pa.Schema] = {"repositories": FOUND_REPOSITORIES, "files": FILES, "licenses": LICENSE_FILES}
ASIDE = "aside"
"""The repositories of which nothing is read."""

UNITS = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),
        pa.field("root", pa.string(), nullable=False),
        pa.field("repositories", pa.int64(), nullable=False),
        pa.field("files", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        *(
            pa.field(name, kind, nullable=False)
            for table in _TABLES
            for name, kind in ((f"{table}_part", pa.string()), (f"{table}_group", pa.int32()))
        ),
    ]
)
"""A unit: a digest of what it holds, its source, its size, and its row group of each table; "" where there is none."""

DIGESTS = pa.schema([pa.field("digest", pa.string(), nullable=False)])
"""The digest of each unit with the names of its repositories: what all that comes later depends on."""

_BATCH = pa.schema([pa.field("result", pa.binary())])


@dataclasses.dataclass(frozen=True)
class _Listed:
    """What a batch has come to: its units (rows of UNITS), its parts, and what was left out."""

    units: list[dict]
    outputs: list[Output]
    accounts: str
    left_out: LeftOut


@dataclasses.dataclass(frozen=True)
class Listing:
    """A listing that is complete."""

    stage: Committed

    def __len__(self) -> int:
        return len(self.units)

    @functools.cached_property
    def units(self) -> list[dict]:
        """The units (rows of UNITS), each with its digest and that of its names."""
        tables = [pa.concat_tables(read_tables(self.stage.folder, self.stage.manifest, at)) for at in ("units", DIGEST)]
        return [row | digest for row, digest in zip(*(table.to_pylist() for table in tables), strict=True)]

    @functools.cached_property
    def _parts(self) -> dict[str, Output]:
        return {output.path: output for output in self.stage.manifest.outputs}

    @property
    def files(self) -> int:
        """How many files there are."""
        return sum(unit["files"] for unit in self.units)

    @property
    def digests(self) -> list[str]:
        """The digest of each unit."""
        return [unit["digest"] for unit in self.units]

    @property
    def digest(self) -> str:
        """A digest of what is read of the sources; it does not name their place on disk."""
        return self.stage.digest

    @property
    def account_digest(self) -> str:
        """A digest of the repositories, those of which nothing is read among them."""
        return self.stage.manifest.statistics["accounts"]

    @property
    def left_out(self) -> Mapping[str, LeftOutShare]:
        """What was left out, by reason."""
        return self.stage.manifest.statistics["left_out"]

    @property
    def left_out_digest(self) -> str:
        """A digest of it, with all names."""
        return self.stage.manifest.statistics["left_out_digest"]

    def table(self, unit: int, name: str) -> pa.Table:
        """The rows of a unit in one of the tables; its repositories have their own names."""
        row = self.units[unit]
        if not row[f"{name}_part"]:
            return _TABLES[name].empty_table()
        part = self._parts[row[f"{name}_part"]]
        table = read_row_group(self.stage.folder, part, row[f"{name}_group"])
        renamed = self.stage.manifest.statistics["names"].get(str(unit))
        if name == "repositories" and renamed:
            names = read_row_group(self.stage.folder, self._parts[renamed], 0)
            return table.set_column(0, FOUND_REPOSITORIES.field(0), names["repository"])
        return table

    def account(self, unit: int) -> pa.Table:
        """The repositories of a unit, of which one with the source and the name of another is put aside."""
        table = self.table(unit, "repositories")
        put_aside = pc.equal(table["repository"], "")
        reason = pc.if_else(put_aside, "same_name", table["reason"])
        name = pc.if_else(put_aside, table["found"], table["repository"])
        columns = {"repository": name, "reason": reason}
        own = {field.name: columns.get(field.name, table[field.name]) for field in FOUND_REPOSITORIES}
        return pa.table(own).cast(FOUND_REPOSITORIES)

    def aside(self) -> Iterator[pa.Table]:
        """The repositories of which nothing is read."""
        yield from read_tables(self.stage.folder, self.stage.manifest, ASIDE)


Archived = Callable[[str, LeftOut, str], contextlib.AbstractContextManager[Iterator[FoundRepository]] | None]
"""Opens a source that is listed on the engine, given a folder for tables; None for one that is none of that kind."""


def _no_archive(source: str, left_out: LeftOut, folder: str) -> None:
    del source, left_out, folder


def write_listing(
    folder: str,
    sources: Sequence[SourceFolder],
    output: str,
    source_config: SourceConfig,
    archived: Archived = _no_archive,
) -> Written:
    """Lists all sources; one that is named twice counts once.

    Args:
        folder: of the stage.
        sources: folders and archives.
        output: a folder that must not lie among the files to list.
        source_config: which files are listed.
        archived: opens a source of Software Heritage.

    Raises:
        UserError: a source is missing, cannot be read or is empty; nothing of any can be read; something in one cannot
            be read, and that ends the work.
    """
    unique = {source.root if is_url(source.root) else os.path.realpath(source.root): source for source in sources}
    left_out = {root: LeftOut(root, source_config.damaged == "stop") for root in unique}
    batches: list[Batch] = []
    done: list[_Listed] = []
    for root, source in sorted(unique.items()):
        found = _list_archived(folder, source, root, output, source_config, archived)
        if found:
            left_out[root].absorb(found.left_out)
            done.append(found)
        else:
            batches += batches_of(source, output, left_out[root])
    for batch, listed in zip(batches, listed_batches := _list_batches(folder, batches, source_config), strict=True):
        left_out[batch.root].absorb(listed.left_out)
    done += listed_batches
    units = [unit for listed in done for unit in listed.units]
    _refuse_nothing(units, unique, left_out)
    outputs = [dataclasses.replace(output, result=False) for listed in done for output in listed.outputs]
    read = functools.partial(_repositories, folder=folder, units=units, parts={part.path: part for part in outputs})
    roots, counts = [unit["root"] for unit in units], [unit["repositories"] for unit in units]
    names = name_repositories(folder, roots, counts, read, left_out)
    outputs += [dataclasses.replace(output, result=False) for output in names.values()]
    outputs += _table(folder, "units", units, UNITS, result=False)
    outputs += _table(folder, DIGEST, _digests(units, names), DIGESTS, result=True)
    total = LeftOut()
    for part in left_out.values():
        total.absorb(part)
    return outputs, {
        "names": {str(unit): part.path for unit, part in names.items()},
        "accounts": hashlib.sha256("".join(listed.accounts for listed in done).encode()).hexdigest(),
        "left_out": total.statistics,
        "left_out_digest": total.digest,
    }


def _digests(units: Sequence[dict], names: Mapping[int, Output]) -> list[dict]:
    """The digest of each unit, with that of its names where some are not as they were found."""
    found = []
    for number, unit in enumerate(units):
        both = f"{unit['digest']} {names[number].sha256}" if number in names else ""
        found.append({"digest": hashlib.sha256(both.encode()).hexdigest() if both else unit["digest"]})
    return found


DIGEST = "digests"


def _list_archived(
    folder: str, source: SourceFolder, root: str, output: str, config: SourceConfig, archived: Archived
) -> "_Listed | None":
    left_out = LeftOut(root, config.damaged == "stop")
    opened = archived(root, left_out, join(folder, "walk"))
    if opened is None:
        return None
    if not is_url(root):
        refuse_output_inside(source.root, root, output)
    label = f"{int(hashlib.sha256(root.encode()).hexdigest()[:12], 16):015d}"
    with opened as repositories:
        return _list(folder, label, root, progress(repositories, desc="listing", unit="repository"), config, left_out)


def _list_batches(folder: str, batches: Sequence[Batch], config: SourceConfig) -> list[_Listed]:
    work = functools.partial(_list_batch, folder=folder, batches=batches, config=config)
    numbers = pa.table({"batch": np.arange(len(batches))})
    with map_units(numbers, np.arange(len(batches)), work, _BATCH) as results:
        bar = progress(results, total=len(batches), desc="listing", unit="batch")
        return [pickle.loads(table["result"][0].as_py()) for table in bar]  # of our own workers


def _list_batch(rows: pa.Table, folder: str, batches: Sequence[Batch], config: SourceConfig) -> pa.Table:
    number = rows["batch"][0].as_py()
    batch = batches[number]
    left_out = LeftOut(batch.root, config.damaged == "stop")
    listed = _list(folder, f"{number:05d}", batch.root, batch.repositories(left_out), config, left_out)
    return pa.table({"result": [pickle.dumps(listed)]}, _BATCH)


def _list(
    folder: str,
    label: str,
    root: str,
    repositories: Iterable[FoundRepository],
    config: SourceConfig,
    left_out: LeftOut,
) -> _Listed:
    """Writes the rows of some repositories of a source; `label` is that of the parts."""
    units: list[dict] = []
    outputs: list[Output] = []
    held: dict[str, list[pa.Table]] = {name: [] for name in (*_TABLES, ASIDE)}
    accounts, first = [], 0

    def flush() -> None:
        nonlocal first
        for name, tables in held.items():
            if tables:
                outputs.append(write_labelled_part(folder, name, label, tables, _TABLES.get(name, FOUND_REPOSITORIES)))
            for unit in units[first:] if name != ASIDE else ():
                unit[f"{name}_part"] = outputs[-1].path if unit[f"{name}_group"] >= 0 else ""
            tables.clear()
        first = len(units)

    listed = _listed(repositories, config, left_out, held[ASIDE], accounts)
    for repositories_of_unit in _cut(listed, config.unit_bytes):
        unit, tables = _unit(root, repositories_of_unit)
        for name, table in tables.items():
            unit[f"{name}_group"] = len(held[name]) if len(table) else -1
            held[name] += [table] if len(table) else []
        units.append(unit)
        if sum(table.nbytes for tables in held.values() for table in tables) > _HELD_BYTES:
            flush()
    flush()
    return _Listed(units, outputs, "".join(accounts), left_out)


_HELD_BYTES = 32 * MIB
"""Rows of a listing in memory before they are written."""


def _unit(root: str, held: Sequence[Listed]) -> tuple[dict, dict[str, pa.Table]]:
    files, size = sum(len(each.files) for each in held), sum(each.size for each in held)
    unit = {"digest": _digest(held), "root": root, "repositories": len(held), "files": files, "bytes": size}
    return unit, _unit_tables(held)


def _listed(
    repositories: Iterable[FoundRepository],
    config: SourceConfig,
    left_out: LeftOut,
    aside: list[pa.Table],
    accounts: list[str],
) -> Iterator[Listed]:
    """The repositories of which something is read; the others are put aside."""
    others = []
    for repository in repositories:
        listed = list_repository(repository, config.max_file_bytes, config.sample, left_out)
        accounts.append(hashlib.sha256(repr(listed.account).encode()).hexdigest()[:16])
        if listed.digest:
            yield listed
        else:
            others.append(listed.account)
    if others:
        aside.append(rows_table(others, FOUND_REPOSITORIES))


def _cut(listed: Iterable[Listed], unit_bytes: int) -> Iterator[list[Listed]]:
    """Repositories in units, cut by their sizes and at names that are drawn by a hash, so that cuts hardly move."""
    held: list[Listed] = []
    size = 0
    for each in listed:
        if held and size + each.size > unit_bytes:
            yield held
            held, size = [], 0
        held.append(each)
        size += each.size
        if size * 4 > unit_bytes and draw("unit", each.account[0]) < _CUT_SHARE:
            yield held
            held, size = [], 0
    if held:
        yield held


_CUT_SHARE = 1 / 8
"""Of the repositories after which a unit may end though it is not full, those after which it does."""


def _unit_tables(held: Sequence[Listed]) -> dict[str, pa.Table]:
    files = [(number, *row) for number, each in enumerate(held) for row in each.files]
    licenses = [(number, *row) for number, each in enumerate(held) for row in each.licenses]
    rows = {"repositories": [each.account for each in held], "files": files, "licenses": licenses}
    return {name: rows_table(rows[name], schema) for name, schema in _TABLES.items()}


def rows_table(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    """A table of rows."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)


def rows_of(table: pa.Table) -> Iterator[tuple]:
    """The rows of a table."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _digest(held: Sequence[Listed]) -> str:
    return hashlib.sha256("".join(each.digest for each in held).encode()).hexdigest()


def _repositories(unit: int, folder: str, units: Sequence[dict], parts: Mapping[str, Output]) -> pa.Table:
    row = units[unit]
    return read_row_group(folder, parts[row["repositories_part"]], row["repositories_group"], ["repository"])


def _table(folder: str, prefix: str, rows: Sequence[dict], schema: pa.Schema, *, result: bool) -> list[Output]:
    starts = range(0, len(rows), _ROWS)
    tables = (pa.Table.from_pylist(rows[start : start + _ROWS], schema) for start in starts)
    outputs = [write_part(folder, prefix, index, [table], schema) for index, table in enumerate(tables)]
    return [dataclasses.replace(output, result=result) for output in outputs]


_ROWS = 100_000


def _refuse_nothing(
    units: Sequence[dict], sources: Mapping[str, SourceFolder], left_out: Mapping[str, LeftOut]
) -> None:
    with_files = {unit["root"] for unit in units if unit["files"]}
    for root, source in sources.items():
        if root not in with_files and not left_out[root]:
            raise UserError(f"the source {source.root} holds no files; name {SOURCES}")
    if not with_files:
        total = LeftOut()
        for part in left_out.values():
            total.absorb(part)
        raise UserError(f"no file of the sources can be read: {in_a_line(total.statistics)}")
