"""Near-deduplication: of the files of one language that are much alike, one is kept."""

from sc2jax.corpus.config import EngineConfig, NearConfig, PartsConfig
from sc2jax.corpus.dedup.components import transitive
from sc2jax.corpus.dedup.rounds import greedy
from sc2jax.corpus.numbered_rows import Committed
from sc2jax.corpus.outcomes import Fallen, funnel_line, write_duplicates
from sc2jax.corpus.stages.places import Places
from sc2jax.corpus.stages.signatures import SignedFiles
from sc2jax.corpus.units import Units
from sc2jax.records.stage import Written

RULES = {"greedy": greedy, "transitive": transitive}
"""What near-duplicates are: files that resemble a survivor, or all that a chain of shared bands joins."""


def write_near(
    folder: str,
    files: Units,
    places: Places,
    exact: Committed,
    signatures: Units,
    near_config: NearConfig,
    parts_config: PartsConfig,
    engine_config: EngineConfig,
) -> Written:
    """Keeps one of the files of a language that are near-duplicates; with a threshold of 0 none are."""
    before = exact.manifest.statistics["funnel"][-1]
    signed = SignedFiles(files, signatures, places, Fallen(files, (exact,)), near_config.near_permutations)
    name, reason, part_bytes = "near_dedup", "near_duplicate", parts_config.part_bytes
    if not near_config.near_threshold:
        return [], {"funnel": [funnel_line(name, before["files_out"], before["bytes_out"], {})], "dropped": {}}
    rule = RULES[near_config.near_rule]
    with rule(folder, signed, near_config.near_threshold, engine_config.partition_bytes) as decided:
        return write_duplicates(folder, files, decided, name, reason, before, part_bytes)
