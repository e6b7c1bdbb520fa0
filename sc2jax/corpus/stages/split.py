"""The split: which repositories are held out, and which held-out files are dropped as too like a training file."""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from sc2jax.corpus.config import PartsConfig, SignatureConfig, SplitConfig
from sc2jax.corpus.dedup.across import UNVERIFIED, across
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.corpus.outcomes import funnel_line, row_names, write_ids, write_rejects
from sc2jax.corpus.stages.near import kept_of
from sc2jax.corpus.stages.signatures import SignedFiles
from sc2jax.records.stage import Written

_REASON = "near_duplicate_across_split"
_COMMON = "common_bands_across_split"
_COMMON_DETAIL = "so many files on both sides share its bands that none was compared"


def write_split(
    folder: str,
    files: Committed,
    near: Committed,
    signatures: Committed,
    signature_config: SignatureConfig,
    split_config: SplitConfig,
    parts_config: PartsConfig,
) -> Written:
    """Holds repositories out, and drops held-out files that are near-duplicates of training files."""
    rows, ids = NumberedRows.of(files, "kept"), read_ids(near, "kept")
    heldout, training = sides(rows, ids, split_config)
    return write_sides(folder, rows, heldout, training, {}, signatures, signature_config, split_config, parts_config)


def sides(rows: NumberedRows, ids: np.ndarray, config: SplitConfig) -> tuple[np.ndarray, np.ndarray]:
    """The rows `ids` whose repositories are held out, and the others."""
    is_heldout = _heldout_mask(rows, ids, config.heldout_fraction)
    return ids[is_heldout], ids[~is_heldout]


def write_sides(
    folder: str,
    rows: NumberedRows,
    heldout: np.ndarray,
    training: np.ndarray,
    unwanted: Mapping[int, tuple[str, str]],
    signatures: Committed,
    signature_config: SignatureConfig,
    split_config: SplitConfig,
    parts_config: PartsConfig,
) -> Written:
    """Writes both sides without what must not be trained on, and without held-out files that resemble the rest.

    Args:
        folder: of the stage.
        rows: the files that the numbers stand for.
        heldout: those that are held out, ascending.
        training: the others, ascending.
        unwanted: training files that are dropped, each with the reason and the detail of its reject.
        signatures: the stage.
        signature_config: what a signature is.
        split_config: from which similarity a held-out file is dropped.
        parts_config: size of a Parquet part.
    """
    ids, size = np.union1d(heldout, training), rows.column("source_bytes").astype(np.int64)
    training = np.setdiff1d(training, np.array(sorted(unwanted), np.int64))
    losing, staying = (SignedFiles.of(signatures, side, signature_config) for side in (heldout, training))
    with across(folder, losing, staying, split_config.heldout_similarity) as found:
        duplicates = dict(zip(*(column.tolist() for column in kept_of(found)), strict=True))
    unverified = [row for row, other in duplicates.items() if other == UNVERIFIED]
    named = [row for row, other in duplicates.items() if other != UNVERIFIED]
    resembled = row_names(rows, np.array([duplicates[row] for row in named], np.int64))
    rejects = {row: (_REASON, f"kept {name}") for row, name in zip(named, resembled, strict=True)}
    rejects |= dict.fromkeys(unverified, (_COMMON, _COMMON_DETAIL)) | dict(unwanted)
    dropped = np.array(sorted(rejects), np.int64)
    reasons, details = ([rejects[row][place] for row in dropped.tolist()] for place in (0, 1))
    outputs = write_ids(folder, "train", training) + write_ids(folder, "heldout", np.setdiff1d(heldout, dropped))
    outputs += write_rejects(folder, rows, dropped, "split", reasons, details, parts_config.part_bytes)
    lost = {
        reason: (int(fallen.sum()), int(size[dropped[fallen]].sum()))
        for reason in sorted(set(reasons))
        if (fallen := np.array(reasons) == reason).any()
    }
    return outputs, {"funnel": [funnel_line("split", len(ids), int(size[ids].sum()), lost)]}


def heldout_repositories(names: Iterable[str], fraction: float) -> set[str]:
    """The repositories whose hash falls below `fraction`: the same ones in any corpus, whatever else it holds.

    Of two or more repositories at least one is held out and at least one is not: where the hashes leave a side empty,
    the repository nearest to the limit changes sides. A fraction of 0 holds nothing out; nor does a single repository.
    """
    hashes = {name: _unit_hash(name) for name in names}
    if len(hashes) < 2 or fraction == 0:
        return set()
    ranked = sorted(hashes, key=lambda name: (hashes[name], name))
    count = sum(hashes[name] < fraction for name in ranked)
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def _heldout_mask(files: NumberedRows, ids: np.ndarray, fraction: float) -> np.ndarray:
    found = [table["repository"].to_numpy() for table in files.take(ids, ["repository"])]
    names = np.concatenate(found) if found else np.zeros(0, object)
    chosen = heldout_repositories(set(names.tolist()), fraction)
    return np.array([name in chosen for name in names.tolist()], bool)


def _unit_hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
