"""From which similarity on two files count as the same, and only one is trained on.

    sc2jax ablate --config=ablations/near_dedup

The paper's threshold is 0.7 over 5-grams (StarCoder2 paper, section 3.1); at 0 only exact duplicates go. Every corpus
is curated without what the base's corpus holds out, and what resembles it, so that a laxer threshold cannot win by
having seen the test. Expected on two cores: 9 runs of five minutes, and a minute for each corpus.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    config.ablation.grid = ("corpus.near_threshold=0.7|0.85|0.0",)
    config.ablation.seeds = (0, 1, 2)
    return config
