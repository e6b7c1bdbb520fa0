"""The corpus itself: each side of the split as row groups, all rejects, and the figures."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc2jax.corpus.config import PartsConfig, RowGroupConfig
from sc2jax.corpus.engine import map_units
from sc2jax.corpus.numbered_rows import Committed, NumberedRows
from sc2jax.corpus.outcomes import Fallen
from sc2jax.corpus.sources.listing import FOUND_REPOSITORIES
from sc2jax.corpus.stages.identities import Identities, commit_identities
from sc2jax.corpus.stages.listing import Listing
from sc2jax.corpus.stages.repositories import Account, repository_share
from sc2jax.corpus.stages.row_groups import cut_repositories, row_groups
from sc2jax.corpus.stages.sides import Sides
from sc2jax.corpus.units import Units
from sc2jax.progress import progress
from sc2jax.records.dataset import PartWriter, read_part
from sc2jax.records.manifest import Output, canonical_json
from sc2jax.records.schemas import REJECTED_FILE, REPOSITORY, SOURCE_FILE, SPLITS
from sc2jax.records.stage import Written
from sc2jax.records.statistics import CorpusStatistics, LeftOutShare, SplitShare

_DONE = pa.schema([pa.field("result", pa.string())])
_ASIDE = "99999"
"""The label of the part of repositories of which nothing was read."""


def write_corpus(
    folder: str,
    listing: Listing,
    files: Units,
    stages: Sequence[Committed],
    sides: Sides,
    left_out: Mapping[str, LeftOutShare],
    row_group_config: RowGroupConfig,
    parts_config: PartsConfig,
) -> Written:
    """Writes both sides, who their files are, all rejects and the account of the repositories; adds up the figures.

    Args:
        folder: where they go.
        listing: of the repositories.
        files: those that the filters kept.
        stages: that have dropped some of them.
        sides: of the split.
        left_out: what of the sources was left out.
        row_group_config: how row groups are cut.
        parts_config: size of a Parquet part.
    """
    work = _Work(folder, listing, files, tuple(stages), sides, row_group_config, parts_config.part_bytes)
    parts: list[Output] = []
    identities: list[Output] = []
    outputs: list[Output] = []
    largest = 0
    totals: Counter[str] = Counter()
    with map_units(pa.table({"group": np.arange(files.groups)}), np.arange(files.groups), work, _DONE) as results:
        for table in progress(results, total=files.groups, desc="corpus", unit="part"):
            done = json.loads(table["result"][0].as_py())
            for name, found in (("parts", parts), ("identities", identities), ("others", outputs)):
                found += [Output(**output) for output in done[name]]
            largest = max(largest, done["largest"])
            totals.update({_key(*path): count for *path, count in done["figures"]})
    outputs += _write_aside(folder, listing, parts_config.part_bytes, totals)
    funnel = [line for stage in (files.stage, *stages) for line in stage.manifest.statistics["funnel"]]
    statistics = _statistics(totals, funnel, left_out)
    committed = commit_identities(folder, parts, identities, largest, statistics)
    return [*parts, *committed, *outputs], dict(statistics)


def _key(*path: str) -> str:
    return "\0".join(path)


def _statistics(totals: Mapping[str, int], funnel: list, left_out: Mapping[str, LeftOutShare]) -> CorpusStatistics:
    """The figures of a corpus, from sums by what they are of."""

    def below(*path: str) -> dict[str, int]:
        start = _key(*path, "")
        return {key.removeprefix(start): count for key, count in sorted(totals.items()) if key.startswith(start)}

    sizes = below("language_bytes")
    train, heldout = (_share(totals, side) for side in SPLITS)
    return {
        "funnel": funnel,
        "languages": {name: {"files": count, "bytes": sizes[name]} for name, count in below("language_files").items()},
        "licenses": below("license_files"),
        "split": {"train": train, "heldout": heldout},
        "repositories": repository_share(below("reasons")),
        "cut": {"repositories": totals.get("cut_repositories", 0), "documents": totals.get("documents", 0)},
        "left_out": left_out,
    }


def _share(totals: Mapping[str, int], side: str) -> SplitShare:
    of_side = {name: totals.get(_key(side, name), 0) for name in ("repositories", "files", "bytes")}
    return {"repositories": of_side["repositories"], "files": of_side["files"], "bytes": of_side["bytes"]}


@dataclasses.dataclass(frozen=True)
class _Work:
    """Writes what the units of a group come to."""

    folder: str
    listing: Listing
    files: Units
    stages: tuple[Committed, ...]
    sides: Sides
    config: RowGroupConfig
    part_bytes: int

    def __call__(self, rows: pa.Table) -> pa.Table:
        group = rows["group"][0].as_py()
        figures, account, identities = Counter[str](), Account(), Identities(self.folder)
        parts: list[Output] = []
        for unit in self.files.units_in(group):
            parts += self._write_unit(unit, figures, account, identities)
        others = [*self._write_rejects(group, account), *self._write_account(group, figures, account)]
        outputs = {"parts": parts, "identities": identities.outputs, "others": others}
        done = {name: [dataclasses.asdict(output) for output in found] for name, found in outputs.items()}
        listed = [[*key.split("\0"), count] for key, count in figures.items()]
        done |= {"figures": listed, "largest": identities.largest}
        return pa.table({"result": [canonical_json(done)]}, _DONE)

    def _write_unit(self, unit: int, figures: Counter[str], account: Account, identities: Identities) -> list[Output]:
        rows = self.files.rows(unit, "kept")
        kept = Fallen(self.files, self.stages).kept(unit)
        heldout = self._heldout(rows, kept)
        outputs: list[Output] = []
        for side, ids in zip(SPLITS, (kept[~heldout], kept[heldout]), strict=True):
            writer = PartWriter(self.folder, side, SOURCE_FILE, self.part_bytes, f"{unit:06d}")
            cut = cut_repositories(rows, ids, self.config.max_document_bytes)
            figures["cut_repositories"] += len(cut)
            figures["documents"] += sum(int(numbers.max()) + 1 for numbers in cut.values())
            repositories: set[str] = set()
            tables = row_groups(rows.take(ids, SOURCE_FILE.names), self.config.row_group_bytes, cut)
            for table in identities.of(tables, side, writer):
                writer.add(table)
                account.keep(side, table)
                repositories.update(table["repository"].unique().to_pylist())
                _add_figures(figures, side, table)
            figures[_key(side, "repositories")] += len(repositories)
            outputs += writer.finish()
        return outputs

    def _heldout(self, rows: NumberedRows, ids: np.ndarray) -> np.ndarray:
        names = [table["repository"].to_pylist() for table in rows.take(ids, ["repository"])]
        known: dict[str, bool] = {}
        return np.array(
            [
                known[name] if name in known else known.setdefault(name, self.sides.is_heldout(name))
                for part in names
                for name in part
            ],
            bool,
        )

    def _write_rejects(self, group: int, account: Account) -> list[Output]:
        writer = PartWriter(self.folder, "rejects", REJECTED_FILE, self.part_bytes, f"{group:05d}")
        for stage, output in self._rejects(group):
            for table in read_part(stage.folder, output):
                writer.add(table)
                account.reject(table)
        return writer.finish()

    def _rejects(self, group: int) -> Iterator[tuple[Committed, Output]]:
        for unit in self.files.units_in(group):
            for output in self.files.parts(unit, "rejects"):
                yield self.files.stage, output
        for stage in self.stages:
            for output in stage.manifest.outputs:
                if output.path.startswith(f"rejects/part-{group:05d}"):
                    yield stage, output

    def _write_account(self, group: int, figures: Counter[str], account: Account) -> list[Output]:
        writer = PartWriter(self.folder, "repositories", REPOSITORY, self.part_bytes, f"{group:05d}")
        for unit in self.files.units_in(group):
            for table in account.tables(self.listing.account(unit)):
                writer.add(table)
                figures.update(_key("reasons", reason) for reason in table["reason"].to_pylist())
        return _not_results(writer.finish())


def _add_figures(figures: Counter[str], side: str, table: pa.Table) -> None:
    figures[_key(side, "files")] += table.num_rows
    figures[_key(side, "bytes")] += pc.sum(table["source_bytes"]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    sums = table.group_by("language").aggregate([("source_bytes", "count"), ("source_bytes", "sum")])
    for row in sums.to_pylist():
        figures[_key("language_files", row["language"])] += row["source_bytes_count"]
        figures[_key("language_bytes", row["language"])] += row["source_bytes_sum"]
    for licenses, kind in zip(table["licenses"].to_pylist(), table["license_type"].to_pylist(), strict=True):
        figures.update(_key("license_files", license_) for license_ in licenses or [kind])


def _write_aside(folder: str, listing: Listing, part_bytes: int, figures: Counter[str]) -> list[Output]:
    writer = PartWriter(folder, "repositories", REPOSITORY, part_bytes, _ASIDE)
    for found in listing.aside():
        for table in Account().tables(found.cast(FOUND_REPOSITORIES)):
            writer.add(table)
            figures.update(_key("reasons", reason) for reason in table["reason"].to_pylist())
    return _not_results(writer.finish())


def _not_results(outputs: Sequence[Output]) -> list[Output]:
    """Nothing later depends on the account: a corpus is the same beside a repository that cannot be read."""
    return [dataclasses.replace(output, result=False) for output in outputs]
