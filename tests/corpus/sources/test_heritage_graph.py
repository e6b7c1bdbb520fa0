from typing import Any

import pyarrow as pa
import pytest

from sc2jax.corpus.sources.heritage_graph import ROOTS, one_per_directory

ROOT: dict[str, Any] = {
    "name": "a/one",
    "url": "https://github.com/a/one",
    "visit_date": 5,
    "snapshot": bytes(20),
    "stars": 5,
    "forks": 5,
    "license": "MIT",
    "github_id": 5,
    "branch": b"refs/heads/main",
    "revision": b"5" * 20,
    "date": 5,
    "committer_date": 5,
    "directory": b"d" * 20,
}

ORDER = [
    ("license", "Apache-2.0", "MIT"),
    ("license", "MIT", None),
    ("stars", 6, 5),
    ("forks", 6, 5),
    ("date", 4, 5),
    ("date", None, 5),
    ("github_id", 4, 5),
    ("github_id", None, 5),
    ("visit_date", 4, 5),
    ("url", "https://github.com/a/a", "https://github.com/a/one"),
    ("branch", b"refs/heads/main", b"HEAD"),
    ("revision", b"4" * 20, b"5" * 20),
]
"""What decides on equal directories, in this order: a column, a value of the one that is taken, and of the other."""


@pytest.mark.parametrize("place", range(len(ORDER)))
def test_each_rule_comes_before_all_that_follow_it(place: int) -> None:
    """The one that a rule prefers is taken though every later rule prefers the other."""
    name, better, worse = ORDER[place]
    later = {key: (good, bad) for key, good, bad in ORDER[place + 1 :][::-1] if key != name}
    taken = ROOT | {key: bad for key, (_, bad) in later.items()} | {name: better}
    other = ROOT | {key: good for key, (good, _) in later.items()} | {name: worse}
    for rows in ([taken, other], [other, taken]):
        assert one_per_directory(pa.Table.from_pylist(rows, ROOTS)).to_pylist() == [taken]
