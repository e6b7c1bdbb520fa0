import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sc2jax.corpus.shuffle import Buckets, buckets_for, by_hash, dealt, text_keys
from sc2jax.errors import UserError

ROWS = pa.schema([pa.field("key", pa.uint64()), pa.field("text", pa.string())])


def deal(unit: pa.Table, buckets: int) -> tuple[pa.Table, np.ndarray]:
    number = unit["unit"][0].as_py()
    if number == 13:
        raise UserError("no 13 please")
    keys = np.arange(number * 7, dtype=np.uint64)
    texts = [f"{number}: {key}" for key in keys.tolist()]
    return pa.table({"key": keys, "text": texts}, ROWS), by_hash(keys, buckets)


def shuffled(folder: Path, units: list[int], buckets: int):
    given = pa.table({"unit": pa.array(units, pa.int64())})
    return dealt(str(folder), given, functools.partial(deal, buckets=buckets), ROWS, buckets)


@pytest.mark.parametrize("buckets", [1, 5, 64])
def test_every_row_comes_to_the_bucket_of_its_key_in_the_order_of_units(tmp_path: Path, buckets: int) -> None:
    units = [3, 0, 1, 9, 2]
    with shuffled(tmp_path, units, buckets) as found:
        assert isinstance(found, Buckets)
        assert len(found) == buckets
        assert found.rows == sum(units) * 7
        assert found.units()["bucket"].to_pylist() == list(range(buckets))
        for bucket in range(buckets):
            table = found.read(bucket)
            assert table.schema == ROWS
            expected = [
                f"{unit}: {key}"
                for unit in units
                for key in range(unit * 7)
                if by_hash(np.array([key], np.uint64), buckets)[0] == bucket
            ]
            assert table["text"].to_pylist() == expected
            assert sum(len(piece) for piece in found.pieces(bucket)) == len(expected)
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_where_a_unit_fails(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no 13 please"), shuffled(tmp_path, [1, 13, 2], 4):
        pass
    assert list(tmp_path.iterdir()) == []


def test_no_units_no_rows(tmp_path: Path) -> None:
    with shuffled(tmp_path, [], 3) as found:
        assert len(found) == 3
        assert found.rows == 0
        assert found.read(2) == ROWS.empty_table()


def test_keys_are_spread_and_equal_texts_are_together() -> None:
    keys = text_keys([f"text {number}" for number in range(10_000)])
    assert len(np.unique(keys)) == 10_000
    assert text_keys(["text 7"])[0] == keys[7]
    counts = np.bincount(by_hash(np.arange(10_000, dtype=np.uint64) << np.uint64(40), 10), minlength=10)
    assert 900 < counts.min() <= counts.max() < 1100


@pytest.mark.parametrize(("size", "most", "expected"), [(0, 10, 1), (10, 10, 1), (11, 10, 2), (100, 10, 10)])
def test_buckets_hold_at_most_so_many_bytes(size: int, most: int, expected: int) -> None:
    assert buckets_for(size, most) == expected
