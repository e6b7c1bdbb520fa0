# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""A corpus built again: the contents of its files, found by their identifiers, and from them its parts, to the byte.

The files of the corpus and those that the sources hold come together by their identifiers (`shuffle.py`), wherever they
lie: a repository may have moved, and a file been renamed. Then each part of the corpus is made of its own files.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax import storage
from sc2jax.corpus.config import MIB
from sc2jax.corpus.decoding import decode_as
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.shuffle import Buckets, buckets_for, by_hash, dealt, text_keys
from sc2jax.corpus.sources.contents import Content, reading_order
from sc2jax.corpus.sources.left_out import SourceError, in_a_line
from sc2jax.corpus.sources.listing import read_listed
from sc2jax.corpus.stages.identities import FOLDER, Corpus, written_by
from sc2jax.corpus.stages.listing import Listing
from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.progress import progress
from sc2jax.records.checks import refuse_other_columns
from sc2jax.records.dataset import read_part, write_labelled_part
from sc2jax.records.edits import Edit, edited_source
from sc2jax.records.manifest import MANIFEST, Output, manifest_json, write_output
from sc2jax.records.schemas import IDENTITY, SOURCE_FILE
from sc2jax.records.stage import Written
from sc2jax.storage import join

_BUCKET_BYTES = 64 * MIB
"""Of identifiers and places that are joined at once."""

_ROW_BYTES = 200
"""Of one of them, about."""

_GROUPS = 1024
"""Groups of parts, at most, that the places of contents are dealt to."""

_NAMED = 3
"""As many files and parts are named in a message."""

_WANTED = pa.schema([pa.field("swhid", pa.string()), pa.field("part", pa.int64()), pa.field("row", pa.int64())])
"""A file of the corpus: the part that it is in, of those of both sides, and its row there."""

_FOUND = pa.schema([pa.field("swhid", pa.string()), pa.field("location", pa.binary())])
"""A file of the sources."""

_PLACED = pa.schema([pa.field("part", pa.int64()), pa.field("row", pa.int64()), pa.field("location", pa.binary())])
"""A file of the corpus and where its content lies; that is null where it is nowhere."""

_REBUILT = pa.schema(
    [
        pa.field("part", pa.int64()),
        pa.field("faults", pa.int64()),
        pa.field("named", pa.list_(pa.string())),
        pa.field("same", pa.bool_()),
    ]
)
"""What became of a part: how many of its files cannot be made, some of those, and whether it is what it was."""

_OF_TEXT = ["repository", "path", "encoding", "text_sha256", "edits", "replacements"]


def refuse_other_writer(corpus: Corpus) -> None:
    """Makes sure, before any work, that Parquet is written here as it was there: each file says what wrote it.

    Raises:
        UserError: naming what differs.
    """
    differing = _other_versions(corpus)
    if {"arrow", "codec"} & differing.keys():
        raise UserError(f"the corpus of {corpus.folder} cannot be built here to the byte: {_told(differing)}")


def write_rebuilt(folder: str, corpus: Corpus, listing: Listing) -> Written:
    """Writes both sides of a corpus, and the identities of its files, as they were written.

    Raises:
        UserError: contents are missing, or are not what they were, or a part comes out other than it was.
    """
    parts, units = len(corpus.parts), pa.table({"unit": np.arange(len(listing))})
    buckets = buckets_for((corpus.files + listing.files) * _ROW_BYTES, _BUCKET_BYTES)
    groups = min(parts, _GROUPS)
    with contextlib.ExitStack() as held:
        want = functools.partial(_want, corpus=corpus, buckets=buckets)
        find = functools.partial(_find, listing=listing, buckets=buckets)
        numbers = pa.table({"part": np.arange(parts)})
        wanted = held.enter_context(dealt(folder, numbers, want, _WANTED, buckets))
        found = held.enter_context(dealt(folder, units, find, _FOUND, buckets))
        place = functools.partial(_place, wanted=wanted, found=found, groups=groups)
        placed = held.enter_context(dealt(folder, wanted.units(), place, _PLACED, groups + 1))
        _refuse_missing(placed, corpus, listing)
        rebuild = functools.partial(_rebuild, folder=folder, placed=placed, corpus=corpus)
        with map_units(pa.table({"group": np.arange(groups)}), np.arange(groups), rebuild, _REBUILT) as results:
            _refuse_others(progress(results, total=groups, desc="parts", unit="batch"), corpus)
    outputs = [*corpus.parts, *(_moved(output) for output in corpus.identities)]
    outputs.append(write_output(folder, join(FOLDER, MANIFEST), manifest_json(corpus.manifest), result=False))
    return outputs, {**corpus.statistics["corpus"], "left_out": listing.left_out}


def _moved(identities: Output) -> Output:
    return dataclasses.replace(identities, path=join(FOLDER, identities.path), result=False)


def _find(unit: pa.Table, listing: Listing, buckets: int) -> tuple[pa.Table, np.ndarray]:
    files = listing.table(unit["unit"][0].as_py(), "files").select(_FOUND.names)
    return files, _buckets(files["swhid"], buckets)


def _want(unit: pa.Table, corpus: Corpus, buckets: int) -> tuple[pa.Table, np.ndarray]:
    part = unit["part"][0].as_py()
    swhids = pa.concat_tables(read_part(corpus.folder, corpus.identities[part], ["swhid"]))["swhid"]
    rows = pa.table({"swhid": swhids, "part": np.full(len(swhids), part), "row": np.arange(len(swhids))})
    return rows, _buckets(swhids, buckets)


def _buckets(swhids: pa.ChunkedArray, buckets: int) -> np.ndarray:
    return by_hash(text_keys(swhids.to_pylist()), buckets)


def _place(unit: pa.Table, wanted: Buckets, found: Buckets, groups: int) -> tuple[pa.Table, np.ndarray]:
    """The files of a bucket with where their contents lie, dealt by part; those without behind all others."""
    bucket = unit["bucket"][0].as_py()
    files, contents = wanted.read(bucket), found.read(bucket)
    at = pc.index_in(files["swhid"], _flat(contents["swhid"]))
    rows = pa.table({"part": files["part"], "row": files["row"], "location": contents["location"].take(at)})
    return rows, np.where(at.is_null().to_numpy(), groups, files["part"].to_numpy() % groups)


def _refuse_missing(placed: Buckets, corpus: Corpus, listing: Listing) -> None:
    last = len(placed) - 1
    count = int(placed.counts[:, last].sum())
    if not count:
        return
    rows = next(placed.pieces(last)).slice(0, _NAMED).to_pylist()
    unread = in_a_line(listing.left_out)
    raise UserError(
        f"the contents of {count:,} of {corpus.files:,} files of {corpus.folder} are not in the sources "
        f"({_some([_name(corpus, row['part'], row['row']) for row in rows], count)}); name more of them in paths.source"
        + (f"; left out of the sources: {unread}" if unread else "")
    )


def _name(corpus: Corpus, part: int, row: int) -> str:
    tables = read_part(corpus.folder, corpus.identities[part], ["repository", "path", "swhid"])
    (found,) = pa.concat_tables(tables).slice(row, 1).to_pylist()
    return f"{found['repository']}: {found['path']}, {found['swhid']}"


def _some(names: Sequence[str], count: int) -> str:
    return "; ".join([*map(terminal_text, names[:_NAMED]), *(["..."] if count > _NAMED else [])])


def _rebuild(unit: pa.Table, folder: str, placed: Buckets, corpus: Corpus) -> pa.Table:
    """Writes the parts of a group, one by one."""
    group = unit["group"][0].as_py()
    files = placed.read(group).sort_by([("part", "ascending"), ("row", "ascending")])
    rows = []
    for part in files["part"].unique().to_pylist():
        locations = files.filter(pc.equal(files["part"], part))["location"].to_pylist()
        rows.append({"part": part, **_rebuild_part(folder, corpus, part, locations)})
    return pa.Table.from_pylist(rows, _REBUILT)


def _rebuild_part(folder: str, corpus: Corpus, part: int, locations: Sequence[bytes]) -> dict[str, Any]:
    written, known = _identities(corpus.folder, corpus.identities[part])
    swhids = [swhid for table in known for swhid in table["swhid"].to_pylist()]
    contents = _contents(locations, swhids, corpus.statistics["largest_file"])
    tables, named, faults, at = [], [], 0, 0
    for table in known:
        texts = []
        for content, row in zip(contents[at : at + len(table)], table.select(_OF_TEXT).to_pylist(), strict=True):
            text, fault = _text(content, row)
            texts.append(text)
            if fault:
                faults += 1
                named.append(f"{row['repository']}: {row['path']}, {fault}")
        at += len(table)
        tables.append(table.append_column(SOURCE_FILE.field("content"), pa.array(texts, pa.large_string())))
    if faults:
        return {"faults": faults, "named": named[:_NAMED], "same": False}
    side, label = corpus.places[part]
    made = write_labelled_part(folder, side, label, (table.select(SOURCE_FILE.names) for table in tables), SOURCE_FILE)
    write_output(folder, _moved(corpus.identities[part]).path, written)
    return {"faults": 0, "named": [], "same": made == corpus.parts[part]}


def _identities(folder: str, output: Output) -> tuple[bytes, list[pa.Table]]:
    """The identities of the files of a part: the file that holds them, and its row groups."""
    path = join(folder, output.path)
    tables = list(read_part(folder, output, IDENTITY.names))
    for table in tables:
        refuse_other_columns(table.schema, IDENTITY, IDENTITY.names, path)
    content = storage.read_bytes(path)
    if hashlib.sha256(content).hexdigest() != output.sha256:
        raise UserError(f"{path} is not what was written; bring it back")
    return content, [table.combine_chunks() for table in tables]


def _contents(locations: Sequence[bytes], swhids: Sequence[str], limit: int) -> list[Content]:
    """The content at each location, read in the order in which that is fast."""
    order = sorted(range(len(locations)), key=lambda at: _container_and_place(locations[at]))
    found = read_listed([locations[at] for at in order], [swhids[at] for at in order], limit)
    contents: list[Content] = [b""] * len(locations)
    for at, content in zip(order, found, strict=True):
        contents[at] = content
    return contents


def _container_and_place(location: bytes) -> tuple[bytes, int, bytes]:
    return location.rpartition(b"\0")[0], reading_order(location), location


def _text(content: Content, row: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a file of the corpus, and "" or why it cannot be made."""
    if isinstance(content, SourceError):
        return "", f"which cannot be read as it was listed ({content.reason})"
    source = decode_as(content, row["encoding"])
    if source is None:
        return "", f"which is no text in {row['encoding']}"
    if len(row["edits"]) != len(row["replacements"]):
        return "", f"with {len(row['edits'])} edits and {len(row['replacements'])} replacements"
    text = edited_source(source, [Edit(**edit) for edit in row["edits"]], row["replacements"])
    found = hashlib.sha256(text.encode()).hexdigest()
    return (text, "") if found == row["text_sha256"] else ("", f"whose text has the sha256 {found}")


def _refuse_others(results: Iterable[pa.Table], corpus: Corpus) -> None:
    faults, named, others = 0, [], []
    for row in _rows(results):
        faults += row["faults"]
        named += row["named"] if len(named) < _NAMED else []
        others += [] if row["same"] else [corpus.parts[row["part"]].path]
    if faults:
        raise UserError(
            f"{faults:,} of {corpus.files:,} files of {corpus.folder} cannot be made again ({_some(named, faults)}); "
            "run the same command again if the sources have changed meanwhile, else bring that folder back"
        )
    if others:
        differing = _other_versions(corpus)
        raise UserError(
            f"{len(others):,} of {len(corpus.parts):,} parts of the corpus of {corpus.folder} come out other than they "
            f"were written ({_some(others, len(others))}): "
            + (_told(differing) if differing else "no version differs, so it was written with another corpus")
        )


def _rows(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from table.to_pylist()


def _other_versions(corpus: Corpus) -> dict[str, tuple[str, str]]:
    """What was written by another version than it would be here: theirs and ours."""
    theirs, ours = corpus.statistics["written_by"], written_by()
    names = [*ours, *(name for name in theirs if name not in ours)]
    pairs = {name: (theirs.get(name, "none"), ours.get(name, "none")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _told(differing: Mapping[str, tuple[str, str]]) -> str:
    said = ", ".join(f"{name} {theirs} (here {ours})" for name, (theirs, ours) in differing.items())
    return f"it was written by {terminal_text(said)}; install those versions"


def _flat(column: pa.ChunkedArray) -> pa.Array:
    """A column without chunks."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
