"""The sides of the split: which repositories are held out from training."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc2jax.corpus.engine import map_units
from sc2jax.corpus.outcomes import Fallen
from sc2jax.corpus.units import Units

_SEEN = pa.schema([("repositories", pa.int64()), ("below", pa.int64()), ("least", pa.string()), ("most", pa.string())])


@dataclasses.dataclass(frozen=True)
class Sides:
    """Which repositories are held out: those whose hash falls below `fraction`, in any corpus, whatever else it holds.

    Of two or more repositories at least one is held out and at least one is not: where the hashes leave a side empty,
    the repository nearest to the limit, `moved`, changes sides. A fraction of 0 holds nothing out; nor does a single
    repository, which is then the one that is `moved`.
    """

    fraction: float
    moved: str = ""

    def is_heldout(self, repository: str) -> bool:
        """Whether a repository is held out."""
        return (_hash(repository) < self.fraction) != (repository == self.moved)

    def is_trained(self, repository: str) -> bool:
        """Whether it is not."""
        return not self.is_heldout(repository)


def sides_of(files: Units, fallen: Fallen, fraction: float) -> Sides:
    """The sides of the repositories of which some file is left."""
    look = functools.partial(_look, files=files, fallen=fallen, fraction=fraction)
    units = files.table()
    with map_units(units, np.arange(len(units)), look, _SEEN) as results:
        return joined([row for table in results for row in table.to_pylist()], fraction)


def joined(units: Sequence[Mapping[str, Any]], fraction: float) -> Sides:
    """The sides, given what `seen_in` says of each unit."""
    seen = [row for row in units if row["repositories"]]
    repositories, below = (sum(row[name] for row in seen) for name in ("repositories", "below"))
    if not seen:
        return Sides(fraction)
    least, most = (
        choose((row[name] for row in seen), key=_by_hash) for choose, name in ((min, "least"), (max, "most"))
    )
    if fraction == 0:
        return Sides(fraction)
    if repositories == 1:
        return Sides(fraction, least if below else "")
    if not below:
        return Sides(fraction, least)
    return Sides(fraction, most if below == repositories else "")


def _look(unit: pa.Table, files: Units, fallen: Fallen, fraction: float) -> pa.Table:
    number = unit["unit"][0].as_py()
    names: set[str] = set()
    for table in files.rows(number, "kept").take(fallen.kept(number), ["repository"]):
        names.update(table["repository"].unique().to_pylist())
    return seen_in(names, fraction)


def seen_in(names: Iterable[str], fraction: float) -> pa.Table:
    """Of some repositories: how many they are, how many lie below the limit, the first and the last by their hashes."""
    ranked = sorted(names, key=_by_hash)
    below = sum(_hash(name) < fraction for name in ranked)
    ends = (ranked[0], ranked[-1]) if ranked else ("", "")
    columns = {"repositories": [len(ranked)], "below": [below], "least": [ends[0]], "most": [ends[1]]}
    return pa.table(columns, _SEEN)


def _by_hash(name: str) -> tuple[float, str]:
    return _hash(name), name


def _hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
