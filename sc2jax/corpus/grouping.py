"""The last stages: splitting the repositories, and writing each side as row groups of whole repositories."""

import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.deduplicate import signature_batches, signature_prefix, signed_languages
from sc2jax.corpus.split import across, heldout_repositories
from sc2jax.corpus.stages import PartWriter, Rows, Written, funnel_line, write_ids, write_twins
from sc2jax.records.manifest import Manifest
from sc2jax.records.schemas import SOURCE_FILE

SIDES = ("train", "heldout")


def write_split(
    folder: str, files: Rows, ids: np.ndarray, signed: str, manifest: Manifest, config: CorpusConfig
) -> Written:
    """Holds repositories out, and drops held-out files that are near-duplicates of training files."""
    is_heldout = _heldout_mask(files, ids, config)
    heldout, training = ids[is_heldout], ids[~is_heldout]
    twins = _twins(heldout, training, signed, manifest, config)
    dropped = np.array(sorted(twins), np.int64)
    outputs = write_ids(folder, "train", training) + write_ids(folder, "heldout", np.setdiff1d(heldout, dropped))
    kept = np.array([twins[row] for row in dropped.tolist()], np.int64)
    reason = "near_duplicate_across_split"
    outputs += write_twins(folder, files, dropped, kept, "split", reason, config.part_bytes)
    size = files.column("source_bytes").astype(np.int64)
    lost = {reason: (len(dropped), int(size[dropped].sum()))} if len(dropped) else {}
    return outputs, {"funnel": [funnel_line("split", len(ids), int(size[ids].sum()), lost)]}


def write_sides(
    folder: str, files: Rows, sides: dict[str, np.ndarray], config: CorpusConfig
) -> tuple[Written, dict[str, Counter]]:
    """Writes the training and the held-out files; also counts (files, bytes) per language and license type.

    A row group holds whole repositories, as many as fit the target size, or a single larger one.
    """
    outputs, split = [], {}
    counts = {name: Counter() for name in ("language_files", "language_bytes", "license_files")}
    for side in SIDES:
        writer = PartWriter(folder, side, SOURCE_FILE, config.part_bytes)
        repositories = 0
        for table in _row_groups(files.take(sides[side], SOURCE_FILE.names), config.row_group_bytes):
            writer.add(table)
            repositories += len(table["repository"].unique())
            sizes = table["source_bytes"].to_pylist()
            for language, size in zip(table["language"].to_pylist(), sizes, strict=True):
                counts["language_files"][language] += 1
                counts["language_bytes"][language] += size
            for licenses, kind in zip(table["licenses"].to_pylist(), table["license_type"].to_pylist(), strict=True):
                counts["license_files"].update(licenses or [kind])
        outputs += writer.finish()
        size = files.column("source_bytes")[sides[side]]
        split[side] = {"repositories": repositories, "files": len(size), "bytes": int(size.sum())}
    return (outputs, {"split": split}), counts


def _row_groups(tables: Iterator[pa.Table], target: int) -> Iterator[pa.Table]:
    """Joins and cuts tables at the borders between repositories; closes a group when it has reached `target` bytes."""
    held: list[pa.Table] = []
    size = 0
    for piece in _by_repository(tables):
        if held and size >= target and piece["repository"][0] != held[-1]["repository"][0]:
            yield pa.concat_tables(held).combine_chunks()
            held, size = [], 0
        held.append(piece)
        size += piece["content"].nbytes
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _by_repository(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        names = table["repository"].to_numpy()
        cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        for low, high in itertools.pairwise(cuts):
            yield table.slice(low, high - low)


def _heldout_mask(files: Rows, ids: np.ndarray, config: CorpusConfig) -> np.ndarray:
    found = [table["repository"].to_numpy() for table in files.take(ids, ["repository"])]
    names = np.concatenate(found) if found else np.zeros(0, object)
    chosen = heldout_repositories(set(names.tolist()), config.heldout_fraction)
    return np.array([name in chosen for name in names.tolist()], bool)


def _twins(
    heldout: np.ndarray, training: np.ndarray, signed: str, manifest: Manifest, config: CorpusConfig
) -> dict[int, int]:
    """Held-out file -> the training file that it resembles too much."""
    ids, rows = [np.zeros(0, np.int64)], []
    for batch_ids, signatures in _all_signatures(signed, manifest, config):
        mine = np.isin(batch_ids, heldout)
        if mine.any():
            ids.append(batch_ids[mine])
            rows.append(signatures[mine])
    if not rows:
        return {}
    known = np.concatenate(ids)

    def others() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch_ids, signatures in _all_signatures(signed, manifest, config):
            mine = np.isin(batch_ids, training)
            yield batch_ids[mine], signatures[mine]

    found = across(np.concatenate(rows), others(), config.heldout_similarity)
    return {int(known[row]): other for row, (other, _) in found.items()}


def _all_signatures(signed: str, manifest: Manifest, config: CorpusConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for language in signed_languages(manifest):
        yield from signature_batches(Rows.of(signed, manifest, signature_prefix(language)), config)
