import functools

import pyarrow as pa
import pytest

from sc2jax.corpus.engine import map_units
from sc2jax.errors import UserError

GIVEN = pa.schema([pa.field("number", pa.int64()), pa.field("name", pa.string())])
RETURNED = pa.schema([pa.field("square", pa.int64()), pa.field("unit", pa.list_(pa.string()))])


def square(rows: pa.Table, fail_at: int = -1) -> pa.Table:
    assert rows.schema == GIVEN
    numbers = rows["number"].to_pylist()
    if fail_at in numbers:
        raise UserError(f"no {fail_at} please")
    odd = [number for number in numbers if number % 2]
    return pa.table({"square": [n * n for n in odd], "unit": [rows["name"].to_pylist()] * len(odd)}, schema=RETURNED)


def given(count: int) -> pa.Table:
    return pa.table({"number": range(count), "name": [f"n{number}" for number in range(count)]}, schema=GIVEN)


def test_units_arrive_whole_and_results_in_their_order() -> None:
    tables = list(map_units(given(100), [0, 1, 4, 50], square, RETURNED))
    assert [table.schema for table in tables] == [RETURNED] * 4
    assert [len(table) for table in tables] == [0, 2, 23, 25]
    squares = [value for table in tables for value in table["square"].to_pylist()]
    assert squares == [number * number for number in range(1, 100, 2)]
    assert tables[1]["unit"].to_pylist() == [["n1", "n2", "n3"]] * 2


def test_no_rows_no_work() -> None:
    assert list(map_units(given(0), [], square, RETURNED)) == []


def test_what_a_function_raises_is_raised_here() -> None:
    with pytest.raises(UserError, match="no 7 please"):
        list(map_units(given(20), [0, 5, 10], functools.partial(square, fail_at=7), RETURNED))
