"""How often a repository is written with its name and the paths of its files: never, half of the time, always.

    sc2jax ablate --config=ablations/metadata

StarCoder2 does so with chance 0.5 (paper, section 5.1), so that a model can use paths and does without them. Held-out
files are scored without metadata: with chance 1.0 the model never saw that. Expected on two cores: 9 runs of five
minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    config.ablation.grid = ("format.metadata_rate=0.5|0.0|1.0",)
    config.ablation.seeds = (0, 1, 2)
    return config
