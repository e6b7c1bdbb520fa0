import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.dedup.survivors import first_copies


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=20))
def test_the_most_welcome_then_the_first_copy_is_kept(rows: list[tuple[str, int]]) -> None:
    digests = np.array([digest for digest, _ in rows], "S1")
    ranks = np.array([rank for _, rank in rows], np.int8)
    for row, kept in enumerate(first_copies(digests, ranks).tolist()):
        copies = [other for other in range(len(rows)) if rows[other][0] == rows[row][0]]
        assert kept == min(copies, key=lambda other: (rows[other][1], other))
