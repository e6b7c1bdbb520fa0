import numpy as np
import pytest

from sc2jax.feed.packing import FEATURES, pack_row, pack_rows

WINDOW = np.array([100, 101, 0, 6, 102, 0, 103], np.int32)


def test_documents_are_isolated() -> None:
    row = pack_row(WINDOW, 6, cross_document_attention=False)
    assert list(row) == list(FEATURES)
    assert row["tokens"].tolist() == [100, 101, 0, 6, 102, 0]
    assert row["targets"].tolist() == [101, 0, 6, 102, 0, 103]
    assert row["segment_ids"].tolist() == [1, 1, 1, 2, 2, 2]
    assert row["positions"].tolist() == [0, 1, 2, 0, 1, 2]
    # The end of text, id 0, is a target of weight 1; what follows it is another document and has none.
    assert row["weights"].tolist() == [1, 1, 0, 1, 1, 0]


def test_a_row_as_one_sequence() -> None:
    row = pack_row(WINDOW, 6, cross_document_attention=True)
    assert row["segment_ids"].tolist() == [1] * 6
    assert row["positions"].tolist() == list(range(6))
    assert row["weights"].tolist() == [1] * 6


def test_a_window_that_is_too_long_is_cut() -> None:
    row = pack_row(WINDOW, 3, cross_document_attention=False)
    assert row["tokens"].tolist() == [100, 101, 0]
    assert row["targets"].tolist() == [101, 0, 6]
    assert row["weights"].tolist() == [1, 1, 0]


@pytest.mark.parametrize("cross", [False, True])
def test_a_window_that_is_too_short_is_padded(cross: bool) -> None:
    row = pack_row(WINDOW[:4], 7, cross)
    assert row["tokens"].tolist() == [100, 101, 0, 6, 4, 4, 4]
    assert row["targets"].tolist() == [101, 0, 6, 4, 4, 4, 4]
    assert row["segment_ids"].tolist() == ([1, 1, 1, 1, 0, 0, 0] if cross else [1, 1, 1, 2, 0, 0, 0])
    assert row["weights"].tolist() == ([1, 1, 1, 0, 0, 0, 0] if cross else [1, 1, 0, 0, 0, 0, 0])
    assert row["positions"].tolist() == ([0, 1, 2, 3, 0, 0, 0] if cross else [0, 1, 2, 0, 0, 0, 0])


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("length", [0, 1])
def test_hardly_anything(length: int, cross: bool) -> None:
    row = pack_row(WINDOW[:length], 3, cross)
    assert all(len(values) == 3 for values in row.values())
    assert not row["weights"].any()


def test_types() -> None:
    for window in (WINDOW, WINDOW.astype(np.int64)):
        row = pack_row(window, 6, cross_document_attention=False)
        assert {name: values.dtype for name, values in row.items()} == {
            name: np.float32 if name == "weights" else np.int32 for name in FEATURES
        }


@pytest.mark.parametrize("cross", [False, True])
def test_rows_packed_together_are_those_packed_one_by_one(cross: bool) -> None:
    """Of windows of any lengths, full of ends of text or without one."""
    chance = np.random.default_rng(0)
    for length in (1, 2, 9):
        windows = [
            np.where(chance.random(size) < rate, 0, chance.integers(0, 9, size))
            for size in (0, 1, 2, length, length + 1, length + 2, 30)
            for rate in (0.0, 0.3, 1.0)
        ]
        packed = pack_rows(windows, length, cross)
        assert list(packed) == list(FEATURES)
        for name, values in packed.items():
            np.testing.assert_array_equal(
                values, np.stack([by_hand(window, length, cross)[name] for window in windows])
            )
            assert values.dtype == (np.float32 if name == "weights" else np.int32)
    assert pack_rows([], 3, cross)["tokens"].shape == (0, 3)


def by_hand(window: np.ndarray, length: int, cross: bool) -> dict[str, list[int]]:
    """A row, one position after the other."""
    row: dict[str, list[int]] = {name: [] for name in FEATURES}
    segment, start = 1, 0
    for at in range(length):
        if at < len(window):
            if at and window[at - 1] == 0 and not cross:
                segment, start = segment + 1, at
            values = [window[at], window[at + 1] if at + 1 < len(window) else 4, segment, at - start]
            values.append(at + 1 < len(window) and (cross or window[at] != 0))
        else:
            values = [4, 4, 0, 0, 0]
        for name, value in zip(FEATURES, values, strict=True):
            row[name].append(int(value))
    return row
