# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""From the root directories of Software Heritage to their files, a level at a time, over the rows of one bucket.

The walk is that of bigcode-project/the-stack-v2 (`1_directory_traversal/find_file_paths.py`): 64 levels, and of the
rows that lead to one directory at one level no more than a million. What it drops without a word has a reason here, as
it has in a clone (`git_trees.py`), and so has what The Stack v2 takes and a clone does not: symbolic links, whose text
is a path, and names that lead elsewhere. Submodules are dropped by both.
"""

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.sources.git_trees import MOST_IN_A_LEVEL, MOST_LEVELS
from sc2jax.corpus.sources.heritage_graph import pairs
from sc2jax.corpus.sources.heritage_tables import ID, packed
from sc2jax.corpus.sources.left_out import as_text

KINDS = (
    "folder",
    "file",
    "link",
    "submodule",
    "unsafe_path",
    "lost_folder",
    "crowded_folder",
    "too_deep",
    "not_archived",
)
"""What a row of the walk is: a folder, a file, or something that is left out for this reason."""

FOLDER, FILE, LINK, SUBMODULE, UNSAFE, LOST, CROWDED, TOO_DEEP, NOT_ARCHIVED = range(len(KINDS))

ENTRIES = pa.schema([("parent", ID), ("name", pa.string()), ("kind", pa.int8()), ("target", ID)])
"""An entry of a directory; `name` is text, from which its bytes can be told (`left_out.as_text`)."""

WALK = pa.schema([("root", ID), ("path", pa.string()), ("node", ID), ("kind", pa.int8())])
"""What lies below a root directory at a path; `node` is the git sha1 of the directory or content."""

CONTENTS = pa.schema([("node", ID), ("sha1", ID), ("size", pa.int64())])
FOUND = pa.schema([*WALK, ("sha1", ID), ("size", pa.int64())])
"""The same with the plain sha1 of its content, by which that is stored, and its bytes; null where it has none."""

_EMPTY = bytes.fromhex("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
"""The only directory without entries: its name is the hash of them."""

_LINK_MODE, _MODE_KINDS = 0o120000, 0o170000
_PLAIN = r"^[A-Za-z0-9_+@%~,=()\[\] .-]*$"
_LEADING = r"^(\.\.?|\.[gG][iI][tT]|)$"


def entries_of(table: pa.Table, where: str) -> pa.Table:
    """The entries of directories, of rows of `directory_entry` (schema ENTRIES)."""
    for name in ("name", "type", "target"):
        table = table.filter(pc.is_valid(table[name]))
    is_file = pc.equal(table["type"], "file")
    is_link = pc.fill_null(pc.equal(pc.bit_wise_and(table["perms"], _MODE_KINDS), _LINK_MODE), False)
    kinds = pc.if_else(
        is_file, pc.if_else(is_link, LINK, FILE), pc.if_else(pc.equal(table["type"], "rev"), SUBMODULE, FOLDER)
    )
    names, unsafe = _names(table["name"])
    kinds = pc.if_else(pa.array(unsafe), UNSAFE, kinds)
    parents, targets = packed(table["directory_id"], where), packed(table["target"], where)
    return pa.Table.from_arrays([parents, names, kinds, targets], names=ENTRIES.names).cast(ENTRIES)


def _names(names: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Names as text, and which of them git itself does not check out: they lead elsewhere, or into its own folder."""
    names = names.combine_chunks()
    # Those of a few characters, nearly all, are looked at without making a Python object of each.
    plain = pc.match_substring_regex(names, _PLAIN).to_numpy(zero_copy_only=False)
    unsafe = pc.match_substring_regex(names, _LEADING).to_numpy(zero_copy_only=False).copy()
    if plain.all():
        return names.cast(pa.string()), unsafe
    others = np.flatnonzero(~plain)
    found = names.take(pa.array(others)).to_pylist()
    unsafe[others] |= [b"/" in name for name in found]
    texts = pa.array([as_text(os.fsdecode(name)) for name in found], pa.string())
    safe = pc.if_else(pa.array(plain), names, b"").cast(pa.string())
    return pc.replace_with_mask(safe, pa.array(~plain), texts), unsafe


def in_order(entries: pa.Table) -> pa.Table:
    """Entries by directory and name; one that an export holds twice counts once."""
    order = [("parent", "ascending"), ("name", "ascending"), ("kind", "ascending"), ("target", "ascending")]
    return entries.group_by(entries.column_names, use_threads=False).aggregate([]).sort_by(order)


def guarded(walk: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Folders of one level, by node: at most so many of each, the first by root directory and path; and the others."""
    walk = walk.sort_by([("node", "ascending"), ("root", "ascending"), ("path", "ascending")])
    most = MOST_IN_A_LEVEL
    if len(walk) <= most:
        return walk, walk.slice(0, 0)
    encoded = walk["node"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(encoded, prepend=-1))
    place = np.arange(len(walk)) - np.repeat(starts, np.diff(starts, append=len(walk)))
    return walk.filter(pa.array(place < most)), walk.filter(pa.array(place >= most))


def descend(folders: pa.Table, entries: pa.Table, level: int) -> pa.Table:
    """What lies directly in folders of a level, from 0 (schema WALK).

    A folder without entries is one that the export does not hold, but for the empty directory. Below the last level
    folders are not followed.
    """
    rows, found = pairs(folders["node"], entries["parent"])
    above, below = folders.take(pa.array(rows)), entries.take(pa.array(found))
    joined = pc.binary_join_element_wise(above["path"], below["name"], "/")
    paths = pc.if_else(pc.equal(above["path"], ""), below["name"], joined)
    kinds = below["kind"]
    if level == MOST_LEVELS - 1:
        kinds = pc.if_else(pc.equal(kinds, FOLDER), TOO_DEEP, kinds)
    walked = _walk([above["root"], paths, below["target"], kinds])
    empty = np.ones(len(folders), bool)
    empty[rows] = False
    lost = folders.filter(pa.array(empty))
    lost = lost.filter(pc.not_equal(lost["node"], pa.scalar(_EMPTY, ID)))
    return pa.concat_tables([walked, as_kind(lost, LOST)])


def walk_of(roots: pa.ChunkedArray) -> pa.Table:
    """Where the walk begins: at the root directories, whose path is ""."""
    paths, kinds = pa.array([""] * len(roots), pa.string()), pa.array(np.full(len(roots), FOLDER, np.int8))
    return _walk([roots, paths, roots, kinds])


def as_kind(walk: pa.Table, kind: int) -> pa.Table:
    """Rows of the walk as another kind."""
    return _walk([*walk.columns[:3], pa.array(np.full(len(walk), kind, np.int8))])


def _walk(columns: list) -> pa.Table:
    return pa.Table.from_arrays(columns, names=WALK.names).cast(WALK)


def contents_of(table: pa.Table, where: str) -> pa.Table:
    """The contents that have a plain sha1 and a length, of rows of `content` (schema CONTENTS).

    Their `status` is not looked at, as in The Stack v2: what the archive does not show is not in its store either.
    """
    table = table.select(["sha1_git", "sha1", "length"]).drop_null()
    columns = [packed(table["sha1_git"], where), packed(table["sha1"], where), table["length"]]
    return pa.Table.from_arrays(columns, names=CONTENTS.names).cast(CONTENTS)


def with_contents(walk: pa.Table, contents: pa.Table) -> pa.Table:
    """Files and links with their contents (schema FOUND); a file without one is not in the archive.

    Of several contents with one git sha1, which nobody has made yet, the first by sha1 counts.
    """
    contents = contents.sort_by([("node", "ascending"), ("sha1", "ascending")])
    place = pc.index_in(walk["node"], contents["node"].combine_chunks())
    stored = pc.is_in(walk["kind"], pa.array([FILE, LINK], pa.int8()))
    place = pc.if_else(stored, place, pa.scalar(None, pa.int32()))
    found = contents.take(place)
    lost = pc.and_(pc.is_null(place), pc.equal(walk["kind"], FILE))
    kinds = pc.if_else(lost, pa.scalar(NOT_ARCHIVED, pa.int8()), walk["kind"])
    columns = [*walk.columns[:3], kinds, found["sha1"], found["size"]]
    return pa.Table.from_arrays(columns, names=FOUND.names).cast(FOUND)
