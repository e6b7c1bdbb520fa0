"""AdamW, and Muon for the matrices of the layers, each at three learning rates.

    sc2jax ablate --config=ablations/optimizer

Muon (https://kellerjordan.github.io/posts/muon) makes the momentum of each matrix orthogonal; scaled as in Moonlight
(arXiv 2502.16982) it takes AdamW's learning rate and decay. An optimizer is compared at its own best learning rate:
half, once and twice the base's. StarCoder2 used AdamW (paper, section 6.2). Expected on two cores: 18 runs of five
minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base
from sc2jax.config_values import with_values


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    rate = config.training.peak_learning_rate
    config.ablation.variants = ("adamw: training.optimizer=adamw", "muon: training.optimizer=muon")
    config.ablation.grid = (f"training.peak_learning_rate={rate}|{rate / 2}|{rate * 2}",)
    config.ablation.computed_from = with_values(config, "training.peak_learning_rate")
    config.ablation.seeds = (0, 1, 2)
    return config
