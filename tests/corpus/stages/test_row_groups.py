import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.corpus.numbered_rows import Committed, NumberedRows
from sc2jax.corpus.stages import row_groups as module
from sc2jax.corpus.stages.row_groups import cut_repositories, deal, row_groups
from sc2jax.records.dataset import PartWriter
from sc2jax.records.manifest import Manifest

SCHEMA = pa.schema(
    [
        ("repository", pa.string()),
        ("path", pa.string()),
        ("source_bytes", pa.int64()),
        ("content", pa.large_string()),
    ]
)
FILES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 12)), max_size=40)


def table_of(files: list[tuple[str, int]]) -> pa.Table:
    """Files of the given repositories and sizes, in their order."""
    repositories, sizes = [name for name, _ in files], [size for _, size in files]
    paths = [f"{number:03d}.py" for number in range(len(files))]
    return pa.table([repositories, paths, sizes, ["x" * size for size in sizes]], schema=SCHEMA)


def numbered(folder: Path, tables: list[pa.Table], part_bytes: int) -> NumberedRows:
    writer = PartWriter(str(folder), "kept", SCHEMA, part_bytes)
    for table in tables:
        writer.add(table)
    return NumberedRows.of(Committed(str(folder), Manifest("files", {}, {}, tuple(writer.finish()), {})), "kept")


@pytest.mark.parametrize(("more", "expected"), [(0, ["aa", "bb", "cc", "de"]), (1, ["aabb", "ccd", "e"])])
def test_a_row_group_is_closed_after_the_repository_that_fills_it(more: int, expected: list[str]) -> None:
    """The target is the size of two files, or a byte more; repositories that go on in the next table are not cut."""
    text = "x" * 100
    tables = [pa.table({"repository": list(names), "content": [text] * len(names)}) for names in ("aab", "bcc", "de")]
    target = tables[0].slice(0, 2)["content"].nbytes + more
    found = ["".join(table["repository"].to_pylist()) for table in row_groups(iter(tables), target, {})]
    assert found == expected


def test_a_cut_repository_has_a_row_group_for_each_document_and_shares_none() -> None:
    table = table_of([("a", 1), ("b", 1), ("b", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)])
    cut = {"b": np.array([1, 0, 1]), "d": np.array([0])}
    found = [group["path"].to_pylist() for group in row_groups([table.slice(0, 3), table.slice(3)], 1000, cut)]
    assert found == [["000.py"], ["002.py"], ["001.py", "003.py"], ["004.py"], ["005.py"], ["006.py"]]


def test_files_are_dealt_by_their_hashes_as_many_as_fit() -> None:
    """In the order of the hashes the sizes are 4, 6 | 1, 2, 3 | 20 | 10 | 1."""
    hashes = np.array([30, 10, 50, 20, 60, 31, 40, 70])
    sizes = np.array([1, 4, 20, 6, 10, 2, 3, 1])
    assert deal(hashes, sizes, 10).tolist() == [1, 0, 2, 0, 3, 1, 1, 4]
    assert deal(hashes[:4], sizes[:4], 11).tolist() == [0, 0, 1, 0]


def test_of_equal_hashes_the_first_file_comes_first() -> None:
    assert deal(np.full(20, 7), np.ones(20, int), 1).tolist() == list(range(20))


def test_the_hash_is_of_repository_and_path(tmp_path: Path) -> None:
    """So that the same files go together on any machine."""
    table = table_of([("small", 3), *[("large", 1)] * 8, ("large too", 2), ("large too", 2), ("one file", 9)])
    rows = numbered(tmp_path, [table], 1)
    found = cut_repositories(rows, np.arange(12), 3)
    assert list(found) == ["large", "large too"], "three bytes are not more than three, and a file is never cut"
    paths = [f"{number:03d}.py" for number in range(1, 9)]
    ranked = sorted(paths, key=lambda path: hashlib.sha256(b"large\0" + path.encode()).hexdigest())
    assert found["large"].tolist() == [ranked.index(path) // 3 for path in paths]
    assert sorted(found["large too"].tolist()) == [0, 1]
    assert cut_repositories(rows, np.array([0, 1, 3, 8]), 3) == {}, "of the rows that are named"
    assert cut_repositories(rows, np.zeros(0, np.int64), 3) == {}
    assert [len(numbers) for numbers in cut_repositories(rows, np.array([0, 1, 3, 5, 8, 10]), 3).values()] == [4]


@given(FILES, st.integers(1, 30), st.integers(1, 60), st.integers(1, 9), st.integers(0, 100))
@settings(max_examples=20)
def test_every_file_is_in_one_row_group_and_none_is_too_large(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[str, int]],
    most: int,
    target: int,
    step: int,
    held: int,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    files = sorted(files, key=lambda file: file[0])
    table = table_of(files)
    tables = [table.slice(start, step) for start in range(0, len(files), step)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_HELD_BYTES", held)
        found = [read_back(folder / str(part_bytes), tables, part_bytes, target, most) for part_bytes in (1, 10**6)]
    assert found[0] == found[1], "however the parts are"
    groups = found[0]
    written = sorted((row for group in groups for row in group), key=lambda row: row["path"])
    assert written == table.to_pylist()
    sizes = {name: sum(size for of, size in files if of == name) for name, _ in files}
    seen: dict[str, int] = {}
    for group in groups:
        names = list(dict.fromkeys(row["repository"] for row in group))
        assert [row["path"] for row in group] == sorted(row["path"] for row in group)
        for name in names:
            seen[name] = seen.get(name, 0) + 1
        if sizes[names[0]] > most and sum(of == names[0] for of, _ in files) > 1:
            assert len(names) == 1
            assert len(group) == 1 or sum(row["source_bytes"] for row in group) <= most
    for name, size in sizes.items():
        assert seen[name] == 1 or most < size, "what fits is not cut"
        assert seen[name] <= 2 * size / most + 1, "any two that follow each other are more than fits"


def read_back(folder: Path, tables: list[pa.Table], part_bytes: int, target: int, most: int) -> list[list[dict]]:
    folder.mkdir()
    rows = numbered(folder, tables, part_bytes)
    ids = np.arange(len(rows))
    cut = cut_repositories(rows, ids, most)
    return [group.to_pylist() for group in row_groups(rows.take(ids, SCHEMA.names), target, cut)]


def test_a_large_repository_is_never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's memory: 40 MB of files in documents of 1 MB, of which 2 MB are held."""
    monkeypatch.setattr(module, "_HELD_BYTES", 2 << 20)
    files, size = 4000, 10_000
    documents = np.random.default_rng(0).integers(0, 40, files)
    before = pa.total_allocated_bytes()
    peak = 0

    def tables() -> Iterator[pa.Table]:
        for start in range(0, files, 50):
            content = [f"{number:05d}" + "x" * (size - 5) for number in range(start, start + 50)]
            columns = [["a"] * 50, [f"{number:05d}" for number in range(start, start + 50)], [size] * 50, content]
            yield pa.table(columns, schema=SCHEMA)
            watch()

    def watch() -> None:
        nonlocal peak
        peak = max(peak, pa.total_allocated_bytes() - before)

    written = 0
    for group in row_groups(tables(), 1, {"a": documents}):
        assert group.num_rows == (documents == written).sum()
        written += 1
        watch()
    assert written == 40
    assert peak < 10e6
