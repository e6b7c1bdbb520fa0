import re

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.texts import Texts, bytes_of

ANY_TEXTS = st.lists(
    st.one_of(st.text(max_size=40), st.text(alphabet="ab\r\n é\u2028😀", max_size=40)), min_size=1, max_size=6
)


def texts(values: list[str]) -> Texts:
    return Texts(pa.chunked_array([pa.array(["before"], pa.large_string()), pa.array(values, pa.large_string())])[1:])


@given(ANY_TEXTS)
def test_line_figures_equal_those_of_a_split(values: list[str]) -> None:
    measured = texts(values)
    for row, value in enumerate(values):
        lines = re.split(r"\r\n|\r|\n", value)
        if lines[-1] == "":
            lines.pop()
        lengths = [len(line) for line in lines]
        assert measured.lengths[row] == len(value)
        assert measured.lines[row] == len(lines)
        assert measured.longest_line[row] == max(lengths, default=0)
        np.testing.assert_allclose(measured.mean_line[row], sum(lengths) / max(len(lines), 1))


@given(ANY_TEXTS)
def test_counts_equal_those_of_the_predicate(values: list[str]) -> None:
    measured = texts(values)
    for predicate in (str.isalpha, str.isalnum):
        assert measured.count(predicate).tolist() == [sum(map(predicate, value)) for value in values]


@given(st.lists(st.text(alphabet="aab =é", max_size=30), min_size=1, max_size=6), st.integers(1, 5))
def test_runs_equal_those_of_a_regular_expression(values: list[str], shortest: int) -> None:
    total, longest = texts(values).runs(bytes_of("ab="), shortest)
    for row, value in enumerate(values):
        found = [len(match) for match in re.findall(rf"[ab=]{{{shortest},}}", value)]
        assert (total[row], longest[row]) == (sum(found), max(found, default=0))


def test_runs_may_be_asked_to_hold_certain_bytes() -> None:
    total, _ = texts(["....aa....", "aaaa......"]).runs(bytes_of("a."), 4, also=bytes_of("a"))
    assert total.tolist() == [0, 10]
