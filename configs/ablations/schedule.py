"""How the learning rate falls: as a cosine to a tenth or to zero, after a plateau, or not at all.

    sc2jax ablate --config=ablations/schedule

StarCoder2's base stage is a cosine to a tenth of the peak, its long stage a plateau with a decay (paper, section 6.2).
A plateau can be gone on from at any step, and its decay run whenever a model is needed (arXiv 2405.18392); without one
it shows what the decay is worth. Expected on two cores: 12 runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base, to_settings
from sc2jax.config_values import with_values


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    training = to_settings(config).training
    tokens = training.horizon_tokens or training.steps * training.batch_size * config.model.context_length
    config.ablation.variants = (
        "cosine: training.schedule=cosine training.decay_tokens=0 training.final_learning_rate_fraction=0.1",
        "cosine_to_zero: training.schedule=cosine training.decay_tokens=0 training.final_learning_rate_fraction=0.0",
        f"plateau_decay: training.schedule=plateau training.decay_tokens={tokens // 5} "
        "training.final_learning_rate_fraction=0.1",
        "plateau: training.schedule=plateau training.decay_tokens=0 training.horizon_tokens=0",
    )
    config.ablation.computed_from = with_values(
        config, "training.steps", "training.batch_size", "training.horizon_tokens", "model.context_length"
    )
    config.ablation.seeds = (0, 1, 2)
    return config
