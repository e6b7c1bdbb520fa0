"""How many keys a query sees: the whole context, and a half, a quarter and an eighth of it.

    sc2jax ablate --config=ablations/window

StarCoder2 trains its base stage with full attention at 4096, and the long stage at 16384 with a window of a quarter
(paper, section 6.2). The window bounds the cache of a decoder; through the layers a token still hears of what lies
farther back. Expected on two cores: 12 runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base
from sc2jax.config_values import with_values


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    context = config.model.context_length
    config.ablation.variants = (
        f"full: model.window={context}",
        f"half: model.window={context // 2}",
        f"quarter: model.window={context // 4}",
        f"eighth: model.window={context // 8}",
    )
    config.ablation.computed_from = with_values(config, "model.context_length")
    config.evaluation.decoding_tokens = context // 4
    config.ablation.seeds = (0, 1, 2)
    return config
