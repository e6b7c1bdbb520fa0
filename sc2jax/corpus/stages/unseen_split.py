"""The split where another corpus is measured on: no training file may be a copy of one of its held-out files.

Models that were trained on different corpora can only be compared on files that none of them has seen. Those of one
corpus are named to the others (`paths.heldout`), and each leaves exact and near-duplicates of them out of what it
trains on, whatever its own thresholds let through (StarCoder2 paper, section 3, of what may not be trained on).
"""

import itertools

import numpy as np

from sc2jax import storage
from sc2jax.corpus.config import LEAST_FOUND, PartsConfig, SignatureConfig, SplitConfig, share_found
from sc2jax.corpus.dedup.across import UNVERIFIED, across
from sc2jax.corpus.numbered_rows import Committed, NumberedRows, read_ids
from sc2jax.corpus.outcomes import row_names
from sc2jax.corpus.stages.near import kept_of
from sc2jax.corpus.stages.signatures import SignedFiles, signatures_of
from sc2jax.corpus.stages.split import sides, write_sides
from sc2jax.errors import UserError
from sc2jax.records.manifest import is_finished, read_manifest
from sc2jax.records.stage import Written

_REASON = "duplicate_of_heldout"
_COMMON_DETAIL = "shares its bands with so many held-out files that none was compared"


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
    files: Committed,
    near: Committed,
    signatures: Committed,
    heldout: Committed,
    signature_config: SignatureConfig,
    seed: int,
    split_config: SplitConfig,
    parts_config: PartsConfig,
) -> Written:
    """Holds repositories out, and drops training files that duplicate a held-out file of the corpus `heldout`.

    Its files are signed here as this run signs its own, so that they can be compared, however that corpus was made.
    """
    rows, ids = NumberedRows.of(files, "kept"), read_ids(near, "kept")
    own, training = sides(rows, ids, split_config)
    others = NumberedRows.of(heldout, "heldout")
    losing = SignedFiles.of(signatures, training, signature_config)
    with across(folder, losing, signatures_of(others, signature_config, seed), split_config.heldout_similarity) as some:
        found = dict(zip(*(column.tolist() for column in kept_of(some)), strict=True))
    copies = _copies(rows, training, others)
    named = {row: other for row, other in found.items() if other != UNVERIFIED} | copies
    unwanted = dict.fromkeys(found, (_REASON, _COMMON_DETAIL)) | {
        row: (_REASON, f"{'has the text of' if row in copies else 'resembles'} {name}")
        for row, name in _named(named, others).items()
    }
    return write_sides(folder, rows, own, training, unwanted, signatures, signature_config, split_config, parts_config)


def _copies(rows: NumberedRows, training: np.ndarray, others: NumberedRows) -> dict[int, int]:
    """Training file -> the one of the others that has its text; the shortest files have no signature."""
    digests = (table["text_sha256"].to_pylist() for _, table in others.groups(["text_sha256"]))
    number_of = {digest: number for number, digest in enumerate(itertools.chain.from_iterable(digests))}
    copies: dict[int, int] = {}
    at = 0
    for table in rows.take(training, ["text_sha256"]):
        for digest in table["text_sha256"].to_pylist():
            if digest in number_of:
                copies[int(training[at])] = number_of[digest]
            at += 1
    return copies


def _named(found: dict[int, int], others: NumberedRows) -> dict[int, str]:
    return dict(zip(found, row_names(others, np.array(list(found.values()), np.int64)), strict=True))
