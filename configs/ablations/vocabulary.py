"""How many tokens the tokenizer has: from half of the base's vocabulary to four times as many.

    sc2jax ablate --config=ablations/vocabulary

More tokens put more bytes into a row and more parameters into the embedding. StarCoder2 has 49152 (paper, section
5.1); a small model cannot afford them. All runs have the same steps and so the same tokens, not the same bytes: the
curves are in bits a byte. Expected on two cores: 12 runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base
from sc2jax.config_values import with_values


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    size = config.tokenizer.vocab_size
    config.ablation.grid = (f"tokenizer.vocab_size={size}|{size // 2}|{2 * size}|{4 * size}",)
    config.ablation.computed_from = with_values(config, "tokenizer.vocab_size")
    config.ablation.seeds = (0, 1, 2)
    return config
