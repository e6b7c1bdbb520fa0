"""How long the longest waves of the rotary embedding are: theta from 1e3 to 1e6.

    sc2jax ablate --config=ablations/rope_theta

StarCoder2 raises theta with the context: 1e5 in the base stage of 3B and 7B at context 4096, 1e6 in the long one at
16384 (paper, section 6.2). A theta far above what the context needs leaves many channels that hardly turn; one far
below it makes distant positions look alike. Expected on two cores: 12 runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    config.ablation.grid = ("model.rope_theta=10000|1000|100000|1000000",)
    config.ablation.seeds = (0, 1, 2)
    return config
