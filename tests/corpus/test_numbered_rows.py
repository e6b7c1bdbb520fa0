import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.numbered_rows import among

IDS = st.lists(st.integers(0, 9), max_size=8)


@given(IDS, st.sets(st.integers(0, 9)))
def test_which_rows_are_among_the_chosen(ids: list[int], chosen: set[int]) -> None:
    found = among(np.array(ids, np.int64), np.array(sorted(chosen), np.int64))
    assert found.tolist() == [id_ in chosen for id_ in ids]
