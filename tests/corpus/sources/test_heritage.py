import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from heritage_exports import Rows, Tables, arrow_table, write_events, write_export
from heritage_oracle import Draw, named, roots, walk

from sc2jax.corpus import heritage
from sc2jax.corpus.heritage import Archive, exported_repositories
from sc2jax.corpus.sources import github_archive, heritage_trees
from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.walk import FoundRepository

LEVELS, MOST = 4, 2


class Held:
    """Buckets that lie in memory."""

    def __init__(self, schema: pa.Schema, tables: list[pa.Table], counts: np.ndarray):
        self.schema, self._tables, self.counts = schema, tables, counts

    def __len__(self) -> int:
        return len(self._tables)

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def units(self) -> pa.Table:
        return pa.table({"bucket": np.arange(len(self))})

    def read(self, bucket: int) -> pa.Table:
        return self._tables[bucket].combine_chunks()


@contextlib.contextmanager
def dealt_in_memory(
    folder: str, units: pa.Table, deal: Any, schema: pa.Schema, buckets: int, desc: str = ""
) -> Iterator:
    """What `shuffle.dealt` does, without the engine and the disk, which take longer than all else here."""
    found = [deal(units.slice(unit, 1)) for unit in range(len(units))]
    rows = pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table, _ in found)])
    places = np.concatenate([np.zeros(0, np.int64), *(places for _, places in found)])
    tables = [rows.filter(pa.array(places == bucket)) for bucket in range(buckets)]
    yield Held(schema, tables, np.array([[len(table) for table in tables]]))


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tables, Rows], None]:
    """Has tables and events read from memory, a few rows at a time."""

    def hold(tables: Tables, events: Rows) -> None:
        held = {name: arrow_table(name, rows) for name, rows in tables.items()}

        def stripes(folder: str, table: str) -> pa.Table:
            del folder
            cuts = np.arange(0, len(held[table]), max(len(held[table]) // 3, 1))
            rows = len(held[table]) // max(len(cuts), 1)
            return pa.table(
                {"path": pa.array([table] * len(cuts), pa.string()), "stripe": cuts, "rows": [rows] * len(cuts)}
            )

        def read_stripe(path: str, stripe: int, columns: Any) -> pa.Table:
            table = held[path].slice(stripe, max(len(held[path]) // 3, 1)).select(list(columns))
            for place, field in enumerate(table.schema):
                if pa.types.is_timestamp(field.type):
                    dates = table.column(place).cast(pa.timestamp("us")).cast(pa.int64())
                    table = table.set_column(place, field.name, dates)
            return table

        def events_of(path: str) -> tuple[pa.Table, list[SourceError]]:
            return real_events(f"{path}.json.gz")

        monkeypatch.setattr(heritage, "stripes", stripes)
        monkeypatch.setattr(heritage, "read_stripe", read_stripe)
        monkeypatch.setattr(heritage, "dealt", dealt_in_memory)
        monkeypatch.setattr(heritage.heritage_tables, "export_folder", lambda path: path)

    real_events = github_archive.events_of
    return hold


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few levels, few rows of a node, many buckets and parts."""
    monkeypatch.setattr(heritage_trees, "MOST_LEVELS", LEVELS)
    monkeypatch.setattr(heritage_trees, "MOST_IN_A_LEVEL", MOST)
    monkeypatch.setattr(heritage, "_BUCKET_ROWS", 40)
    monkeypatch.setattr(heritage, "_BUCKET_HOURS", 1)


def drawn(seed: int, groups: int) -> Draw:
    draw = Draw(seed)
    for group in range(groups):
        draw.group(group)
    for rows in draw.tables.values():
        draw.random.shuffle(rows)
    return draw


def repositories_of(
    export: str, store: str, events: str, work: Path
) -> tuple[list[FoundRepository], list[SourceError]]:
    """All repositories, and each thing that was left out."""

    class Kept(LeftOut):
        def add(self, fault: SourceError) -> None:
            faults.append(fault)
            super().add(fault)

    faults: list[SourceError] = []
    with exported_repositories(export, Archive(store, events), str(work), Kept()) as found:
        repositories = list(found)
    return repositories, faults


def compare(draw: Draw, repositories: list[FoundRepository], faults: list[SourceError], export: str, store: str) -> int:
    """Compares all that was found with plain loops; returns the number of repositories."""
    expected = walk(draw.tables, named(roots(draw.tables, draw.events)), LEVELS, MOST)
    assert sorted(repository.name for repository in repositories) == sorted(expected)
    left = {name: [] for name in expected}
    for fault in faults:
        name = max((name for name in expected if f"{fault.location}/".startswith(f"{export}/{name}/")), key=len)
        left[name].append((fault.reason, fault.location.removeprefix(f"{export}/{name}").removeprefix("/")))
    for repository in repositories:
        should = expected[repository.name]
        about, origin = should["about"], repository.origin
        assert origin.url == about["url"]
        assert (origin.stars, origin.forks, origin.github_id) == (about["stars"], about["forks"], about["id"])
        assert origin.gha_license == (about["license"] or "")
        assert repository.revision == f"swh:1:rev:{about['revision']['id']}"
        assert origin.directory == f"swh:1:dir:{about['revision']['directory']}"
        assert origin.snapshot == f"swh:1:snp:{about['snapshot']}"
        assert origin.branch.startswith(about["branch"].decode(errors="ignore"))
        assert bool(origin.revision_date) == (about["revision"]["date"] is not None)
        files = [(file.path, file.swhid, file.size, file.location) for file in repository.files]
        assert sorted(files) == sorted(
            (path, f"swh:1:cnt:{node}", size, f"heritage\0{store}\0{sha1} {node} {size}".encode())
            for path, sha1, node, size in should["files"]
        )
        assert sorted(left[repository.name]) == sorted(should["left"]), repository.name
    return len(repositories)


@pytest.mark.parametrize("seed", range(40))
def test_thousands_of_random_graphs_are_walked_as_by_plain_loops(
    seed: int, in_memory: Callable[[Tables, Rows], None], small: None, tmp_path: Path
) -> None:
    draw = drawn(seed, 50)
    in_memory(draw.tables, draw.events)
    hours = {f"2023-01-01-{hour}": draw.events[hour::3] for hour in range(3)}
    found, faults = repositories_of("export", "store", write_events(tmp_path, hours) if seed % 4 else "", tmp_path)
    draw.events = draw.events if seed % 4 else []
    assert compare(draw, found, faults, "export", "store") > 25


def test_the_engine_and_the_disk_give_the_same(small: None, tmp_path: Path) -> None:
    draw = drawn(99, 40)
    export = write_export(tmp_path / "export", draw.tables, files=3, stripe_rows=30)
    events = write_events(tmp_path / "events", {str(hour): draw.events[hour::2] for hour in range(2)})
    work = tmp_path / "work"
    found, faults = repositories_of(export, "store", events, work)
    compare(draw, found, faults, export, "store")
    assert list(work.iterdir()) == [], "what lay on disk meanwhile is gone"
