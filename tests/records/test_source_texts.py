"""Texts of source files are compared with their digests and edits wherever they are read."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sc2jax.errors import UserError
from sc2jax.records.dataset import read_row_group, read_tables, write_part
from sc2jax.records.edits import Edit, Replacement, edit_text
from sc2jax.records.manifest import Manifest, Output
from sc2jax.records.schemas import SOURCE_FILE


def source_file(path: str, text: str, edits: list[Edit] | None = None) -> dict[str, Any]:
    texts = [field.name for field in SOURCE_FILE if pa.types.is_string(field.type)]
    return (
        dict.fromkeys(SOURCE_FILE.names)
        | dict.fromkeys(texts, "")
        | {
            "repository": "owner/project",
            "path": path,
            "content": text,
            "source_bytes": 1,
            "licenses": [],
            "license_type": "no_license",
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "edits": [dataclasses.asdict(edit) for edit in edits or []],
            "edits_sha256": hashlib.sha256(canonical(edits or []).encode()).hexdigest(),
        }
    )


def canonical(edits: list[Edit]) -> str:
    """By hand, the JSON of which the digest of edits is made."""
    rows = [f'[{edit.start}, {edit.end}, {edit.source_start}, {edit.source_end}, "{edit.rule}"]' for edit in edits]
    return f"[{', '.join(rows)}]"


REDACTED, EDITS = edit_text("key = 'é😀'", [], [Replacement(7, 9, "<KEY>", "secrets")])
FILES = [source_file("a.py", ""), source_file("b.py", "é😀\n"), source_file("c.py", REDACTED, EDITS)]


def tables(*groups: list[dict[str, Any]]) -> list[pa.Table]:
    return [pa.Table.from_pylist(rows, SOURCE_FILE) for rows in groups]


def write(folder: Path, *groups: list[dict[str, Any]]) -> Output:
    return write_part(str(folder), "train", 0, tables(*groups), SOURCE_FILE)


def test_whole_records_come_back(tmp_path: Path) -> None:
    part = write(tmp_path, FILES[:2], FILES[2:])
    manifest = Manifest("toy", {}, {}, (part,), {})
    rows = [row for table in read_tables(str(tmp_path), manifest, "train") for row in table.to_pylist()]
    assert rows == FILES
    assert [Edit(**edit) for edit in rows[2]["edits"]] == EDITS


@pytest.mark.parametrize("columns", [["content"], ["path", "content", "language"], ["edits", "content"], ["path"]])
def test_only_the_wanted_columns_come_back_in_their_order(tmp_path: Path, columns: list[str]) -> None:
    assert read_row_group(str(tmp_path), write(tmp_path, FILES), 0, columns).column_names == columns


HELLO = [Edit(0, 2, 0, 3, "secrets"), Edit(4, 5, 5, 9, "pii")]
EDITED = source_file("b.py", "hello", HELLO)


def with_edits(*edits: Edit) -> dict[str, Any]:
    """The edits without their digest."""
    return EDITED | {"edits": [dataclasses.asdict(edit) for edit in edits]}


CHANGES = [
    (EDITED | {"content": "other"}, f"its text has the sha256 {hashlib.sha256(b'other').hexdigest()} instead of "),
    (EDITED | {"text_sha256": ""}, "instead of ''"),
    (source_file("b.py", "abc", [Edit(1, 9, 1, 2, "pii")]), "cannot be one of its text of 3 characters"),
    (with_edits(HELLO[0], dataclasses.replace(HELLO[1], rule="other")), "its edits have the sha256 "),
    (with_edits(HELLO[0]), "its edits have the sha256 "),
    (with_edits(), "its edits have the sha256 "),
    (EDITED | {"edits_sha256": hashlib.sha256(b"[]").hexdigest()}, "its edits have the sha256 "),
    (with_edits(HELLO[0]) | {"edits_sha256": hashlib.sha256(b"[]").hexdigest()}, "its edits have the sha256 "),
    (source_file("b.py", "x") | {"edits_sha256": ""}, "its edits have the sha256 "),
]


@pytest.mark.parametrize("columns", [None, ["content"]])
@pytest.mark.parametrize(("changed", "what"), CHANGES)
def test_a_changed_text_is_named(
    tmp_path: Path, write_unchecked: Any, changed: dict[str, Any], what: str, columns: list[str] | None
) -> None:
    part = write_unchecked(tmp_path, tables([EDITED], [FILES[0], FILES[2], changed]))
    read_row_group(str(tmp_path), part, 0, columns)
    with pytest.raises(
        UserError, match=rf"{part.path} is damaged: row group 1, row 2 \(owner/project/b.py\): .*{what}"
    ):
        read_row_group(str(tmp_path), part, 1, columns)
    assert len(read_row_group(str(tmp_path), part, 1, ["path"])) == 3, "where no text is read none is compared"


@pytest.mark.parametrize(("changed", "what"), CHANGES)
def test_a_changed_text_is_not_written(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    where = rf"part 0 of {tmp_path}/train, row group 1: row 0 \(owner/project/b.py\)"
    with pytest.raises(UserError, match=rf"{where}: .*{what}.*; it was not written"):
        write(tmp_path, FILES, [changed])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["edits", "edits_sha256", "snapshot", "is_vendor", "stars"])
def test_parts_without_a_column_of_source_files_are_of_an_earlier_version(
    tmp_path: Path, write_unchecked: Any, missing: str
) -> None:
    part = write_unchecked(tmp_path, [tables(FILES)[0].drop_columns([missing])])
    with pytest.raises(UserError, match=r"written by an earlier version; run curate again"):
        read_row_group(str(tmp_path), part, 0, ["content"])


def test_a_digest_of_another_type_is_refused_whatever_kind_is_asked_for(tmp_path: Path, write_unchecked: Any) -> None:
    (table,) = tables(FILES)
    at = table.schema.get_field_index("edits_sha256")
    part = write_unchecked(tmp_path, [table.set_column(at, "edits_sha256", pa.array([1.5] * len(FILES)))])
    for kind in ("", "source_file"):
        with pytest.raises(UserError, match="edits_sha256 is double instead of string"):
            read_row_group(str(tmp_path), part, 0, ["content"], kind)
