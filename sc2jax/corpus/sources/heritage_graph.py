# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""From the origins of Software Heritage to files: what The Stack v2 decides on the way, over the rows of one bucket.

The rules are those of bigcode-project/the-stack-v2 (`0_repo_data/merge_gha_swh.py`, `1_directory_traversal/`; section
2.1 of the StarCoder2 paper), each a function of tables that hold all rows of some keys. Where that code leaves to
chance which of several rows is taken, or loses something without a word, it is decided here, and its function says how.
Dates are microseconds since 1970; rows come out in an order that follows from the rows alone.
"""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.sources.heritage_tables import ID, NOTHING, packed
from sc2jax.corpus.sources.left_out import as_text

PREFIX = "https://github.com/"
_NAME = r"^https://github\.com/(?P<name>[^/]+/[^/]+)"
_USUAL_BRANCHES = (b"HEAD", b"refs/heads/master", b"refs/heads/main")
"""Taken where GHArchive knows no default branch. HEAD is one only where a visit found it detached: an alias is none."""

_FIRST = np.iinfo(np.int64).min
"""Before every date and number."""

VISITS = pa.schema(
    [("name", pa.string()), ("url", pa.string()), ("visit", pa.int64()), ("date", pa.int64()), ("snapshot", ID)]
)
"""A visit of an origin that saw all of it; `name` is `owner/repository`."""

_GITHUB = [("stars", pa.int64()), ("forks", pa.int64()), ("license", pa.string()), ("github_id", pa.int64())]
ARCHIVED = pa.schema([("name", pa.string()), *_GITHUB, ("branch", pa.binary())])
"""What GHArchive knows of a repository's number and name (see `github_archive.py`)."""

_ORIGIN = [("name", pa.string()), ("url", pa.string()), ("visit_date", pa.int64()), ("snapshot", ID), *_GITHUB]
ORIGINS = pa.schema([*_ORIGIN, ("default", pa.binary())])
"""An origin and a default branch of it, null where GHArchive knows none."""

BRANCHES = pa.schema([("snapshot", ID), ("branch", pa.binary()), ("revision", ID)])
CANDIDATES = pa.schema([*_ORIGIN, ("branch", pa.binary()), ("revision", ID)])
"""A branch of an origin that may be taken."""

REVISIONS = pa.schema([("revision", ID), ("date", pa.int64()), ("committer_date", pa.int64()), ("directory", ID)])
ROOTS = pa.schema([*CANDIDATES, *list(REVISIONS)[1:]])
"""A branch of an origin with its commit and the root directory of that."""


def full_visits(table: pa.Table, where: str) -> pa.Table:
    """The visits of GitHub's repositories that saw all, of rows of `origin_visit_status` (schema VISITS).

    An origin whose address goes on with no `owner/repository` is none; The Stack v2 calls it "".
    """
    table = table.filter(pc.and_(pc.equal(table["status"], "full"), pc.starts_with(table["origin"], PREFIX)))
    names = pc.struct_field(pc.extract_regex(table["origin"], _NAME), "name")
    columns = [names, table["origin"], table["visit"], table["date"], packed(table["snapshot"], where)]
    return _of(columns, VISITS).filter(pc.is_valid(names))


def newest_visits(visits: pa.Table) -> pa.Table:
    """The newest visit of each origin, if it has a snapshot: that of the largest number.

    Of several that saw all under one number the last counts, then the one of the largest snapshot.
    """
    order = [("url", "ascending"), ("visit", "descending"), ("date", "descending"), ("snapshot", "descending")]
    newest = first_of_each(visits.sort_by(order), ["url"])
    return newest.filter(pc.not_equal(newest["snapshot"], pa.scalar(NOTHING, ID)))


def with_github(visits: pa.Table, archived: pa.Table) -> pa.Table:
    """Origins with what GHArchive knows of their names (schema ORIGINS): a row for each default branch.

    A name may have had several repositories one after the other. Any of them says which branch is taken; licence, stars
    and forks are those of the one that the rule for equal directories prefers, as if each were a repository there.
    Stars and forks are null where GHArchive does not know the name; a repository without an event has 0.
    """
    visits = visits.rename_columns({"date": "visit_date"}).select(["name", "url", "visit_date", "snapshot"])
    best = first_of_each(_in_order(archived, [("name", "ascending"), *_PREFERRED, *_OLDER]), ["name"])
    defaults = archived.group_by(["name", "branch"]).aggregate([]).sort_by([("name", "ascending")])
    known = pc.index_in(visits["name"], best["name"])
    about = best.take(known).select([name for name, _ in _GITHUB])
    rows, branches = pairs(visits["name"], defaults["name"])
    lone = np.flatnonzero(known.is_null().to_numpy())
    default = defaults["branch"].take(
        pa.array(np.concatenate([branches, np.full(len(lone), 0)]), mask=_mask(rows, lone))
    )
    origins = pa.Table.from_arrays([*visits.columns, *about.columns], names=[name for name, _ in _ORIGIN])
    origins = origins.take(pa.array(np.concatenate([rows, lone])))
    return _of([*origins.columns, default], ORIGINS)


def _mask(rows: np.ndarray, lone: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(len(rows), bool), np.ones(len(lone), bool)])


def branches_of(table: pa.Table, where: str) -> pa.Table:
    """The branches that are commits themselves, of rows of `snapshot_branch` (schema BRANCHES)."""
    table = table.filter(pc.and_(pc.equal(table["target_type"], "revision"), pc.is_valid(table["target"])))
    return _of([packed(table["snapshot_id"], where), table["name"], packed(table["target"], where)], BRANCHES)


def chosen_branches(origins: pa.Table, branches: pa.Table) -> pa.Table:
    """The default branch of each origin as GHArchive has it, or else all with a usual name (schema CANDIDATES).

    Names are compared as bytes: one that is no UTF-8 is nobody's default.
    """
    rows, found = pairs(origins["snapshot"], branches["snapshot"])
    origins, branches = origins.take(pa.array(rows)), branches.take(pa.array(found))
    default = pc.fill_null(pc.equal(branches["branch"], origins["default"]), False)
    usual = pc.is_in(branches["branch"], pa.array(_USUAL_BRANCHES))
    taken = pc.or_(default, pc.and_(pc.is_null(origins["default"]), usual))
    columns = [*origins.columns[:-1], branches["branch"], branches["revision"]]
    return _of(columns, CANDIDATES).filter(taken)


def git_revisions(table: pa.Table, where: str) -> pa.Table:
    """The commits of git, of rows of `revision` (schema REVISIONS)."""
    table = table.filter(pc.and_(pc.equal(table["type"], "git"), pc.is_valid(table["directory"])))
    ids, directories = packed(table["id"], where), packed(table["directory"], where)
    return _of([ids, table["date"], table["committer_date"], directories], REVISIONS)


def one_per_revision(candidates: pa.Table, revisions: pa.Table) -> pa.Table:
    """Of all branches of all origins that are one commit, the one of the largest name (schema ROOTS).

    Forks share commits and branch names. Among those The Stack v2 takes any; here the rule for equal directories
    decides, so that the repository that others were forked from is preferred to its forks.
    """
    rows, found = pairs(candidates["revision"], revisions["revision"])
    columns = candidates.take(pa.array(rows)).columns + revisions.take(pa.array(found)).columns[1:]
    newest = [("date", "descending"), ("branch", "descending")]
    ordered = _in_order(_of(columns, ROOTS), [("revision", "ascending"), *newest, *_PREFERRED, *_OLDER, *_LAST])
    return first_of_each(ordered, ["revision"])


def one_per_directory(roots: pa.Table) -> pa.Table:
    """Of all commits with the same root directory the one of the best repository.

    That is the one with a licence (the first by name), most stars, most forks, the oldest commit, the oldest repository
    and visit. As in The Stack v2 a number or date that is not known comes before others. Where all of these are equal,
    the first by address is taken, then the largest branch.
    """
    order = [("directory", "ascending"), *_PREFERRED, ("date", "ascending"), *_OLDER, *_LAST]
    return first_of_each(_in_order(roots, order), ["directory"])


_PREFERRED = [
    ("no_license", "ascending"),
    ("license", "ascending"),
    ("stars", "descending"),
    ("forks", "descending"),
]
_OLDER = [("github_id", "ascending")]
_LAST = [("visit_date", "ascending"), ("url", "ascending"), ("branch", "descending"), ("revision", "ascending")]
_UNKNOWN = {"license": "", "stars": 0, "forks": 0, "github_id": _FIRST, "date": _FIRST, "visit_date": _FIRST}


def _in_order(table: pa.Table, order: Sequence[tuple[str, str]]) -> pa.Table:
    """Rows in an order, with what is unknown where Spark has it: first, but after all licences."""
    ordered = table.append_column("no_license", pc.is_null(table["license"]))
    for name, value in _UNKNOWN.items():
        if name in table.column_names:
            place = ordered.schema.get_field_index(name)
            ordered = ordered.set_column(place, name, pc.fill_null(ordered[name], value))
    return table.take(pc.sort_indices(ordered, sort_keys=list(order)))


def under_names_of_their_own(roots: pa.Table) -> pa.Table:
    """Gives each root a name that no other has, given all roots of some names.

    Without a known default branch, `master`, `main` and HEAD may all be taken, and two addresses may lead to one name;
    The Stack v2 leaves these under one name. Here the newest commit has the name of its repository, and the others have
    their branch behind it, and where that is not enough, their directory: no such name is a repository's.
    """
    newest = [("date", "descending"), ("branch", "descending")]
    roots = _in_order(roots, [("name", "ascending"), *newest, ("url", "ascending"), ("directory", "ascending")])
    names = [as_text(name) for name in roots["name"].to_pylist()]
    taken = set(names)
    for row in np.flatnonzero(~is_first(roots, ["name"])).tolist():
        name = f"{names[row]}/{as_text(os.fsdecode(roots['branch'][row].as_py()))}"
        names[row] = name if name not in taken else f"{names[row]}/{roots['directory'][row].as_py().hex()}"
        taken.add(names[row])
    return roots.set_column(0, "name", pa.array(names, pa.string()))


def pairs(keys: pa.ChunkedArray, others: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of two tables that have the same key: for each row of the first in turn those of the second."""
    encoded = others.combine_chunks().dictionary_encode()
    group = pc.index_in(keys, encoded.dictionary)
    known = np.flatnonzero(group.is_valid().to_numpy())
    of_row = group.drop_null().to_numpy().astype(np.int64)
    of_other = encoded.indices.to_numpy()
    in_turn = np.argsort(of_other, kind="stable")
    sizes = np.bincount(of_other, minlength=len(encoded.dictionary))
    starts = np.cumsum(sizes) - sizes
    counts = sizes[of_row]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(known, counts), in_turn[np.repeat(starts[of_row], counts) + within]


def first_of_each(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The first row of each key, of rows that lie together."""
    return table.filter(pa.array(is_first(table, keys)))


def is_first(table: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Which rows are the first of their key, of rows that lie together."""
    first = np.zeros(len(table), bool)
    first[:1] = True
    for key in keys:
        column = table[key].combine_chunks()
        first[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return first


def _of(columns: Sequence[pa.ChunkedArray | pa.Array], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays(list(columns), names=schema.names).cast(schema)
