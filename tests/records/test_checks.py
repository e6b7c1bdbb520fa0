"""What is no record of its kind is found, named, and neither written nor read."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.records.checks import find_faults, refuse_other_columns
from sc2jax.records.dataset import read_records, read_row_group, read_tables, write_part
from sc2jax.records.faults import REASONS
from sc2jax.records.manifest import Manifest, Output
from sc2jax.records.rules import RULES
from sc2jax.records.schemas import REJECTED_FILE, SCHEMAS
from sc2jax.text.notebooks import jupyter_structured

WriteUnchecked = Callable[[Path, Sequence[pa.Table]], Output]


def sample(kind: str, number: int = 0) -> dict[str, Any]:
    lines = asset_path("data", "records", f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[number])


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A record with another value at a path such as `events.0.author`."""
    record = json.loads(json.dumps(record))
    *parents, last = path.split(".")
    node: Any = record
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    node[int(last) if last.isdigit() else last] = value
    return record


def nullable(kind: pa.DataType) -> pa.DataType:
    """A type as other tools write it: everything may be null."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, nullable(field.type)) for field in kind.fields])
    return pa.list_(nullable(kind.value_type)) if pa.types.is_list(kind) else kind


def lax_table(kind: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        rows, pa.schema([pa.field(field.name, nullable(field.type)) for field in SCHEMAS[kind]])
    )


EVENTS = sample("pull_request")["events"]
CLOSED = next(at for at, event in enumerate(EVENTS) if event["action"] == "closed")
OPENED = next(at for at, event in enumerate(EVENTS) if event["action"] == "opened")
REVIEW = next(at for at, event in enumerate(EVENTS) if event["kind"] == "review")
REMARK = next(at for at, event in enumerate(EVENTS) if event["kind"] == "review_comment")
COMMENT = next(at for at, event in enumerate(EVENTS) if event["kind"] == "comment")
SAID = next(at for at, event in enumerate(sample("issue")["events"]) if event["kind"] == "comment")
HEADS, FILES = sample("pull_request")["heads"], sample("pull_request")["base_files"]
SAMPLE_EVENTS = sample("issue")["events"]
CELLS = sample("jupyter_structured")["cells"]
TEXT = {"kind": "markdown", "text": "t", "output": None}
CODE = {"kind": "code", "text": "c", "output": None}

FAULTS = [
    ("issue", "title", None, "no_value", "title is null"),
    ("issue", "id", None, "no_value", "id is null"),
    ("issue", "events", None, "no_value", "events is null"),
    ("issue", "events.0", None, "no_value", r"events\[\] is null"),
    ("issue", "licenses", [None], "no_value", r"licenses\[\] is null"),
    ("issue", f"events.{SAID}.author", None, "no_value", rf"events\[{SAID}\].author is null, .* with kind 'comment'"),
    ("issue", f"events.{SAID}.text", None, "no_value", rf"events\[{SAID}\].text is null, .* with kind 'comment'"),
    ("issue", f"events.{SAID}.kind", "reopened", "unknown_value", rf"events\[{SAID}\].kind is 'reopened'; .* closed"),
    ("issue", f"events.{SAID}.created_at", None, "no_value", r"events\[\].created_at is null"),
    ("issue", "license_type", "free", "unknown_value", "license_type is 'free'; .* no_license, non_permissive"),
    ("pull_request", f"events.{REMARK}.hunk", None, "no_value", rf"\[{REMARK}\].hunk is null"),
    ("pull_request", f"events.{REMARK}.line", None, "no_value", rf"\[{REMARK}\].line is null"),
    ("pull_request", f"events.{REMARK}.path", None, "no_value", rf"\[{REMARK}\].path is null"),
    ("pull_request", f"events.{REMARK}.head_commit", None, "no_value", "head_commit is null"),
    ("pull_request", f"events.{REVIEW}.state", None, "no_value", "state is null, .* with kind 'review'"),
    ("pull_request", f"events.{REVIEW}.state", "pending", "unknown_value", "state is 'pending'"),
    ("pull_request", f"events.{REVIEW}.event_id", None, "no_value", "event_id is null"),
    ("pull_request", f"events.{COMMENT}.action", None, "no_value", "action is null"),
    ("pull_request", f"events.{COMMENT}.text", None, "no_value", "text is null"),
    ("pull_request", f"events.{OPENED}.title", None, "no_value", "title is null, .* 'pull_request', action 'opened'"),
    ("pull_request", f"events.{OPENED}.action", None, "no_value", "action is null"),
    ("pull_request", f"events.{CLOSED}.merged", None, "no_value", "merged is null, .* action 'closed'"),
    ("pull_request", "events", [], "incomplete", "events is empty"),
    (
        "pull_request",
        "events",
        EVENTS[COMMENT : COMMENT + 1],
        "incomplete",
        "none of events has kind pull_request, act",
    ),
    ("pull_request", "events", [EVENTS[-1], *EVENTS], "unknown_value", r"events\[1\].created_at is before events\[0\]"),
    ("pull_request", "events.0.created_at", "yesterday", "unknown_value", "is 'yesterday'; it must be like 2023-07"),
    (
        "pull_request",
        "heads.1.commit",
        HEADS[0]["commit"],
        "unknown_value",
        r"heads\[1\].commit is '.*', as one before",
    ),
    (
        "pull_request",
        "base_files",
        FILES * 2,
        "unknown_value",
        rf"base_files\[{len(FILES)}\].path is '.*', as one before",
    ),
    (
        "issue",
        "events",
        SAMPLE_EVENTS[::-1],
        "unknown_value",
        r"events\[1\].created_at is before events\[0\].created_at",
    ),
    ("jupyter_structured", "cells", CELLS[:1], "incomplete", "no code with text comes after markdown in cells"),
    ("jupyter_structured", "cells", [CODE, TEXT], "incomplete", "no code with text comes after markdown in cells"),
    ("jupyter_structured", "cells", [TEXT, CODE | {"text": " \n\t"}], "incomplete", "no code with text comes after"),
    ("jupyter_structured", "cells", [TEXT | {"text": "\u2003"}, CODE], "incomplete", "no code with text comes after"),
    ("pull_request", f"events.{COMMENT}.kind", "commit", "unknown_value", "kind is 'commit'"),
    ("pull_request", "heads.0.files.0.content", None, "no_value", r"heads\[\].files\[\].content is null"),
    ("pull_request", "base_files.0.path", None, "no_value", r"base_files\[\].path is null"),
    ("jupyter_script", "script", None, "no_value", "script is null"),
    ("jupyter_structured", "cells", [], "incomplete", "cells is empty"),
    ("jupyter_structured", "cells.1.kind", "raw", "unknown_value", r"cells\[1\].kind is 'raw'"),
    ("jupyter_structured", "cells.0.text", None, "no_value", r"cells\[\].text is null"),
    ("kaggle", "cells.0.kind", "raw", "unknown_value", r"cells\[0\].kind is 'raw'"),
    ("kaggle", "dataset.title", None, "no_value", "dataset.title is null"),
    ("kaggle", "tables.0.examples", [None], "no_value", r"tables\[\].examples\[\] is null"),
    ("documentation", "pages", [], "incomplete", "pages is empty"),
    ("intermediate", "size_optimized", None, "incomplete", "all of size_optimized, speed_optimized are null"),
    ("intermediate", "code", None, "no_value", "code is null"),
    ("question_thread", "answers.0.upvotes", None, "no_value", r"answers\[\].upvotes is null"),
    ("lhq", "solutions", [], "incomplete", "solutions is empty"),
    ("lhq", "kind", "leetcode", "unknown_value", "kind is 'leetcode'; it must be one of apps, "),
    ("lhq", "starter_code", None, "no_value", "starter_code is null"),
    ("plain_text", "text", None, "no_value", "text is null"),
    ("source_file", "repository", None, "no_value", "repository is null"),
    ("source_file", "edits", None, "no_value", "edits is null"),
    ("source_file", "content", "changed", "changed", "its text has the sha256"),
    ("source_file", "license_type", "", "unknown_value", "license_type is ''"),
]


def faulty(kind: str, path: str, value: Any) -> dict[str, Any]:
    record = sample(kind)
    if kind == "intermediate" and value is None and path != "code":
        record["speed_optimized"] = None
    return changed(record, path, value)


@pytest.mark.parametrize(("kind", "path", "value", "reason", "what"), FAULTS)
def test_a_fault_is_found_in_its_row(
    kind: str, path: str, value: Any, reason: str, what: str, tmp_path: Path, write_unchecked: WriteUnchecked
) -> None:
    good, bad = sample(kind), faulty(kind, path, value)
    name = "None" if path == "id" else good.get("id", f"{bad.get('repository')}/{bad.get('path')}")
    table = lax_table(kind, [good, bad, good])
    assert [(fault.row, fault.reason) for fault in find_faults(table, SCHEMAS[kind], kind)] == [(1, reason)]
    with pytest.raises(UserError, match=rf"part 7 of .*, row group 0: row 1 \({name}\): .*{what}.* not written"):
        write_part(str(tmp_path), "train", 7, [table], SCHEMAS[kind])
    assert not list(tmp_path.iterdir())
    part = write_unchecked(tmp_path, [lax_table(kind, [good]), table])
    assert read_row_group(str(tmp_path), part, 0, kind=kind).to_pylist() == [good]
    with pytest.raises(UserError, match=rf"{part.path} is damaged: row group 1, row 1 \({name}\): .*{what}"):
        read_row_group(str(tmp_path), part, 1, kind=kind)
    with pytest.raises(UserError, match=rf"{part.path} is damaged: row group 1, row 1 \({name}\): .*{what}"):
        list(read_tables(str(tmp_path), Manifest("toy", {}, {}, (part,), {}), "train", kind=kind))
    records = read_records(str(tmp_path), part, 1, None, kind, skip_faulty=True)
    assert records.table.to_pylist() == [good, good]
    assert records.left_out == {reason: 1}


def test_code_that_follows_text_is_enough_whatever_stands_around_it() -> None:
    """A triple of the format is made exactly where the rule holds."""
    blank = [cell | {"text": ""} for cell in (TEXT, CODE)]
    for length in range(1, 5):
        for cells in itertools.product([TEXT, CODE, *blank], repeat=length):
            record = sample("jupyter_structured") | {"cells": list(cells)}
            table = lax_table("jupyter_structured", [record])
            is_document = len(jupyter_structured(record)) > 1
            assert bool(find_faults(table, SCHEMAS["jupyter_structured"], "jupyter_structured")) != is_document


def test_every_reason_and_every_rule_is_met() -> None:
    """But for bytes that are no text, which no Python string holds; they have a test of their own."""
    assert {reason for *_, reason, _ in FAULTS} | {"not_text"} == set(REASONS)
    assert set(RULES) == set(SCHEMAS)
    met = {(kind, path.rpartition(".")[2]) for kind, path, *_ in FAULTS}
    for kind, rules in RULES.items():
        for rule in rules:
            assert rule.names <= {name for known, name in met if known == kind} | {"speed_optimized", "license_type"}


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_samples_have_no_faults(kind: str) -> None:
    for number in range(len(asset_path("data", "records", f"{kind}.jsonl").read_text().splitlines())):
        assert not find_faults(lax_table(kind, [sample(kind, number)]), SCHEMAS[kind], kind)


def test_a_row_group_of_nothing_but_faults_is_damaged(tmp_path: Path, write_unchecked: WriteUnchecked) -> None:
    bad = faulty("issue", "title", None)
    part = write_unchecked(tmp_path, [lax_table("issue", [bad, bad])])
    with pytest.raises(UserError, match=r"row group 0, row 0 .* title is null"):
        read_records(str(tmp_path), part, 0, None, "issue", skip_faulty=True)


def test_a_row_with_several_faults_counts_once() -> None:
    bad = faulty("issue", "title", None) | {"url": None, "license_type": "free"}
    (fault,) = find_faults(lax_table("issue", [bad]), SCHEMAS["issue"], "issue")
    assert fault.reason == "no_value"


def test_only_what_is_read_is_checked(tmp_path: Path, write_unchecked: WriteUnchecked) -> None:
    part = write_unchecked(tmp_path, [lax_table("issue", [faulty("issue", "license_type", "free")])])
    assert len(read_row_group(str(tmp_path), part, 0, ["title", "events"], "issue")) == 1


def test_rows_before_and_after_in_other_chunks_keep_their_numbers() -> None:
    good, bad = sample("issue"), faulty("issue", f"events.{SAID}.kind", "reopened")
    table = pa.concat_tables([lax_table("issue", [good, good]), lax_table("issue", [good, bad])])
    assert [fault.row for fault in find_faults(table, SCHEMAS["issue"], "issue")] == [3]
    sliced = table.slice(1)
    assert [fault.row for fault in find_faults(sliced, SCHEMAS["issue"], "issue")] == [2]
    both = lax_table("issue", [faulty("issue", "title", None), good, bad])
    assert [fault.row for fault in find_faults(both, SCHEMAS["issue"], "issue")] == [0, 2]


def no_text(kind: pa.DataType) -> pa.Array:
    """One good string, and one whose byte FF is no UTF-8."""
    offsets = pa.array([0, 2, 3], pa.int64() if kind == pa.large_string() else pa.int32())
    return pa.Array.from_buffers(kind, 2, [None, offsets.buffers()[1], pa.py_buffer(b"ab\xff")])


@pytest.mark.parametrize(("kind", "column"), [("plain_text", "text"), ("plain_text", "id"), ("issue", "title")])
def test_bytes_that_are_no_text(kind: str, column: str, tmp_path: Path, write_unchecked: WriteUnchecked) -> None:
    table = lax_table(kind, [sample(kind)] * 2)
    field = table.schema.field(column)
    table = table.set_column(table.schema.get_field_index(column), field, no_text(field.type))
    with pytest.raises(UserError, match=rf"row 1 \(.+\): {column} holds bytes that are no UTF-8"):
        write_part(str(tmp_path), "train", 0, [table], SCHEMAS[kind])
    part = write_unchecked(tmp_path, [table])
    with pytest.raises(UserError, match=rf"row group 0, row 1 \(.+\): {column} holds bytes that are no UTF-8"):
        read_row_group(str(tmp_path), part, 0, kind=kind)
    records = read_records(str(tmp_path), part, 0, None, kind, skip_faulty=True)
    assert (len(records.table), records.left_out) == (1, {"not_text": 1})


def test_tables_of_no_kind_are_held_to_their_schema(tmp_path: Path) -> None:
    row = {name: 1 if name == "source_bytes" else "x" for name in REJECTED_FILE.names}
    loose = pa.schema([pa.field(field.name, field.type) for field in REJECTED_FILE])
    table = pa.Table.from_pylist([row, row | {"reason": None}], loose)
    with pytest.raises(UserError, match=r"row 1 \(x/x\): reason is null"):
        write_part(str(tmp_path), "rejects", 0, [table], REJECTED_FILE)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda table: table.drop_columns(["title", "events"]), "the columns title, events are missing"),
        (lambda table: table.set_column(0, "id", pa.array([1])), "id is int64 instead of string"),
        (lambda table: table.append_column("title", table["title"]), "there are several columns title"),
        (lambda table: table.set_column(8, "text", pa.array([b"x"])), "text is binary instead of large_string"),
        (lambda table: table.set_column(10, "events", pa.array([["x"]])), "events is list<.*string> instead of list<"),
        (lambda table: table.set_column(10, "events", pa.array([[{"kind": "closed"}]])), "events is list<"),
        (lambda table: table.set_column(10, "events", pa.array(["x"])), "events is string instead of list<"),
        (lambda table: table.set_column(3, "licenses", pa.array([[1]])), "licenses is list<"),
    ],
)
def test_other_columns_are_refused_in_writing_and_reading(
    tmp_path: Path, write_unchecked: WriteUnchecked, change: Callable[[pa.Table], pa.Table], what: str
) -> None:
    table = change(lax_table("issue", [sample("issue")]))
    with pytest.raises(UserError, match=rf"part 0 of .* holds other records than are asked for: {what}"):
        write_part(str(tmp_path), "train", 0, [table], SCHEMAS["issue"])
    part = write_unchecked(tmp_path, [table])
    with pytest.raises(UserError, match=rf"{part.path} holds other records than are asked for: {what}"):
        read_row_group(str(tmp_path), part, 0, kind="issue")


def test_texts_lists_and_numbers_of_other_sizes_are_the_same_columns() -> None:
    wanted = SCHEMAS["question_thread"]
    answer = pa.struct(
        [("author", pa.large_string()), ("text", pa.string()), ("upvotes", pa.int16()), ("selected", pa.bool_())]
    )
    others = {"answers": pa.large_list(answer), "text": pa.dictionary(pa.int8(), pa.string()), "url": pa.null()}
    found = pa.schema([pa.field(field.name, others.get(field.name, field.type)) for field in wanted])
    refuse_other_columns(found, wanted, wanted.names, "here")
    assert not find_faults(
        pa.Table.from_pylist([sample("question_thread") | {"text": "x"}], found.set(1, pa.field("url", pa.string()))),
        wanted,
        "question_thread",
    )


def test_a_value_that_its_column_cannot_hold_is_not_written(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("number", pa.int8(), nullable=False)])
    with pytest.raises(UserError, match=r"part 0 of .*, row group 0 holds a value that its column cannot"):
        write_part(str(tmp_path), "", 0, [pa.table({"number": [300]})], schema)


def test_columns_that_a_part_lacks_are_named(tmp_path: Path) -> None:
    part = write_part(
        str(tmp_path), "train", 0, [lax_table("plain_text", [sample("plain_text")])], SCHEMAS["plain_text"]
    )
    with pytest.raises(UserError, match="the columns content, path are missing"):
        read_row_group(str(tmp_path), part, 0, ["text", "content", "path"])
    with pytest.raises(UserError, match="the columns title, author, events are missing"):
        read_row_group(str(tmp_path), part, 0, ["title", "author", "text", "events"], "issue")


def test_a_row_group_that_is_not_there(tmp_path: Path) -> None:
    part = write_part(
        str(tmp_path), "train", 0, [lax_table("plain_text", [sample("plain_text")])], SCHEMAS["plain_text"]
    )
    for index in (1, 3):
        with pytest.raises(UserError, match=f"it has 1 row groups, and not a row group {index}"):
            read_row_group(str(tmp_path), dataclasses.replace(part, row_groups=4), index)


def test_messages_show_the_beginning_of_a_long_value_in_one_line() -> None:
    bad = faulty("lhq", "kind", "a\n\x1b[2J" + "x" * 5000)
    (fault,) = find_faults(lax_table("lhq", [bad]), SCHEMAS["lhq"], "lhq")
    assert fault.what.startswith(r"kind is 'a\n\x1b[2Jxxx")
    assert "\n" not in fault.what
    assert "... (5012 characters); it must be one of apps" in fault.what
    assert len(fault.what) < 300
