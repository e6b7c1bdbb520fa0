"""The corpus itself: each side of the split as row groups, all rejects, and the figures."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from sc2jax.corpus.config import PartsConfig, RowGroupConfig
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.corpus.stages.identities import Identities
from sc2jax.corpus.stages.repositories import Account, repository_share
from sc2jax.corpus.stages.row_groups import cut_repositories, row_groups
from sc2jax.records.dataset import PartWriter, read_tables
from sc2jax.records.manifest import Output
from sc2jax.records.schemas import REJECTED_FILE, REPOSITORY, SOURCE_FILE, SPLITS
from sc2jax.records.stage import Written
from sc2jax.records.statistics import CorpusStatistics, CutShare, LeftOutShare, SplitShare


def write_corpus(
    folder: str,
    files: Committed,
    split: Committed,
    stages: Sequence[Committed],
    repositories: pa.Table,
    left_out: Mapping[str, LeftOutShare],
    row_group_config: RowGroupConfig,
    parts_config: PartsConfig,
) -> Written:
    """Writes both sides, who their files are, all rejects and the account of the repositories; adds up the figures."""
    rows, contents, account = NumberedRows.of(files, "kept"), _Contents(), Account()
    identities = Identities(folder)
    outputs, shares = [], {}
    documents: CutShare = {"repositories": 0, "documents": 0}
    for side in SPLITS:
        writer = PartWriter(folder, side, SOURCE_FILE, parts_config.part_bytes)
        ids = read_ids(split, side)
        cut = cut_repositories(rows, ids, row_group_config.max_document_bytes)
        tables = row_groups(rows.take(ids, SOURCE_FILE.names), row_group_config.row_group_bytes, cut)
        tables = identities.of(tables, side, writer)
        shares[side] = _write_side(writer, tables, contents, functools.partial(account.keep, side))
        outputs += writer.finish()
        documents["repositories"] += len(cut)
        documents["documents"] += sum(int(numbers.max()) + 1 for numbers in cut.values())
    sides = list(outputs)
    outputs += _write_rejects(folder, stages, parts_config.part_bytes, account)
    writer, reasons = PartWriter(folder, "repositories", REPOSITORY, parts_config.part_bytes), Counter()
    for table in account.tables(repositories):
        writer.add(table)
        reasons.update(table["reason"].to_pylist())
    # Nothing later depends on the account: a corpus is the same beside a repository that cannot be read.
    outputs += [dataclasses.replace(output, result=False) for output in writer.finish()]
    statistics: CorpusStatistics = {
        "funnel": [line for stage in stages for line in stage.manifest.statistics["funnel"]],
        "languages": {
            name: {"files": count, "bytes": contents.language_bytes[name]}
            for name, count in contents.language_files.items()
        },
        "licenses": dict(contents.license_files),
        "split": {"train": shares["train"], "heldout": shares["heldout"]},
        "repositories": repository_share(reasons),
        "cut": documents,
        "left_out": left_out,
    }
    return outputs + identities.finish(sides, statistics), dict(statistics)


@dataclasses.dataclass(frozen=True)
class _Contents:
    """Files and bytes by language, and files by licence, of what was written; a file without one by its type."""

    language_files: Counter[str] = dataclasses.field(default_factory=Counter)
    language_bytes: Counter[str] = dataclasses.field(default_factory=Counter)
    license_files: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        sizes = table["source_bytes"].to_pylist()
        for language, size in zip(table["language"].to_pylist(), sizes, strict=True):
            self.language_files[language] += 1
            self.language_bytes[language] += size
        for licenses, kind in zip(table["licenses"].to_pylist(), table["license_type"].to_pylist(), strict=True):
            self.license_files.update(licenses or [kind])


def _write_side(
    writer: PartWriter, tables: Iterator[pa.Table], contents: _Contents, keep: Callable[[pa.Table], None]
) -> SplitShare:
    share: SplitShare = {"repositories": 0, "files": 0, "bytes": 0}
    last = None
    for table in tables:
        writer.add(table)
        contents.add(table)
        keep(table)
        share["repositories"] += len(table["repository"].unique()) - (table["repository"][0] == last)
        last = table["repository"][-1]
        share["files"] += table.num_rows
        share["bytes"] += sum(table["source_bytes"].to_pylist())
    return share


def _write_rejects(folder: str, stages: Sequence[Committed], part_bytes: int, account: Account) -> list[Output]:
    writer = PartWriter(folder, "rejects", REJECTED_FILE, part_bytes)
    for stage in stages:
        for table in read_tables(stage.folder, stage.manifest, "rejects"):
            writer.add(table)
            account.reject(table)
    return writer.finish()
