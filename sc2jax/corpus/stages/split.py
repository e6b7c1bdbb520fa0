"""The split: which repositories are held out, and which held-out files are dropped as too like a training file."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from sc2jax.corpus.config import PartsConfig, SplitConfig
from sc2jax.corpus.dedup.across import across
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.corpus.outcomes import funnel_line, write_duplicates, write_ids
from sc2jax.corpus.stages.signatures import signature_batches
from sc2jax.records.stage import Written

_REASON = "near_duplicate_across_split"


def write_split(
    folder: str,
    files: Committed,
    near: Committed,
    signatures: Committed,
    split_config: SplitConfig,
    parts_config: PartsConfig,
) -> Written:
    """Holds repositories out, and drops held-out files that are near-duplicates of training files."""
    rows, ids = NumberedRows.of(files, "kept"), read_ids(near, "kept")
    is_heldout = _heldout_mask(rows, ids, split_config.heldout_fraction)
    heldout, training = ids[is_heldout], ids[~is_heldout]
    duplicates = _duplicates(heldout, training, signatures, split_config.heldout_similarity)
    dropped = np.array(sorted(duplicates), np.int64)
    kept = np.array([duplicates[row] for row in dropped.tolist()], np.int64)
    outputs = write_ids(folder, "train", training) + write_ids(folder, "heldout", np.setdiff1d(heldout, dropped))
    outputs += write_duplicates(folder, rows, dropped, kept, "split", _REASON, parts_config.part_bytes)
    size = rows.column("source_bytes").astype(np.int64)
    lost = {_REASON: (len(dropped), int(size[dropped].sum()))} if len(dropped) else {}
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


def _duplicates(heldout: np.ndarray, training: np.ndarray, signatures: Committed, threshold: float) -> dict[int, int]:
    """Held-out file -> the training file that it resembles too much."""
    ids, rows = [np.zeros(0, np.int64)], []
    for batch_ids, signed in signature_batches(signatures):
        mine = np.isin(batch_ids, heldout)
        if mine.any():
            ids.append(batch_ids[mine])
            rows.append(signed[mine])
    if not rows:
        return {}
    known = np.concatenate(ids)

    def others() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch_ids, signed in signature_batches(signatures):
            mine = np.isin(batch_ids, training)
            yield batch_ids[mine], signed[mine]

    found = across(np.concatenate(rows), others(), threshold)
    return {int(known[row]): other for row, (other, _) in found.items()}


def _unit_hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
