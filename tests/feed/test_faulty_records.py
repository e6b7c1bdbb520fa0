"""Records that something is wrong with, from the dataset to the pieces of a document."""

import copy
import dataclasses
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feed_corpora import laid, make_repositories, split_units, write_corpus, write_records
from nested_values import places  # pyright: ignore[reportMissingImports]

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.feed.documents import DocumentWriter
from sc2jax.feed.mixtures import SourceShare
from sc2jax.feed.rows import Rows
from sc2jax.feed.sources import FeedInputs, open_sources, open_units
from sc2jax.feed.units import Units
from sc2jax.records.manifest import Manifest, Output, commit, read_manifest
from sc2jax.records.schemas import SCHEMAS, SOURCE_FILE
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.formats import FORMATS
from sc2jax.text.special_tokens import Special

WriteUnchecked = Callable[[Path, Sequence[pa.Table]], Output]


def samples(kind: str) -> list[dict[str, Any]]:
    lines = asset_path("data", "records", f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def dataset(folder: Path, output: Output) -> str:
    commit(str(folder), Manifest("toy", {}, {}, (output,), {}))
    return str(folder)


def written(rows: Sequence[dict[str, Any]], name: str) -> str:
    """The documents of some rows in a format; special tokens as their literals."""
    writer = DocumentWriter(
        name, FormatConfig(variant="reference"), FimConfig(level="document", source_code_only=False)
    )
    pieces = [piece for row in rows for piece in writer.pieces([row], 0)]
    return "".join(piece.literal if isinstance(piece, Special) else piece for piece in pieces)


LEAVES = [None, "", "None of it", "reopened", "closed", -1, 2**62, 1e300, True, [], [None], {}, "x" * 5000]
OF_THE_WHOLE = (
    "holds other records than are asked for",
    "was written by an earlier version",
    "row group 0, holds a value that its column cannot",
)
HUNK = "@@ -" + "9" * 5000 + ",1 +1,1 @@\n"


def mutated(record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    record = copy.deepcopy(record)
    for _ in range(rng.choice([1, 1, 2])):
        *parents, last = rng.choice(list(places(record)))
        node: Any = record
        for name in parents:
            node = node[name]
        if rng.random() < 0.1:
            del node[last]
        else:
            node[last] = copy.deepcopy(rng.choice([*LEAVES, HUNK]))
    return record


def inferred(rows: Sequence[dict[str, Any]], kind: str, rng: random.Random) -> pa.Table | None:
    """A table of the types that its values have, or of those of the schema without saying what may be null."""
    loose = pa.schema([pa.field(field.name, _loose(field.type)) for field in SCHEMAS[kind]])
    try:
        table = pa.Table.from_pylist(rows, loose if rng.random() < 0.8 else None)
    except (pa.ArrowException, TypeError, OverflowError):
        return None  # no table holds such values
    roll = rng.random()
    if roll < 0.05:
        table = table.drop_columns([rng.choice(table.column_names)])
    elif roll < 0.1:
        at = rng.randrange(table.num_columns)
        table = table.set_column(
            at, table.column_names[at], pa.array([rng.choice([1, "x", 0.5, [1], None])] * len(rows))
        )
    elif roll < 0.15:
        table = table.rename_columns(
            [rng.choice(table.column_names) if rng.random() < 0.1 else name for name in table.column_names]
        )
    return table


def _loose(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _loose(field.type)) for field in kind.fields])
    return pa.list_(_loose(kind.value_type)) if pa.types.is_list(kind) else kind


def try_records(name: str, count: int, folder: Path, write_unchecked: WriteUnchecked) -> tuple[int, int]:
    """Mutated records of a format: each is refused with its place, or becomes a document without a null in it."""
    kind = FORMATS[name].kind
    rng = random.Random(f"{name} {count}")
    good = samples(kind)
    refused = accepted = 0
    while refused + accepted < count:
        rows = [rng.choice(good), mutated(rng.choice(good), rng), rng.choice(good)]
        table = inferred(rows, kind, rng)
        if table is None:
            continue
        try:
            output = write_unchecked(folder, [table])
        except pa.ArrowException:
            continue  # Parquet has no such type
        corpus = dataset(folder, output)
        try:
            units = Units(corpus, "train", FORMATS[name].columns, FORMATS[name].group_by, kind)
            unit = units[0]
            text = written([row for document in range(len(unit)) for row in unit[document]], name)
        except UserError as error:
            message = str(error)
            assert "part-foreign.parquet" in message
            row = re.search(r"row group 0, row [012] \(.+\): .", message)
            assert row or any(what in message for what in OF_THE_WHOLE), message
            refused += 1
        else:
            assert "None" not in re.sub("None of it", "", text), (rows, text)
            accepted += 1
    return refused, accepted


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_any_record_is_refused_with_its_place_or_becomes_a_document(
    name: str, tmp_path: Path, write_unchecked: WriteUnchecked
) -> None:
    refused, accepted = try_records(name, 40, tmp_path, write_unchecked)
    assert refused
    assert accepted


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_thousand_records_of_each_format(name: str, tmp_path: Path, write_unchecked: WriteUnchecked) -> None:
    try_records(name, 1000, tmp_path, write_unchecked)


def open_mixture(inputs: FeedInputs, folder: Path, name: str, **changes: Any) -> FeedInputs:
    """The inputs of one dataset of a format, which lies in the folder itself."""
    mixture = {"sources": [{"name": "only", "format": name, "share": 1, "max_epochs": 0}]}
    (folder / "mixture.json").write_text(json.dumps(mixture))
    config = dataclasses.replace(inputs.config, mixture=str(folder / "mixture.json"), **changes)
    return dataclasses.replace(inputs, corpus=str(folder), config=config)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"plain_text"}))
def test_a_dataset_of_another_kind_is_refused_at_once(untokenized: FeedInputs, name: str, tmp_path: Path) -> None:
    """Texts without structure have a column `text` and no other that a format reads."""
    corpus = write_records(tmp_path, SCHEMAS["plain_text"], [[{"text": "x"}]])
    here = open_mixture(untokenized, tmp_path, name)
    with pytest.raises(UserError) as caught:
        open_sources(here)
    message = str(caught.value)
    where = (
        f"the dataset {corpus} of the source 'only', whose format is {name!r}, holds other records than are asked for"
    )
    missing = ", ".join(column for column in FORMATS[name].columns if column != "text")
    assert message.startswith(f"{where}: the columns {missing} are missing; ")


def issues(folder: Path, write_unchecked: WriteUnchecked, groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    loose = pa.schema([pa.field(field.name, _loose(field.type)) for field in SCHEMAS["issue"]])
    dataset(folder, write_unchecked(folder, [pa.Table.from_pylist(list(rows), loose) for rows in groups]))


def numbered(number: int, **changes: Any) -> dict[str, Any]:
    return samples("issue")[0] | {"id": f"o/r/issues/{number}", "title": f"number {number}"} | changes


def reopened(number: int) -> dict[str, Any]:
    issue = numbered(number)
    return issue | {"events": [event | {"kind": "reopened"} for event in issue["events"]]}


def test_faulty_records_stop_the_work_or_are_left_out_and_counted(
    untokenized: FeedInputs, tmp_path: Path, write_unchecked: WriteUnchecked
) -> None:
    groups = [
        [numbered(0), numbered(1, title=None), numbered(2, author=None), reopened(3)],
        [numbered(4), numbered(5)],
        [reopened(6)],
    ]
    issues(tmp_path, write_unchecked, groups)
    stopping = open_mixture(untokenized, tmp_path, "issue")
    first = r"part-foreign\.parquet is damaged: row group 0, row 1 \(o/r/issues/1\): "
    with pytest.raises(UserError, match=first) as caught:
        laid(stopping, str(tmp_path / "stopped"))
    assert "\n" not in str(caught.value)
    skipping = laid(
        open_mixture(untokenized, tmp_path, "issue", damaged="skip"), str(tmp_path / "tokens"), renderings=3
    )
    statistics = read_manifest(skipping.tokens).statistics["sources"]["only"]
    assert len(statistics["tokens"]) == 3
    # Of one rendering: the same is left out of every other one. A row group without a good record is a damaged one.
    assert statistics["left_out"] == {"no_value": 2, "unknown_value": 1}
    assert statistics["damaged_units"] == 1
    rows = Rows(skipping)
    whole = rows.read(rows.places(0, rows.sources[0].first_row(3)))
    text = "".join(map(skipping.tokenizer.decode, whole.features["tokens"]))
    assert set(re.findall(r"Title: number (\d)", text)) <= {"0", "4", "5"}


def test_a_source_all_of_whose_records_are_faulty_is_named(
    untokenized: FeedInputs, tmp_path: Path, write_unchecked: WriteUnchecked
) -> None:
    issues(tmp_path, write_unchecked, [[reopened(1)], [reopened(2), numbered(3, title=None)]])
    skipping = open_mixture(untokenized, tmp_path, "issue", damaged="skip")
    with pytest.raises(UserError, match="nothing of the source only can be read: all of its 2 row groups"):
        laid(skipping, str(tmp_path / "tokens"))


def test_a_faulty_file_leaves_its_repository(
    untokenized: FeedInputs, tmp_path: Path, write_unchecked: WriteUnchecked
) -> None:
    write_corpus(tmp_path / "whole", [[{"a": [("1", "x"), ("2", "y")], "b": [("3", "z")], "c": [("4", "w")]}]])
    (part,) = (tmp_path / "whole" / "train").iterdir()
    rows = pq.read_table(part).to_pylist()
    rows[1]["content"] = "other"
    rows[2]["content"] = "another"
    dataset(tmp_path, write_unchecked(tmp_path, [pa.Table.from_pylist(rows, SOURCE_FILE)]))
    share = SourceShare("source_code", "repository", 1.0)
    stop = dataclasses.replace(untokenized, corpus=str(tmp_path))
    with pytest.raises(UserError, match=r"row group 0, row 1 \(a/2\): its text has the sha256"):
        open_units(stop, share, "train")[0]
    skip = dataclasses.replace(stop, config=dataclasses.replace(untokenized.config, damaged="skip"))
    unit = open_units(skip, share, "train")[0]
    assert [[row["path"] for row in unit[document]] for document in range(len(unit))] == [["1"], ["4"]]
    assert unit.left_out == {"changed": 2}


def test_the_first_part_that_can_be_opened_tells_what_a_dataset_holds(untokenized: FeedInputs, tmp_path: Path) -> None:
    groups = split_units(make_repositories(4), 2)
    corpus = write_corpus(tmp_path, [groups[:1], groups[1:]])
    first, second = sorted((tmp_path / "train").iterdir())
    share = SourceShare("source_code", "repository", 1.0)
    stop = dataclasses.replace(untokenized, corpus=corpus)
    skip = dataclasses.replace(stop, config=dataclasses.replace(untokenized.config, damaged="skip"))
    second.write_bytes(bytes(second.stat().st_size))
    assert len(open_units(stop, share, "train")) == 2, "the second part is not opened before it is read"
    first.write_bytes(bytes(first.stat().st_size))
    with pytest.raises(UserError, match=f"{first} is damaged"):
        open_units(stop, share, "train")
    assert len(open_units(skip, share, "train")) == 2
