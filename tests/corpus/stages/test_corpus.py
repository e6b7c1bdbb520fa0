import pyarrow as pa
import pytest

from sc2jax.corpus.stages.corpus import _row_groups


@pytest.mark.parametrize(("more", "expected"), [(0, ["aa", "bb", "cc", "de"]), (1, ["aabb", "ccd", "e"])])
def test_a_row_group_is_closed_after_the_repository_that_fills_it(more: int, expected: list[str]) -> None:
    """The target is the size of two files, or a byte more; repositories that go on in the next table are not cut."""
    text = "x" * 100
    tables = [pa.table({"repository": list(names), "content": [text] * len(names)}) for names in ("aab", "bcc", "de")]
    target = tables[0].slice(0, 2)["content"].nbytes + more
    found = ["".join(table["repository"].to_pylist()) for table in _row_groups(iter(tables), target)]
    assert found == expected
