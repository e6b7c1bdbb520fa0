"""Manifests and datasets: what is not committed does not count, and damage is named."""

import dataclasses
import os
from pathlib import Path

import pyarrow as pa
import pytest

from sc2jax.errors import UserError
from sc2jax.records.dataset import PartWriter, open_part, read_row_group, read_tables, write_part
from sc2jax.records.manifest import (
    MANIFEST,
    Manifest,
    commit,
    completed,
    read_manifest,
    stage_key,
    write_output,
)
from sc2jax.storage import write_whole

SCHEMA = pa.schema([pa.field("text", pa.large_string(), nullable=False)])
GROUPS = [pa.table({"text": ["a", "b" * 5000]}, schema=SCHEMA), pa.table({"text": ["c"]}, schema=SCHEMA)]


@pytest.fixture
def stage(tmp_path):
    part = write_part(str(tmp_path), "train", 0, GROUPS, SCHEMA)
    manifest = Manifest("toy", "key", {"in": "x"}, {"a": 1}, (part,), {"rows": part.rows})
    return str(tmp_path), commit(str(tmp_path), manifest)


def test_what_was_committed_is_read_back(stage):
    folder, manifest = stage
    assert read_manifest(folder) == manifest == completed(folder, "key")
    assert completed(folder, "another key") is None
    assert [table["text"].to_pylist() for table in read_tables(folder, manifest, "train")] == [["a", "b" * 5000], ["c"]]
    assert read_row_group(folder, manifest.outputs[0], 1)["text"].to_pylist() == ["c"]
    assert manifest.outputs[0].rows == 3


def test_equal_content_has_an_equal_name_and_digest(tmp_path, stage):
    again = write_part(str(tmp_path / "again"), "train", 0, GROUPS, SCHEMA)
    assert again == stage[1].outputs[0]
    other = write_part(str(tmp_path / "again"), "train", 0, GROUPS[:1], SCHEMA)
    assert dataclasses.replace(stage[1], outputs=(other,)).digest != stage[1].digest


def test_a_folder_without_manifest_is_unfinished(tmp_path):
    write_output(str(tmp_path), "part-1", b"content")
    assert completed(str(tmp_path), "key") is None
    with pytest.raises(UserError, match=r"holds no manifest\.json.*run it"):
        read_manifest(str(tmp_path))


def test_a_missing_or_shortened_output_is_not_complete(stage):
    folder, manifest = stage
    path = Path(folder, manifest.outputs[0].path)
    os.truncate(path, 100)
    assert completed(folder, "key") is None
    with pytest.raises(UserError, match="100 bytes instead of"):
        open_part(folder, manifest.outputs[0])
    path.unlink()
    assert completed(folder, "key") is None
    with pytest.raises(UserError, match="is missing"):
        open_part(folder, manifest.outputs[0])


def test_flipped_bits_are_found(stage):
    folder, manifest = stage
    path = Path(folder, manifest.outputs[0].path)
    whole = path.read_bytes()
    expected = [table["text"] for table in read_tables(folder, manifest, "train")]
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = [table["text"] for table in read_tables(folder, manifest, "train")]
        except UserError as error:
            assert "is damaged" in str(error)
        else:
            # A flip that is not noticed, in a statistic of a page header, changes no value.
            assert found == expected, place


def test_a_damaged_manifest_is_named(stage):
    folder, _ = stage
    write_whole(f"{folder}/{MANIFEST}", b'{"stage": ')
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        read_manifest(folder)


def test_commit_removes_parts_of_interrupted_runs_and_nothing_else(tmp_path):
    listed = ("train/notes.txt", "other/part-1", "notes.unfinished")
    stale = ("train/part-00000-old.parquet", "part-00000-old.json", ".part.7.unfinished", "train/.part.7.unfinished")
    for name in (*listed, *stale):
        write_whole(f"{tmp_path}/{name}", b"x")
    part = write_part(str(tmp_path), "train", 0, GROUPS, SCHEMA)
    commit(str(tmp_path), Manifest("toy", "key", {}, {}, (part,), {}))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(["manifest.json", *listed, part.path])


def test_the_key_depends_on_everything():
    keys = {
        stage_key("a", 1, {"x": 1}, {"in": "1"}),
        stage_key("b", 1, {"x": 1}, {"in": "1"}),
        stage_key("a", 2, {"x": 1}, {"in": "1"}),
        stage_key("a", 1, {"x": 2}, {"in": "1"}),
        stage_key("a", 1, {"x": 1}, {"in": "2"}),
    }
    assert len(keys) == 5
    assert stage_key("a", 1, {"x": 1, "y": 2}, {}) == stage_key("a", 1, {"y": 2, "x": 1}, {})


@pytest.mark.parametrize(
    ("limit", "parts"), [(1, [1, 1, 1, 1, 1]), (20, [1, 1, 1, 1, 1]), (21, [2, 2, 1]), (41, [3, 2])]
)
def test_a_part_is_closed_when_it_has_grown_to_its_limit(tmp_path, limit, parts):
    numbers = pa.schema([pa.field("number", pa.int32(), nullable=False)])
    writer = PartWriter(str(tmp_path), "kept", numbers, limit)
    for first in range(0, 25, 5):
        writer.add(pa.table({"number": range(first, first + 5)}, numbers))  # 20 bytes each
        writer.add(numbers.empty_table())
    written = writer.finish()
    assert [output.row_groups for output in written] == parts
    assert [output.path[:15] for output in written] == [f"kept/part-0000{index}" for index in range(len(parts))]
