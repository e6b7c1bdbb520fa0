import numpy as np
import pytest

from sc2jax.feed.packing import FEATURES, pack_row

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
