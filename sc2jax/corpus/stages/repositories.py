"""The account of the repositories: what each held, what is kept of it, and why nothing is."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa

from sc2jax.corpus.sources.listing import FOUND_REPOSITORIES
from sc2jax.records.schemas import REPOSITORY
from sc2jax.records.statistics import RepositoryShare

NO_FILES = "no_files"
"""Why nothing is kept of a repository in which no file was found."""

_ROWS = 100_000


@dataclasses.dataclass(frozen=True)
class Account:
    """What became of the files of each repository, added up while they are written."""

    files: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """Of a repository on a side."""
    sizes: Counter[str] = dataclasses.field(default_factory=Counter)
    rejects: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)

    def keep(self, side: str, table: pa.Table) -> None:
        """Adds files that are kept on a side of the split."""
        sums = table.group_by("repository").aggregate([("source_bytes", "count"), ("source_bytes", "sum")])
        for row in sums.to_pylist():
            self.files[row["repository"], side] += row["source_bytes_count"]
            self.sizes[row["repository"]] += row["source_bytes_sum"]

    def reject(self, table: pa.Table) -> None:
        """Adds files that are left out."""
        for row in table.group_by(["repository", "reason"]).aggregate([("path", "count")]).to_pylist():
            self.rejects.setdefault(row["repository"], Counter())[row["reason"]] += row["path_count"]

    def tables(self, found: pa.Table) -> Iterator[pa.Table]:
        """The repositories that were found (schema FOUND_REPOSITORIES), with what is kept of them."""
        for low in range(0, len(found), _ROWS):
            rows = [self._row(row) for row in found.slice(low, _ROWS).cast(FOUND_REPOSITORIES).to_pylist()]
            yield pa.Table.from_pylist(rows, REPOSITORY)

    def _row(self, row: dict) -> dict:
        if row["reason"]:  # it is put aside, and may have the name of another one
            return row | {"train_files": 0, "heldout_files": 0, "kept_bytes": 0}
        name = row["repository"]
        train, heldout = self.files[name, "train"], self.files[name, "heldout"]
        kept = {"train_files": train, "heldout_files": heldout, "kept_bytes": self.sizes[name]}
        why = {} if train or heldout else self._why(name, row["files"])
        return row | kept | why

    def _why(self, name: str, files: int) -> dict[str, str]:
        reasons = self.rejects.get(name)
        if not reasons:
            return {"reason": NO_FILES, "detail": ""}
        reason, count = min(reasons.items(), key=lambda each: (-each[1], each[0]))
        return {"reason": reason, "detail": f"{count} of {files} files"}


def repository_share(reasons: Mapping[str, int]) -> RepositoryShare:
    """The repositories by why nothing is kept of them, "" for those of which something is, as the statistics say it."""
    without = {reason: count for reason, count in sorted(reasons.items()) if reason}
    kept = reasons.get("", 0)
    return {"found": kept + sum(without.values()), "kept": kept, "without": without}
