"""Names of repositories: no two have one, and nothing is lost but what is there twice."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.corpus.sources.left_out import LeftOut
from sc2jax.corpus.sources.listing import FOUND_REPOSITORIES
from sc2jax.corpus.stages import names
from sc2jax.corpus.stages.names import name_repositories
from sc2jax.records.dataset import read_row_group

ROOTS = ["/a/s", "/a/t", "/b/s", "/a/s/t"]
NAMES = st.sampled_from(["p", "q", "s/p", "a/s/p", "b/s/p", "s/t/p", "p~2", "s/p~2", "p~2~2"])


@given(st.lists(st.tuples(st.sampled_from(ROOTS), st.lists(NAMES, min_size=1, max_size=4)), min_size=1, max_size=6))
@settings(max_examples=150)
def test_every_repository_has_a_name_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, units: list[tuple[str, list[str]]]
) -> None:
    folder = str(tmp_path_factory.mktemp("names"))
    left_out = {root: LeftOut(root) for root in ROOTS}

    def read(unit: int) -> pa.Table:
        found = units[unit][1]
        columns = {field.name: pa.nulls(len(found), field.type) for field in FOUND_REPOSITORIES}
        return pa.table(columns | {"repository": found})

    roots, counts = [root for root, _ in units], [len(found) for _, found in units]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_MOST_ROWS", 2)
        renamed = name_repositories(folder, roots, counts, read, left_out)
    given_names = [
        read_row_group(folder, renamed[unit], 0)["repository"].to_pylist() if unit in renamed else found
        for unit, (_, found) in enumerate(units)
    ]
    taken = [name for part in given_names for name in part if name]
    assert max(Counter(taken).values(), default=1) == 1
    found = Counter((root, name) for root, part in units for name in part)
    assert len(taken) == len(found), "one is put aside where its source has another of the name"
    counted = sum(share["count"] for each in left_out.values() for share in each.statistics.values())
    assert bool(counted) == (found.total() > len(found))
    alone = Counter(name for _, name in found)
    for (_, part), given_part in zip(units, given_names, strict=True):
        for name, own in zip(part, given_part, strict=True):
            assert not own or own.partition("~")[0].endswith(name.partition("~")[0])
            if alone[name] == 1 and "/" not in name and "~" not in name:
                assert own in (name, "")


def test_as_much_of_the_path_as_tells_them_apart(tmp_path: Path) -> None:
    def read(unit: int) -> pa.Table:
        columns = {field.name: pa.nulls(2, field.type) for field in FOUND_REPOSITORIES}
        return pa.table(columns | {"repository": ["p", f"own{unit}"]})

    renamed = name_repositories(str(tmp_path), ["/x/src", "/y/src", "/y/lib"], [2, 2, 2], read, {})
    found = [read_row_group(str(tmp_path), renamed[unit], 0)["repository"].to_pylist() for unit in range(3)]
    assert found == [["x/src/p", "own0"], ["y/src/p", "own1"], ["y/lib/p", "own2"]]
