"""The sample records are of their schemas, and every schema says who a record is and where it comes from."""

import json

import pyarrow as pa
import pytest

from sc2jax.assets import asset_path
from sc2jax.records.checks import find_faults
from sc2jax.records.dataset import read_tables, write_part
from sc2jax.records.manifest import Manifest
from sc2jax.records.schemas import ORIGIN, REJECTED_FILE, SCHEMAS


@pytest.fixture(params=sorted(SCHEMAS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def samples(kind: str) -> list[dict]:
    lines = asset_path("data", "records", f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_samples_come_back_from_parquet(kind: str, tmp_path) -> None:
    rows = samples(kind)
    table = pa.Table.from_pylist(rows, SCHEMAS[kind])
    assert all(list(row) == SCHEMAS[kind].names for row in rows)
    part = write_part(str(tmp_path), "train", 0, [table], SCHEMAS[kind])
    manifest = Manifest("toy", {}, {}, (part,), {})
    assert [row for read in read_tables(str(tmp_path), manifest, "train") for row in read.to_pylist()] == rows


def test_columns_that_must_have_values_have_them(kind: str) -> None:
    for row in samples(kind):
        assert all(row[field.name] is not None for field in SCHEMAS[kind] if not field.nullable)


def test_identities_differ(kind: str) -> None:
    key = ("repository", "path") if kind == "source_file" else ("id",)
    assert not any(SCHEMAS[kind].field(name).nullable for name in key)
    identities = [tuple(row[name] for name in key) for row in samples(kind)]
    assert len(set(identities)) == len(identities) > 0


def test_no_digest_is_recorded_that_nothing_compares(kind: str) -> None:
    digests = {name for name in SCHEMAS[kind].names if "sha256" in name}
    assert digests == ({"text_sha256", "edits_sha256"} if kind == "source_file" else set())
    for name in digests:
        wrong = pa.Table.from_pylist([samples(kind)[0] | {name: "0" * 64}], SCHEMAS[kind])
        assert [fault.reason for fault in find_faults(wrong, SCHEMAS[kind], kind)] == ["changed"]


def test_provenance(kind: str) -> None:
    expected = {"swhid", "revision", "text_sha256"} if kind == "source_file" else {"url", "snapshot"}
    assert expected | {"licenses", "license_type"} <= set(SCHEMAS[kind].names)


def test_everything_of_a_rejected_file_is_known() -> None:
    assert not any(field.nullable for field in REJECTED_FILE)
    unknown = {field.name for field in SCHEMAS["source_file"] if field.nullable}
    assert unknown == {*ORIGIN.names, "is_vendor", "is_generated"}
    edit = SCHEMAS["source_file"].field("edits").type.value_type
    assert not any(field.nullable for field in edit)
