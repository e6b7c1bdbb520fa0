"""Places: the order in which repositories are preferred, where several hold equal or similar files.

The one with the most stars comes first, then with the most forks, the latest commit, the latest visit; what is not
known comes last, and the name decides in the end (bigcode-project/the-stack-v2). The order of all of them is a table: a
repository's place is its number in it.
"""

import bisect
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import EngineConfig
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.shuffle import Buckets, buckets_for, dealt
from sc2jax.corpus.stages.listing import Listing, rows_of
from sc2jax.corpus.units import units_of_a_group
from sc2jax.records.dataset import read_part, write_part
from sc2jax.records.manifest import Output
from sc2jax.records.stage import Written

_COLUMNS = ["repository", "stars", "forks", "revision_date", "visit_date"]
_KEYS = pa.schema([("key", pa.binary()), ("name", pa.string()), ("unit", pa.int64())])
_PLACES = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("repository", pa.string(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
    ]
)
_SAMPLE = pa.schema([("key", pa.binary())])
_SAMPLED = 32
"""Repositories of a unit by which the buckets are cut."""
_KEY_BYTES = 128
_DATE = 24
_NEVER = b"\xff" * _DATE


@dataclasses.dataclass(frozen=True)
class Places:
    """The places of the repositories, by unit."""

    stage: Committed
    units: int

    @property
    def digest(self) -> str:
        """The digest of what the stage wrote."""
        return self.stage.digest

    def of(self, unit: int) -> Mapping[str, int]:
        """Of the repositories of a unit: name -> place."""
        path = self.stage.manifest.statistics["groups"].get(str(unit // units_of_a_group(self.units)))
        found: dict[str, int] = {}
        for output in self.stage.manifest.outputs:
            if output.path == path:
                for table in read_part(self.stage.folder, output):
                    low, high = np.searchsorted(table["unit"].to_numpy(), [unit, unit + 1])
                    found.update(rows_of(table.slice(low, high - low).select(["repository", "place"])))
        return found


def write_places(folder: str, listing: Listing, engine_config: EngineConfig) -> Written:
    """Orders all repositories."""
    units = pa.table({"unit": np.arange(len(listing))})
    repositories = sum(unit["repositories"] for unit in listing.units)
    buckets = buckets_for(_KEY_BYTES * repositories, engine_config.partition_bytes)
    groups = -(-len(listing) // units_of_a_group(len(listing)))
    deal = functools.partial(_deal_keys, listing=listing, cuts=_cuts(units, listing, buckets))
    with dealt(folder, units, deal, _KEYS, buckets) as keys:
        starts = np.cumsum([0, *keys.counts.sum(axis=0).tolist()])
        number = functools.partial(_number, keys=keys, starts=starts, units=len(listing))
        with dealt(folder, keys.units(), number, _PLACES, groups) as places:
            write = functools.partial(_write_group, folder=folder, places=places)
            with map_units(places.units(), np.arange(groups), write, _DONE) as results:
                paths = [Output(**row) for table in results for row in table.to_pylist()]
    return paths, {"groups": {str(group): output.path for group, output in enumerate(paths)}}


_DONE = pa.schema(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("rows", pa.int64()),
        ("row_groups", pa.int64()),
        ("footer_sha256", pa.string()),
    ]
)


def _cuts(units: pa.Table, listing: Listing, buckets: int) -> list[bytes]:
    """The least key of each bucket but the first, so that they get about equally many."""
    if buckets == 1:
        return []
    sample = functools.partial(_sample, listing=listing)
    with map_units(units, np.arange(len(units)), sample, _SAMPLE) as results:
        found = sorted(key for table in results for key in table["key"].to_pylist())
    return [found[len(found) * bucket // buckets] for bucket in range(1, buckets)]


def _sample(unit: pa.Table, listing: Listing) -> pa.Table:
    keys = [key for key, _ in _keys(listing, unit["unit"][0].as_py())]
    step = max(1, len(keys) // _SAMPLED)
    return pa.table({"key": keys[::step]}, _SAMPLE)


def _keys(listing: Listing, unit: int) -> list[tuple[bytes, str]]:
    """The repositories of a unit, each with a key in whose order they are preferred."""
    rows = rows_of(listing.table(unit, "repositories").select(_COLUMNS))
    return [(_key(*row), row[0]) for row in rows if row[0]]


def _key(name: str, stars: int | None, forks: int | None, revision_date: str | None, visit_date: str | None) -> bytes:
    numbers = b"".join(_LAST if value is None else (_MOST - value).to_bytes(8, "big") for value in (stars, forks))
    dates = b"".join(_latest_first(date) for date in (revision_date, visit_date))
    return numbers + dates + name.encode()


_MOST = 2**63 - 1
_LAST = b"\xff" * 8


def _latest_first(date: str | None) -> bytes:
    """A date, as ISO 8601 writes it in UTC, such that a later one comes first."""
    if date is None:
        return _NEVER
    return bytes(255 - byte for byte in date.encode()[:_DATE]).ljust(_DATE, b"\xff")


def _deal_keys(unit: pa.Table, listing: Listing, cuts: list[bytes]) -> tuple[pa.Table, np.ndarray]:
    number = unit["unit"][0].as_py()
    found = _keys(listing, number)
    columns: dict[str, Any] = {"key": [key for key, _ in found], "name": [name for _, name in found]}
    table = pa.table({**columns, "unit": [number] * len(found)}, _KEYS)
    places = [_bucket(key, cuts) for key, _ in found]
    return table, np.array(places, np.int64)


def _bucket(key: bytes, cuts: list[bytes]) -> int:
    return bisect.bisect_right(cuts, key)


def _number(bucket: pa.Table, keys: Buckets, starts: np.ndarray, units: int) -> tuple[pa.Table, np.ndarray]:
    at = bucket["bucket"][0].as_py()
    rows = keys.read(at)
    order = sorted(range(len(rows)), key=rows["key"].to_pylist().__getitem__)
    rows = rows.take(pa.array(order, pa.int64()))
    place = starts[at] + np.arange(len(rows))
    table = pa.table({"unit": rows["unit"], "repository": rows["name"], "place": place}, _PLACES)
    return table, rows["unit"].to_numpy() // units_of_a_group(units)


def _write_group(bucket: pa.Table, folder: str, places: Buckets) -> pa.Table:
    group = bucket["bucket"][0].as_py()
    table = places.read(group).sort_by([("unit", "ascending"), ("place", "ascending")])
    output = write_part(folder, "places", group, [table], _PLACES)
    return pa.Table.from_pylist([{name: getattr(output, name) for name in _DONE.names}], _DONE)
