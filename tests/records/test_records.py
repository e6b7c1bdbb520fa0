"""Manifests and datasets: what is not committed does not count, and damage is named."""

import dataclasses
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from sc2jax.errors import UserError
from sc2jax.records.dataset import PartWriter, open_part, read_row_group, read_tables, write_part
from sc2jax.records.manifest import (
    MANIFEST,
    Manifest,
    Output,
    commit,
    completed,
    manifest_json,
    read_manifest,
    read_output,
    stage_key,
    write_output,
)
from sc2jax.storage import write_whole

SCHEMA = pa.schema([pa.field("text", pa.large_string(), nullable=False)])
GROUPS = [pa.table({"text": ["a", "b" * 5000]}, schema=SCHEMA), pa.table({"text": ["c"]}, schema=SCHEMA)]


@pytest.fixture
def stage(tmp_path):
    part = write_part(str(tmp_path), "train", 0, GROUPS, SCHEMA)
    manifest = Manifest("toy", {"in": "x"}, {"a": 1}, (part,), {"rows": part.rows})
    return str(tmp_path), commit(str(tmp_path), manifest)


def test_what_was_committed_is_read_back(stage):
    folder, manifest = stage
    assert read_manifest(folder) == manifest == completed(folder, manifest.key)
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
    assert completed(folder, manifest.key) is None
    with pytest.raises(UserError, match="100 bytes instead of"):
        open_part(folder, manifest.outputs[0])
    path.unlink()
    assert completed(folder, manifest.key) is None
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


def test_a_manifest_that_was_edited_is_refused(stage):
    """Whatever is changed in it, though it stays well-formed."""
    folder, manifest = stage
    whole = Path(folder, MANIFEST).read_text()
    fields = json.loads(whole)
    changed = [
        fields | {"config": {"a": 2}},
        fields | {"inputs": {"in": "y"}},
        fields | {"statistics": {"rows": 4}},
        fields | {"version": 1},
        fields | {"outputs": []},
        {name: value for name, value in fields.items() if name != "sha256"},
    ]
    for other in changed:
        write_whole(f"{folder}/{MANIFEST}", json.dumps(other).encode())
        with pytest.raises(UserError, match="is not what its stage wrote"):
            read_manifest(folder)
    write_whole(f"{folder}/{MANIFEST}", whole.encode())
    assert read_manifest(folder) == manifest


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path):
    """Also those that make a key unknown whose default would stand for it, and numbers that are the same otherwise."""
    outputs = (Output("a", 1, "0" * 64, result=False), Output("b", 1, "0" * 64))
    commit(str(tmp_path), Manifest("toy", {}, {"rate": 1e-05, "text": "\x1b"}, outputs, {}))
    path = tmp_path / MANIFEST
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(UserError, match=str(path)):
            read_manifest(str(tmp_path))


def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path):
    outputs = (Output("huggingface/../../payload.sh", 1, "0"),)
    write_whole(f"{tmp_path}/{MANIFEST}", manifest_json(Manifest("toy", {}, {}, outputs, {})))
    with pytest.raises(UserError, match=r"payload\.sh', which is no path below it"):
        read_manifest(str(tmp_path))


def test_a_flipped_bit_in_a_manifest_is_never_silent(stage):
    folder, manifest = stage
    whole = Path(folder, MANIFEST).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        Path(folder, MANIFEST).write_bytes(damaged)
        try:
            assert read_manifest(folder) == manifest
        except UserError as error:
            assert MANIFEST in str(error)


def test_a_small_file_is_read_as_it_was_written_or_not_at_all(tmp_path):
    output = write_output(str(tmp_path), "notes.txt", b"notes")
    manifest = Manifest("toy", {}, {}, (output,), {})
    assert read_output(str(tmp_path), manifest, "notes.txt") == b"notes"
    with pytest.raises(UserError, match=r"lists no other\.txt"):
        read_output(str(tmp_path), manifest, "other.txt")
    write_whole(f"{tmp_path}/notes.txt", b"motes")
    with pytest.raises(UserError, match=r"notes\.txt is not what its stage wrote"):
        read_output(str(tmp_path), manifest, "notes.txt")
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(UserError, match=r"notes\.txt is missing"):
        read_output(str(tmp_path), manifest, "notes.txt")


def test_what_is_no_result_changes_no_digest(tmp_path):
    result = write_output(str(tmp_path), "a", b"a")
    one, two = (write_output(str(tmp_path), "config.json", content, result=False) for content in (b"1", b"2"))
    manifests = [Manifest("toy", {}, {}, outputs, {}) for outputs in ((result,), (result, one), (result, two))]
    assert len({manifest.digest for manifest in manifests}) == 1
    write_whole(f"{tmp_path}/{MANIFEST}", manifest_json(manifests[1]))
    assert completed(str(tmp_path), manifests[1].key) is None  # but it is checked like all others


def test_commit_deletes_what_earlier_runs_wrote_and_nothing_else(tmp_path):
    """What an earlier manifest lists, in whatever folder, and parts whose names carry the digest of what is in them."""
    foreign = (
        "train/notes.txt",
        "train/part-00000-old.parquet",
        "train/part-00001-0123456789abcdef.parquet",
        "train/part-00000.snappy.parquet",
        "other/part-1",
        "part-notes.txt",
        "notes.unfinished",
        "train/.part.7.unfinished",
    )
    for name in foreign:
        write_whole(f"{tmp_path}/{name}", b"x")
    earlier = [write_part(str(tmp_path), side, 0, GROUPS, SCHEMA) for side in ("train", "heldout", "heldout/deep")]
    commit(str(tmp_path), Manifest("toy", {}, {"share": 0.3}, tuple(earlier), {}))
    write_part(str(tmp_path), "train", 1, GROUPS[:1], SCHEMA)  # of a run that was killed
    part = write_part(str(tmp_path), "train", 0, GROUPS[1:], SCHEMA)
    commit(str(tmp_path), Manifest("toy", {}, {"share": 0.0}, (part,), {}))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(["manifest.json", *foreign, part.path])
    assert not (tmp_path / "heldout").exists()


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
