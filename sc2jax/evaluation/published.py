"""Scores that others published, to be read beside ours: `data/published_scores.tsv`, which says where each is from."""

import csv
import dataclasses
import functools
from collections.abc import Mapping

from sc2jax.assets import asset_path


@dataclasses.dataclass(frozen=True)
class Published:
    """One figure: the `share` of a benchmark that a model solved, of how many `tasks` (0: not said), and how.

    `size` is the class of models that the paper compares it in.
    """

    name: str
    tasks: int
    setting: str
    model: str
    size: str
    share: float
    source: str


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures of one model, by the group of tests that they stand beside."""

    model: str
    size: str
    figures: Mapping[str, Published]


def beside(published_as: Mapping[str, str]) -> list[Row]:
    """The models with a figure under any of these names, in the order of the table.

    Args:
        published_as: the name of each group of tests in the table.
    """
    unknown = set(published_as.values()) - {one.name for one in _table()}
    if unknown:
        raise ValueError(f"nothing is published as {', '.join(sorted(unknown))}")
    found: dict[tuple[str, str], dict[str, Published]] = {}
    for one in _table():
        for group, name in published_as.items():
            if one.name == name:
                found.setdefault((one.model, one.size), {})[group] = one
    return [Row(model, size, figures) for (model, size), figures in found.items()]


@functools.cache
def _table() -> tuple[Published, ...]:
    lines = asset_path("data", "published_scores.tsv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    return tuple(
        Published(
            row["name"],
            int(row["tasks"]),
            row["setting"],
            row["model"],
            row["size"],
            float(row["percent"]) / 100,
            row["source"],
        )
        for row in rows
    )
