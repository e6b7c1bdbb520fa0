"""The split where another corpus is measured on: no training file may be a copy of one of its held-out files.

Models that were trained on different corpora can only be compared on files that none of them has seen. Those of one
corpus are named to the others (`paths.heldout`), and each leaves exact and near-duplicates of them out of what it
trains on, whatever its own thresholds let through (StarCoder2 paper, section 3, of what may not be trained on).
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax import storage
from sc2jax.corpus.config import (
    LEAST_FOUND,
    EngineConfig,
    PartsConfig,
    SignatureConfig,
    SplitConfig,
    share_found,
)
from sc2jax.corpus.dedup.across import across
from sc2jax.corpus.dedup.signed import signed_schema
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.outcomes import DECIDED, Fallen, named, write_rejects
from sc2jax.corpus.shuffle import Buckets, buckets_for, by_hash, dealt
from sc2jax.corpus.stages.exact import TEXT_BYTES, halves
from sc2jax.corpus.stages.places import Places
from sc2jax.corpus.stages.sides import sides_of
from sc2jax.corpus.stages.signatures import SignedFiles, sign_units, unit_signatures
from sc2jax.corpus.stages.split import like_training
from sc2jax.corpus.units import Units
from sc2jax.errors import UserError
from sc2jax.records.manifest import is_finished, read_manifest
from sc2jax.records.stage import Written

_REASON = "duplicate_of_heldout"
_HELDOUT = "heldout"


def open_heldout(folder: str, signature_config: SignatureConfig, split_config: SplitConfig) -> Committed:
    """The corpus in a folder, whose held-out files may not be trained on.

    Raises:
        UserError: there is none, it is unfinished or damaged, or holds nothing out; or signatures are too short to find
            what resembles its files.
    """
    storage.refuse_no_folder(folder, "paths.heldout")
    if not is_finished(folder):
        raise UserError(
            f"paths.heldout is {folder}, which holds no finished corpus; name a folder that `sc2jax curate` filled, or "
            "finish it first"
        )
    manifest = read_manifest(folder)
    if manifest.stage != "curate":
        raise UserError(f"paths.heldout is {folder}, which `{manifest.stage}` wrote; name one that `curate` wrote")
    if not manifest.under("heldout"):
        raise UserError(
            f"paths.heldout is {folder}, a corpus that holds no file out; curate it of more than one repository, with "
            'corpus.heldout_fraction above 0, or leave paths.heldout ""'
        )
    found = share_found(split_config.heldout_similarity, signature_config.near_permutations)
    if found < LEAST_FOUND:
        raise UserError(
            f"corpus.near_permutations is {signature_config.near_permutations}: {found:.0%} of the files that are as "
            f"similar as corpus.heldout_similarity ({split_config.heldout_similarity}) to a held-out file of "
            f"paths.heldout would be found, and {LEAST_FOUND:.0%} must be; raise either"
        )
    return Committed(folder, manifest)


def write_unseen_split(
    folder: str,
    files: Units,
    places: Places,
    exact: Committed,
    signatures: Units,
    near: Committed,
    heldout: Committed,
    signature_config: SignatureConfig,
    seed: int,
    split_config: SplitConfig,
    parts_config: PartsConfig,
    engine_config: EngineConfig,
) -> Written:
    """Holds repositories out, and drops training files that duplicate a held-out file of the corpus `heldout`.

    Its files are signed here as this run signs its own, so that they can be compared, however that corpus was made.
    """
    fallen = Fallen(files, (exact, near))
    signed = SignedFiles(files, signatures, places, fallen, signature_config.near_permutations)
    sides = sides_of(files, fallen, split_config.heldout_fraction)
    training = dataclasses.replace(signed, holds=sides.is_trained)
    others = Units.of_parts(heldout, _HELDOUT)
    names = functools.partial(named, folder, files, others=others, prefix=_HELDOUT, reason=_REASON)
    limits = split_config.heldout_similarity, engine_config.partition_bytes
    before, part_bytes = near.manifest.statistics["funnel"][-1], parts_config.part_bytes
    with contextlib.ExitStack() as stack:
        copied = stack.enter_context(_copies(folder, training, others, engine_config.partition_bytes))
        copies = stack.enter_context(names(copied, verb="has the text of "))
        unseen = _SignedOthers(
            sign_units(folder, others, signature_config, seed, _HELDOUT), signature_config.near_permutations
        )
        resembling = stack.enter_context(across(folder, training, unseen, *limits))
        similar = stack.enter_context(names(resembling, verb="resembles "))
        left = dataclasses.replace(signed, fallen=dataclasses.replace(fallen, more=(copies, similar)))
        own = stack.enter_context(like_training(folder, left, sides, split_config, engine_config))
        outputs, statistics = write_rejects(folder, files, [copies, similar, own], "split", before, part_bytes)
    return outputs, statistics | dataclasses.asdict(sides)


@dataclasses.dataclass(frozen=True)
class _SignedOthers:
    """The signatures of another corpus' held-out files, in their order."""

    signatures: Units
    permutations: int

    @property
    def starts(self) -> np.ndarray:
        """The first number of each unit's files, and the number of all."""
        return self.signatures.starts

    def units(self) -> pa.Table:
        """A row for each unit."""
        return self.signatures.table()

    def read(self, unit: int) -> pa.Table:
        """The signatures of a unit."""
        schema = signed_schema(self.permutations)
        tables = [schema.empty_table()]
        for table in unit_signatures(self.signatures, unit, self.permutations):
            ids = self.starts[unit] + table["row"].to_numpy()
            columns = {"id": ids, "order": ids, "language": table["language"], "signature": table["signature"]}
            tables.append(pa.table(columns).cast(schema))
        return pa.concat_tables(tables)


_TEXTS = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("id", pa.int64()), ("other", pa.bool_())])


@contextlib.contextmanager
def _copies(folder: str, training: SignedFiles, others: Units, partition_bytes: int) -> Iterator[Buckets]:
    """Training files that have the text of one of the others; the shortest files have no signature."""
    rows = int(training.starts[-1]) + int(others.starts[-1])
    buckets = buckets_for(TEXT_BYTES * rows, partition_bytes)
    count = len(training.files)
    units = pa.table({"unit": np.arange(count + len(others))})
    deal = functools.partial(_deal_texts, training=training, others=others, buckets=buckets)
    with dealt(folder, units, deal, _TEXTS, buckets) as texts:
        decide = functools.partial(_decide, texts=texts, files=training.files)
        with dealt(folder, texts.units(), decide, DECIDED, training.files.groups) as decided:
            yield decided


def _deal_texts(unit: pa.Table, training: SignedFiles, others: Units, buckets: int) -> tuple[pa.Table, np.ndarray]:
    number = unit["unit"][0].as_py()
    count = len(training.files)
    if number < count:
        kept = training.fallen.kept(number)
        found = training.files.rows(number, "kept").take(kept, ["repository", "text_sha256"])
        start = training.starts[number]
    else:
        own = others.rows(number - count, _HELDOUT)
        kept = np.arange(len(own))
        found = own.take(kept, ["repository", "text_sha256"])
        start = others.starts[number - count]
    tables = [_TEXTS.empty_table()]
    at = 0
    for table in found:
        high, low = halves(table["text_sha256"])
        ids = start + kept[at : at + len(table)]
        at += len(table)
        rows = pa.table({"high": high, "low": low, "id": ids, "other": np.full(len(ids), number >= count)}, _TEXTS)
        if number < count:
            rows = rows.filter(pa.array([training.holds(name) for name in table["repository"].to_pylist()], pa.bool_()))
        tables.append(rows)
    whole = pa.concat_tables(tables)
    return whole, by_hash(whole["high"].to_numpy(), buckets)


def _decide(bucket: pa.Table, texts: Buckets, files: Units) -> tuple[pa.Table, np.ndarray]:
    """Of the texts that training files and the others share, the training files, each with the first of the others."""
    rows = texts.read(bucket["bucket"][0].as_py())
    high, low, ids, other = (column.to_numpy(zero_copy_only=False) for column in rows.columns)
    order = np.lexsort((ids, ~other, low, high))
    high, low, ids, other = high[order], low[order], ids[order], other[order]
    opens = np.ones(len(ids), bool)
    opens[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    first = np.flatnonzero(opens)[np.cumsum(opens) - 1] if len(ids) else np.zeros(0, np.int64)
    fallen = ~other & other[first]
    return pa.table({"id": ids[fallen], "kept": ids[first[fallen]]}, DECIDED), files.group_of(ids[fallen])
