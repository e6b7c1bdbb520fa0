# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""Repositories of Software Heritage: a graph export, or The Stack v2 as it is published, walked on the engine.

    visits + GHArchive -> snapshots -> revisions -> root directories -> levels of folders -> contents -> repositories

Each arrow is a join, whose two sides are dealt into buckets on disk by the hash of what they have in common, and worked
a bucket at a time (`shuffle.py`). What is decided on the way is in `sources/heritage_graph.py` and its neighbours.
"""

import contextlib
import dataclasses
import functools
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.shuffle import Buckets, Deal, buckets_for, by_hash, dealt, text_keys
from sc2jax.corpus.sources import github_archive, heritage_graph, heritage_tables, heritage_trees, stack_v2
from sc2jax.corpus.sources.contents import read_contents
from sc2jax.corpus.sources.heritage_contents import heritage_locations
from sc2jax.corpus.sources.heritage_tables import COLUMNS, NOTHING, hexed, id_keys, read_stripe, stripes
from sc2jax.corpus.sources.heritage_trees import FILE, FOLDER, FOUND, KINDS, LINK, WALK
from sc2jax.corpus.sources.left_out import LeftOut, SourceError, as_text
from sc2jax.corpus.sources.license_files import promises_license
from sc2jax.corpus.sources.walk import FoundFile, FoundRepository, Origin
from sc2jax.storage import is_url

_BUCKET_ROWS = 1 << 17
"""Rows of a table that are joined together: they, what they are joined with and what is made of them take 100 MB."""

_BUCKET_HOURS = 16
"""Files of GHArchive, of about 500,000 events each at their largest, whose repositories are counted together."""

_LINK_BYTES = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000

Decide = Callable[[pa.Table, str], pa.Table]
"""Rows of a stripe, and the name of its file -> the rows that matter."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """What is read beside the tables.

    Attributes:
        contents: the bucket or folder that holds `content/`.
        events: the folder of GHArchive's hours; "" for none.
    """

    contents: str
    events: str = ""


def open_archived(
    source: str, left_out: LeftOut, archive: Archive, folder: str = ""
) -> contextlib.AbstractContextManager[Iterator[FoundRepository]] | None:
    """The repositories of a source of either kind, while the context is not left; None for one that is neither.

    Args:
        source: a folder or URL.
        left_out: counts what is left out.
        archive: what is read beside it.
        folder: for what lies on disk meanwhile; "" is a new one where the system has such ($TMPDIR).
    """
    try:
        if heritage_tables.export_folder(source):
            return exported_repositories(source, archive, folder, left_out)
        if stack_v2.published_files(source):
            return published_repositories(source, archive, folder, left_out)
    except (OSError, ValueError):
        if is_url(source):
            raise
        # A folder that cannot be read, or one with `::` in its name: what reads other folders says so, or reads it.
    return None


@contextlib.contextmanager
def exported_repositories(
    export: str, archive: Archive, folder: str, left_out: LeftOut
) -> Iterator[Iterator[FoundRepository]]:
    """The repositories that a graph export holds, one at a time with their files.

    Args:
        export: the folder of its tables, or the one above.
        archive: what is read beside it.
        folder: for what lies on disk meanwhile.
        left_out: counts what is left out.

    Raises:
        UserError: a table is missing or damaged.
    """
    tables = heritage_tables.export_folder(export)
    with _steps(folder) as last:
        with _steps(folder) as steps:
            roots = _roots(steps, tables, archive, left_out)
            found = _walked(steps, tables, roots)
            count = buckets_for(found.rows, _BUCKET_ROWS)
            kept = last.again(roots, functools.partial(_read, roots), "directory", heritage_graph.ROOTS, count)
            files = last.again(found, functools.partial(_read, found), "root", FOUND, count)
        yield _each(kept, files, export, archive.contents, left_out)


@contextlib.contextmanager
def published_repositories(
    source: str, archive: Archive, folder: str, left_out: LeftOut
) -> Iterator[Iterator[FoundRepository]]:
    """The repositories of Parquet files with the columns of The Stack v2; as `exported_repositories`."""
    groups = stack_v2.row_groups(stack_v2.published_files(source))
    count = buckets_for(_total(groups), _BUCKET_ROWS)
    with _steps(folder) as steps:
        rows = steps.deal(groups, functools.partial(_deal_group, buckets=count), stack_v2.ROWS, count, "The Stack v2")
        yield _each_published(rows, source, archive.contents, left_out)


class _Steps:
    """Deals rows, whose buckets last as long as a stack of contexts."""

    def __init__(self, folder: str, stack: contextlib.ExitStack):
        self._folder, self._stack = folder, stack

    def deal(self, units: pa.Table, deal: Deal, schema: pa.Schema, buckets: int, desc: str = "") -> Buckets:
        """One step of the engine."""
        return self._stack.enter_context(dealt(self._folder, units, deal, schema, buckets, desc))

    def table(self, found: pa.Table, name: str, decide: Decide, key: str, schema: pa.Schema, buckets: int) -> Buckets:
        """The rows of stripes of a table, by a key."""
        work = functools.partial(_deal_stripe, columns=COLUMNS[name], decide=decide, key=key, buckets=buckets)
        return self.deal(found, work, schema, buckets, name)

    def again(
        self, given: Buckets, make: Callable[[int], pa.Table], key: str, schema: pa.Schema, buckets: int = 0
    ) -> Buckets:
        """What a function makes of each bucket, by another key; into as many buckets unless told otherwise."""
        count = buckets or len(given)
        work = functools.partial(_deal_bucket, make=make, key=key, buckets=count)
        return self.deal(given.units(), work, schema, count)


@contextlib.contextmanager
def _steps(folder: str) -> Iterator[_Steps]:
    with contextlib.ExitStack() as stack:
        yield _Steps(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="sc2jax-")), stack)


def _roots(steps: _Steps, tables: str, archive: Archive, left_out: LeftOut) -> Buckets:
    """The root directories to walk, each once, with all that is known of their repositories."""
    graph = heritage_graph
    visits, branches, revisions = (stripes(tables, name) for name in _OF_ROOTS)
    count = buckets_for(_total(visits), _BUCKET_ROWS)
    seen = steps.table(visits, _OF_ROOTS[0], graph.full_visits, "name", graph.VISITS, count)
    known = _archived(steps, archive.events, count, left_out)
    count = buckets_for(_total(branches), _BUCKET_ROWS)
    origins = steps.again(seen, functools.partial(_origins, seen, known), "snapshot", graph.ORIGINS, count)
    named = steps.table(branches, _OF_ROOTS[1], graph.branches_of, "snapshot", graph.BRANCHES, count)
    count = buckets_for(_total(revisions), _BUCKET_ROWS)
    chosen = functools.partial(_joined, graph.chosen_branches, origins, named)
    candidates = steps.again(origins, chosen, "revision", graph.CANDIDATES, count)
    commits = steps.table(revisions, _OF_ROOTS[2], graph.git_revisions, "revision", graph.REVISIONS, count)
    one_each = functools.partial(_joined, graph.one_per_revision, candidates, commits)
    roots = steps.again(candidates, one_each, "directory", graph.ROOTS)
    roots = steps.again(roots, functools.partial(_read, roots, change=graph.one_per_directory), "name", graph.ROOTS)
    own_names = functools.partial(_read, roots, change=graph.under_names_of_their_own)
    return steps.again(roots, own_names, "directory", graph.ROOTS)


_OF_ROOTS = ("origin_visit_status", "snapshot_branch", "revision")


def _archived(steps: _Steps, folder: str, buckets: int, left_out: LeftOut) -> Buckets:
    """What GHArchive knows, by name."""
    hours = pa.table({"path": pa.array(github_archive.hourly_files(folder) if folder else [], pa.string())})
    count = buckets_for(len(hours), _BUCKET_HOURS)
    work = functools.partial(_deal_events, buckets=count)
    events = steps.deal(hours, work, github_archive.EVENTS, count + 1, "GitHub's events" if folder else "")
    for fault in events.read(count).to_pylist():
        left_out.add(SourceError("damaged_events", fault["name"], fault["license"]))
    known = functools.partial(_read, events, change=github_archive.archived_repositories)
    work = functools.partial(_deal_bucket, make=known, key="name", buckets=buckets)
    return steps.deal(events.units().slice(0, count), work, heritage_graph.ARCHIVED, buckets)


def _walked(steps: _Steps, tables: str, roots: Buckets) -> Buckets:
    """All that lies below root directories, with contents."""
    trees = heritage_trees
    entries, contents = stripes(tables, "directory_entry"), stripes(tables, "content")
    folders, files = (buckets_for(_total(found), _BUCKET_ROWS) for found in (entries, contents))
    scattered = steps.table(entries, "directory_entry", trees.entries_of, "parent", trees.ENTRIES, folders)
    tree = steps.again(scattered, functools.partial(_read, scattered, change=trees.in_order), "parent", trees.ENTRIES)
    deal = functools.partial(_deal_level, folders=folders, files=files)
    begin = functools.partial(deal, walk=functools.partial(_begun, roots))
    levels = [steps.deal(_units(np.ones(len(roots))), begin, WALK, folders + files)]
    for number in range(trees.MOST_LEVELS):
        units = _units(levels[-1].counts.sum(0)[:folders])
        if not len(units):
            break
        descend = functools.partial(deal, walk=functools.partial(_descended, levels[-1], tree, number))
        levels.append(steps.deal(units, descend, WALK, folders + files, f"level {number + 1} of folders"))
    stored = steps.table(contents, "content", trees.contents_of, "node", trees.CONTENTS, files)
    units = _units(np.sum([level.counts.sum(0) for level in levels], 0)[folders:])
    work = functools.partial(_deal_found, levels=levels, stored=stored, folders=folders)
    return steps.deal(units, work, FOUND, files)


def _units(rows: np.ndarray) -> pa.Table:
    """Work for the engine: each bucket that has rows, in parts where it has many."""
    parts = -(-rows.astype(np.int64) // _BUCKET_ROWS)
    bucket = np.repeat(np.arange(len(rows)), parts)
    part = np.arange(len(bucket)) - np.repeat(np.cumsum(parts) - parts, parts)
    return pa.table({"bucket": bucket, "part": part, "parts": np.repeat(parts, parts)})


def _part(table: pa.Table, part: int, parts: int) -> pa.Table:
    cuts = np.linspace(0, len(table), parts + 1).astype(np.int64)
    return table.slice(cuts[part], cuts[part + 1] - cuts[part])


def _total(units: pa.Table) -> int:
    return pc.sum(units["rows"]).as_py() or 0


def _deal_stripe(
    unit: pa.Table, columns: Sequence[str], decide: Decide, key: str, buckets: int
) -> tuple[pa.Table, np.ndarray]:
    path, stripe = unit["path"][0].as_py(), unit["stripe"][0].as_py()
    rows = decide(read_stripe(path, stripe, columns), path)
    return rows, _places(rows[key], buckets)


def _deal_bucket(
    unit: pa.Table, make: Callable[[int], pa.Table], key: str, buckets: int
) -> tuple[pa.Table, np.ndarray]:
    rows = make(unit["bucket"][0].as_py())
    return rows, _places(rows[key], buckets)


def _deal_group(unit: pa.Table, buckets: int) -> tuple[pa.Table, np.ndarray]:
    rows = stack_v2.published_rows(unit["path"][0].as_py(), unit["group"][0].as_py())
    return rows, _places(rows["name"], buckets)


def _deal_events(unit: pa.Table, buckets: int) -> tuple[pa.Table, np.ndarray]:
    """The events of an hour by the number of their repository, and in a last bucket what is damaged in its file."""
    events, faults = github_archive.events_of(unit["path"][0].as_py())
    rows = [dict.fromkeys(events.schema.names) | {"name": fault.location, "license": fault.detail} for fault in faults]
    places = by_hash(events["github_id"].to_numpy(), buckets)
    table = pa.concat_tables([events, pa.Table.from_pylist(rows, events.schema)])
    return table, np.concatenate([places, np.full(len(rows), buckets)])


def _deal_level(
    unit: pa.Table, walk: Callable[[int, int, int], pa.Table], folders: int, files: int
) -> tuple[pa.Table, np.ndarray]:
    """Folders of the next level in the buckets of their entries; behind those all else, in the buckets of contents."""
    rows = walk(*unit.to_pylist()[0].values())
    is_folder = np.equal(rows["kind"].to_numpy(), FOLDER)
    return rows, np.where(is_folder, _places(rows["node"], folders), folders + _places(rows["node"], files))


def _deal_found(
    unit: pa.Table, levels: Sequence[Buckets], stored: Buckets, folders: int
) -> tuple[pa.Table, np.ndarray]:
    bucket, part, parts = unit.to_pylist()[0].values()
    walk = pa.concat_tables([level.read(folders + bucket) for level in levels])
    found = heritage_trees.with_contents(_part(walk, part, parts), stored.read(bucket))
    return found, np.full(len(found), bucket)


def _places(keys: pa.ChunkedArray, buckets: int) -> np.ndarray:
    return by_hash(text_keys(keys.to_pylist()) if keys.type == pa.string() else id_keys(keys), buckets)


def _read(buckets: Buckets, bucket: int, change: Callable[[pa.Table], pa.Table] | None = None) -> pa.Table:
    rows = buckets.read(bucket)
    return change(rows) if change else rows


def _joined(join: Callable[[pa.Table, pa.Table], pa.Table], one: Buckets, other: Buckets, bucket: int) -> pa.Table:
    return join(one.read(bucket), other.read(bucket))


def _origins(visits: Buckets, known: Buckets, bucket: int) -> pa.Table:
    return heritage_graph.with_github(heritage_graph.newest_visits(visits.read(bucket)), known.read(bucket))


def _begun(roots: Buckets, bucket: int, part: int, parts: int) -> pa.Table:
    del part, parts  # there is a part for each bucket
    return heritage_trees.walk_of(roots.read(bucket)["directory"])


def _descended(level: Buckets, tree: Buckets, number: int, bucket: int, part: int, parts: int) -> pa.Table:
    folders, crowded = heritage_trees.guarded(level.read(bucket))
    below = heritage_trees.descend(_part(folders, part, parts), tree.read(bucket), number)
    return pa.concat_tables([below, heritage_trees.as_kind(_part(crowded, part, parts), heritage_trees.CROWDED)])


def _each(roots: Buckets, files: Buckets, source: str, store: str, left_out: LeftOut) -> Iterator[FoundRepository]:
    for bucket in range(len(roots)):
        found = files.read(bucket).sort_by([("root", "ascending"), ("path", "ascending"), ("kind", "ascending")])
        below = _Below(found, ("root",), store)
        for root in roots.read(bucket).sort_by("name").to_pylist():
            yield _repository(root, *below.of(root["directory"]), source, left_out)


def _each_published(rows: Buckets, source: str, store: str, left_out: LeftOut) -> Iterator[FoundRepository]:
    for bucket in range(len(rows)):
        found = rows.read(bucket).sort_by([("name", "ascending"), ("directory", "ascending"), ("path", "ascending")])
        below = _Below(found, ("name", "directory"), store)
        roots = stack_v2.published_roots(found)
        roots = roots.append_column("found", roots["name"])
        for root in heritage_graph.under_names_of_their_own(roots).to_pylist():
            yield _repository(root, *below.of(root["found"], root["directory"]), source, left_out)


class _Below:
    """What lies below the root directories of a bucket: rows of schema FOUND, sorted by some keys and their paths."""

    def __init__(self, rows: pa.Table, keys: Sequence[str], store: str):
        nodes = rows["node"].combine_chunks()
        stored = heritage_locations(store, *(rows[name].combine_chunks() for name in ("sha1", "node", "size")))
        location = pc.coalesce(rows["location"], stored) if "location" in rows.column_names else stored
        swhids = pc.binary_join_element_wise("swh:1:cnt:", hexed(nodes), "")
        columns = [rows["path"], location, rows["size"], swhids]
        table = rows.select([*keys, "kind"])
        for name, column in zip(_FILE, columns, strict=True):
            table = table.append_column(name, column)
        is_file = pc.equal(table["kind"], FILE)
        self._parts = [table.filter(is_file), table.filter(pc.invert(is_file))]
        self._cuts = [_cuts(part, keys) for part in self._parts]

    def of(self, *key: Any) -> tuple[pa.Table, pa.Table]:
        """The files below a root directory, and all else."""
        cuts = [cuts.get(key, (0, 0)) for cuts in self._cuts]
        files, others = (part.slice(low, high - low) for part, (low, high) in zip(self._parts, cuts, strict=True))
        return files, others


_FILE = ("path", "location", "size", "swhid")
"""The fields of a file as it was found."""


def _cuts(rows: pa.Table, keys: Sequence[str]) -> dict[tuple, tuple[int, int]]:
    """Where the rows of each key begin and end, of rows that lie together."""
    starts = np.flatnonzero(heritage_graph.is_first(rows, keys))
    found = zip(*(rows[key].take(pa.array(starts)).to_pylist() for key in keys), strict=True)
    ends = [*starts[1:].tolist(), len(rows)][: len(starts)]
    return dict(zip(found, zip(starts.tolist(), ends, strict=True), strict=True))


def _repository(root: dict, files: pa.Table, others: pa.Table, source: str, left_out: LeftOut) -> FoundRepository:
    """A repository, given its root directory (schema ROOTS) and what lies below it."""
    origin = Origin(
        url=root["url"] or "",
        branch=as_text(os.fsdecode(root["branch"])),
        directory=_swhid("dir", root["directory"]),
        revision_date=_date(root["date"]),
        committer_date=_date(root["committer_date"]),
        snapshot=_swhid("snp", root["snapshot"]),
        visit_date=_date(root["visit_date"]),
        stars=root["stars"],
        forks=root["forks"],
        gha_license=root["license"] or "",
        github_id=root["github_id"],
    )
    repository = FoundRepository(source, root["name"], _swhid("rev", root["revision"]), [], origin=origin)
    place = f"{source}/{root['name']}"
    if len(files) + len(others) > _MOST_PATHS:
        repository.fault = SourceError("too_many_paths", place)
        left_out.add(repository.fault)
        return repository
    repository.files = [FoundFile(*values) for values in _values(files)]
    links = []
    for kind, values in zip(others["kind"].to_pylist(), _values(others), strict=True):
        path = values[0]
        fault = SourceError(KINDS[kind], f"{place}/{path}" if path else place)
        left_out.add(fault)
        repository.fault = repository.fault if path else fault
        if promises_license(path) and kind in _OF_A_FILE:
            repository.missing.append((path, None))
            links += [FoundFile(*values)] if kind == LINK and values[1] is not None else []
    _follow(repository, links)
    return repository


def _values(files: pa.Table) -> Iterator[tuple]:
    return zip(*(files[name].to_pylist() for name in _FILE), strict=True)


_MOST_PATHS = 4_000_000
"""As of a clone: a few small directories can name each other in any number."""

_OF_A_FILE = (LINK, heritage_trees.SUBMODULE, heritage_trees.NOT_ARCHIVED)


def _follow(repository: FoundRepository, links: Sequence[FoundFile]) -> None:
    """Finds the files that links lead to, whose names promise a licence."""
    if not links:
        return
    files = {file.path: file for file in repository.files}
    targets = {}
    for link, target in zip(links, read_contents([link.location for link in links], _LINK_BYTES), strict=True):
        if isinstance(target, bytes):
            path = posixpath.join(posixpath.dirname(link.path), as_text(os.fsdecode(target)))
            targets[link.path] = files.get(posixpath.normpath(path))
    repository.missing = [(path, targets.get(path)) for path, _ in repository.missing]


def _swhid(kind: str, identifier: bytes) -> str:
    return f"swh:1:{kind}:{identifier.hex()}" if identifier != NOTHING else ""


def _date(microseconds: int | None) -> str:
    """Such as 2023-07-26T10:00:00Z; "" for none, and for one that no calendar has."""
    if microseconds is None:
        return ""
    try:
        return (_EPOCH + timedelta(seconds=microseconds // _SECOND)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        return ""
