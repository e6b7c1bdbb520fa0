import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from heritage_exports import SCHEMAS, arrow_table, no_tables, write_export
from pyarrow import orc

from sc2jax.corpus.sources import heritage_tables
from sc2jax.corpus.sources.heritage_tables import (
    COLUMNS,
    NOTHING,
    bytes_of,
    export_folder,
    id_keys,
    packed,
    read_stripe,
    stripes,
)
from sc2jax.errors import UserError


def test_the_columns_are_those_that_are_exported() -> None:
    relational = pytest.importorskip("swh.export.relational", reason="swh.export is not installed")
    tables = {name: relational.TABLES[name] for name in SCHEMAS}
    plain = [[(column, kind.removeprefix("visit_")) for column, kind in columns] for columns in tables.values()]
    assert plain == list(SCHEMAS.values())


def test_only_columns_of_the_tables_are_read() -> None:
    assert COLUMNS.keys() == SCHEMAS.keys()
    for name, columns in COLUMNS.items():
        assert set(columns) <= {column for column, _ in SCHEMAS[name]}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"sha1": f"{number:040x}", "sha1_git": f"{number + 7:040x}", "length": number} for number in range(count)]


def test_every_stripe_of_every_file_is_read_once(tmp_path: Path) -> None:
    tables = no_tables() | {"content": rows(50_000)}
    export = write_export(tmp_path, tables, files=3, stripe_rows=1000)
    folder = export_folder(export)
    assert folder == f"{export}/orc"
    assert export_folder(folder) == folder
    (tmp_path / "orc/content/_SUCCESS").write_text("")
    found = stripes(folder, "content")
    assert len(found) > 5
    assert sum(found["rows"].to_pylist()) >= 50_000 > sum(found["rows"].to_pylist()) - len(found)
    tables = [read_stripe(row["path"], row["stripe"], ("length", "sha1")) for row in found.to_pylist()]
    assert all(table.column_names == ["length", "sha1"] for table in tables)
    assert sorted(pa.concat_tables(tables)["length"].to_pylist()) == list(range(50_000))


def test_an_export_is_known_by_its_tables(tmp_path: Path) -> None:
    assert export_folder(str(tmp_path / "nowhere")) == ""
    assert export_folder(str(tmp_path)) == ""
    export = write_export(tmp_path, no_tables())
    assert export_folder(export)
    (tmp_path / "orc/revision").rename(tmp_path / "orc/other")
    assert export_folder(export) == ""


def test_dates_are_microseconds(tmp_path: Path) -> None:
    dates = [None, 0, -1, 1_700_000_000_123_456, -9_000_000_000_000_000]
    table = arrow_table("revision", [{"id": "a" * 40, "date": date, "committer_date": 7} for date in dates])
    orc.write_table(table, tmp_path / "a.orc")
    found = read_stripe(str(tmp_path / "a.orc"), 0, ("committer_date", "id", "date"))
    assert found["date"].to_pylist() == dates
    assert found["committer_date"].to_pylist() == [7] * 5


WILD = [100_000_000_000_250_000, None, -62_135_596_799_750_000, 5]


def write_wild_dates(path: Path) -> str:
    pyorc = pytest.importorskip("pyorc", reason="pyorc, of the extra `heritage`, is not installed")
    converters = {pyorc.TypeKind.TIMESTAMP: heritage_tables._Microseconds}
    schema = "struct<id:string,date:timestamp,type:string,committer_date:timestamp>"
    with path.open("wb") as file, pyorc.Writer(file, schema, converters=converters) as writer:
        for date in WILD:
            writer.write(("a" * 40, date, "git", 1))
    return str(path)


def test_dates_that_pyarrow_refuses(tmp_path: Path) -> None:
    path = write_wild_dates(tmp_path / "wild.orc")
    found = read_stripe(path, 0, ("type", "committer_date", "date"))
    assert found.column_names == ["type", "committer_date", "date"]
    assert found["date"].to_pylist() == WILD
    assert found["committer_date"].to_pylist() == [1] * 4
    assert found["type"].to_pylist() == ["git"] * 4


def test_which_package_such_dates_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise pa.ArrowInvalid("ORC timestamp (100000000000s + 250000000ns) is out of range for nanosecond resolution")

    monkeypatch.setattr(orc.ORCFile, "read_stripe", refuse)
    orc.write_table(pa.table({"date": [1]}), tmp_path / "a.orc")
    monkeypatch.setitem(sys.modules, "pyorc", None)
    with pytest.raises(UserError) as error:
        read_stripe(f"{tmp_path}/a.orc", 0, ("date",))
    assert str(error.value) == (
        f"{tmp_path}/a.orc holds dates before 1677 or after 2262, for which the package pyorc is needed; "
        "install sc2jax[heritage]"
    )


def test_tables_that_are_missing_damaged_or_others(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with pytest.raises(UserError, match=r"content holds no \.orc files; fetch that table"):
        stripes(folder, "content")
    (tmp_path / "content").mkdir()
    path = tmp_path / "content" / "a.orc"
    path.write_bytes(b"no table")
    with pytest.raises(UserError, match=r"a\.orc cannot be read as a table in ORC .*; fetch that file"):
        stripes(folder, "content")
    orc.write_table(pa.table({"sha1": ["a"], "length": [1]}), path)
    with pytest.raises(UserError, match=r"a\.orc has no column sha1_git \(but sha1, length\)"):
        stripes(folder, "content")
    orc.write_table(arrow_table("content", rows(5000)), path)
    whole = path.read_bytes()
    path.write_bytes(b"ORC" + bytes(len(whole) // 2) + whole[3 + len(whole) // 2 :])
    with pytest.raises(UserError, match=r"a\.orc cannot be read as a table in ORC"):
        read_stripe(str(path), 0, COLUMNS["content"])


def test_texts_that_are_no_utf8(tmp_path: Path) -> None:
    bad = pa.array([b"http\xff"]).view(pa.string())
    orc.write_table(pa.table({"origin": bad}), tmp_path / "a.orc")
    with pytest.raises(UserError, match=r"a\.orc cannot be read as a table in ORC \(.*UTF8"):
        read_stripe(f"{tmp_path}/a.orc", 0, ("origin",))


def test_identifiers_are_twenty_bytes() -> None:
    texts = ["00" * 20, "ff" * 20, "0123456789abcdef" * 2 + "01234567", None]
    chunked = pa.chunked_array([texts[:1], texts[1:3], texts[3:]], pa.string())
    ids = packed(chunked, "here")
    assert ids.to_pylist() == [bytes.fromhex(text) if text else NOTHING for text in texts]
    assert packed(chunked.slice(1, 2), "here").to_pylist() == [bytes.fromhex(str(text)) for text in texts[1:3]]
    assert packed(pa.chunked_array([], pa.string()), "here").to_pylist() == []
    assert bytes_of(ids.slice(1, 1)).tolist() == [[255] * 20]
    assert bytes_of(pa.chunked_array([ids.slice(2), ids])).tobytes() == b"".join(
        ids.slice(2).to_pylist() + ids.to_pylist()
    )
    assert id_keys(ids).tolist() == [int.from_bytes(each[:8], "little") for each in ids.to_pylist()]


@pytest.mark.parametrize("bad", ["", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 38 + "\u00e9", "\x00" * 40])
def test_what_is_no_identifier(bad: str) -> None:
    for texts in ([bad], ["a" * 40, bad], [bad, "b" * 40]):
        with pytest.raises(UserError) as error:
            packed(pa.chunked_array([texts]), "a.orc")
        assert str(error.value) == (
            f"a.orc holds {bad!r} where an identifier should be; fetch that file of the export anew"
        )
