from pathlib import Path

import pytest

from sc2jax.corpus import language, tables
from sc2jax.corpus.tables import table_rows
from sc2jax.errors import UserError


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tables, "asset_path", lambda *_: tmp_path / "table.tsv")
    return tmp_path / "table.tsv"


def test_rows(table: Path) -> None:
    table.write_text("# what it is\na\tb\n\nc\td\n")
    assert table_rows("table.tsv", 2) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("content", [b"a\n", b"a\tb\tc\n", b"\tb\n", b"\xff\tb\n", None])
def test_a_damaged_table_is_one_message(table: Path, content: bytes | None) -> None:
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(UserError, match=r"data/table\.tsv .*install sc2jax again"):
        table_rows("table.tsv", 2)


def test_a_kind_of_name_that_is_unknown(table: Path) -> None:
    table.write_text("kind\tname\tlanguage\nother\tx\tC\n")
    with pytest.raises(UserError, match="damaged at 'other'"):
        language._languages.__wrapped__()
