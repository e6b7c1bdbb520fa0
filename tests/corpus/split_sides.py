"""Which repositories are held out, of names that lie in several units."""

from collections.abc import Iterable

from sc2jax.corpus.stages.sides import Sides, joined, seen_in


def sides_of_names(names: Iterable[str], fraction: float, units: int = 3) -> Sides:
    ordered = sorted(names)
    return joined(
        [row for unit in range(units) for row in seen_in(ordered[unit::units], fraction).to_pylist()], fraction
    )


def heldout_repositories(names: Iterable[str], fraction: float) -> set[str]:
    found = list(names)
    return set(filter(sides_of_names(found, fraction).is_heldout, found))
