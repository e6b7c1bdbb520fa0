"""The split: which repositories are held out, and which held-out files are dropped as too like a training file."""

import contextlib
import dataclasses
from collections.abc import Iterator

from sc2jax.corpus.config import EngineConfig, PartsConfig, SignatureConfig, SplitConfig
from sc2jax.corpus.dedup.across import across
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.outcomes import Fallen, named, write_rejects
from sc2jax.corpus.shuffle import Buckets
from sc2jax.corpus.stages.places import Places
from sc2jax.corpus.stages.sides import Sides, sides_of
from sc2jax.corpus.stages.signatures import SignedFiles
from sc2jax.corpus.units import Units
from sc2jax.records.stage import Written

_REASON = "near_duplicate_across_split"


def write_split(
    folder: str,
    files: Units,
    places: Places,
    exact: Committed,
    signatures: Units,
    near: Committed,
    split_config: SplitConfig,
    signature_config: SignatureConfig,
    parts_config: PartsConfig,
    engine_config: EngineConfig,
) -> Written:
    """Holds repositories out, and drops held-out files that are near-duplicates of training files."""
    fallen = Fallen(files, (exact, near))
    signed = SignedFiles(files, signatures, places, fallen, signature_config.near_permutations)
    sides = sides_of(files, fallen, split_config.heldout_fraction)
    before = near.manifest.statistics["funnel"][-1]
    with like_training(folder, signed, sides, split_config, engine_config) as rows:
        outputs, statistics = write_rejects(folder, files, [rows], "split", before, parts_config.part_bytes)
    return outputs, statistics | dataclasses.asdict(sides)


@contextlib.contextmanager
def like_training(
    folder: str, signed: SignedFiles, sides: Sides, split_config: SplitConfig, engine_config: EngineConfig
) -> Iterator[Buckets]:
    """The held-out files that resemble a training file (schema DETAILED)."""
    heldout = dataclasses.replace(signed, holds=sides.is_heldout)
    training = dataclasses.replace(signed, holds=sides.is_trained)
    threshold, files = split_config.heldout_similarity, signed.files
    with (
        across(folder, heldout, training, threshold, engine_config.partition_bytes) as decided,
        named(folder, files, decided, files, "kept", _REASON, "kept ") as rows,
    ):
        yield rows


def sides_of_split(split: Committed) -> Sides:
    """Which repositories the stage holds out."""
    statistics = split.manifest.statistics
    return Sides(statistics["fraction"], statistics["moved"])
