"""What the tests of this room look at in a listing."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sc2jax.corpus.config import SourceConfig
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.listing import FILES, LICENSE_FILES
from sc2jax.corpus.stages.listing import Listing, write_listing
from sc2jax.records.stage import Stage

LIMIT = 1 << 20
LISTING = "sc2jax-listing-"
"""What the names of the folders begin with that listings are written in."""


@dataclasses.dataclass(frozen=True)
class LeftOutOf:
    statistics: Mapping[str, Any]

    def __bool__(self) -> bool:
        return bool(self.statistics)


@dataclasses.dataclass(frozen=True)
class WholeListing:
    """The tables of all units, with the names of the repositories, sorted by these; files are as they are read."""

    files: pa.Table
    licenses: pa.Table
    repositories: pa.Table
    digest: str
    left_out: LeftOutOf


def list_sources(
    sources: Sequence[SourceFolder],
    limit: int,
    output: str = "",
    damaged: str = "skip",
    sample: float = 1.0,
    unit_bytes: int = LIMIT,
) -> WholeListing:
    with listed(sources, limit, output, damaged, sample, unit_bytes) as listing:
        accounts = [listing.account(unit) for unit in range(len(listing))]
        repositories = pa.concat_tables([*accounts, *listing.aside()]).sort_by("repository")
        left_out = LeftOutOf(listing.left_out)
        return WholeListing(_all(listing, "files"), _all(listing, "licenses"), repositories, listing.digest, left_out)


@contextlib.contextmanager
def listed(
    sources: Sequence[SourceFolder],
    limit: int,
    output: str = "",
    damaged: str = "skip",
    sample: float = 1.0,
    unit_bytes: int = LIMIT,
) -> Iterator[Listing]:
    """A listing in a folder of its own, as long as the context lasts."""
    config = SourceConfig(max_file_bytes=limit, damaged=damaged, sample=sample, unit_bytes=unit_bytes)
    with tempfile.TemporaryDirectory(prefix=LISTING) as folder:
        stage = Stage("listing", 1, {}, {}, lambda unfinished: write_listing(unfinished, sources, output, config))
        yield Listing(Committed(folder, stage.run(folder)))


def _all(listing: Listing, name: str) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for unit in range(len(listing)):
        repositories = listing.table(unit, "repositories").to_pylist()
        for row in listing.table(unit, name).to_pylist():
            of = repositories[row.pop("number")]
            if of["repository"]:
                known = {"revision": of["revision"] or ""} if name == "files" else {}
                rows.append({"repository": of["repository"], **known, **row})
    known = [("revision", pa.string())] if name == "files" else []
    schema = pa.schema([("repository", pa.string()), *known, *list(_SCHEMAS[name])[1:]])
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["repository"]), schema)


_SCHEMAS = {"files": FILES, "licenses": LICENSE_FILES}


def names(listing: WholeListing) -> list[tuple[str, str]]:
    return list(zip(listing.files["repository"].to_pylist(), listing.files["path"].to_pylist(), strict=True))


def licensed(listing: WholeListing) -> set[tuple[str, str, str]]:
    rows = listing.licenses.to_pylist()
    return {(row["repository"], row["folder"], Path(os.fsdecode(row["location"])).name) for row in rows}
