"""How many key-value heads: multi-head, grouped-query and multi-query attention, at equal width and equal parameters.

    sc2jax ablate --config=ablations/attention_heads
    sc2jax ablate --config=ablations/attention_heads:quickstart --config.training.steps=200

Fewer key-value heads make the cache of a decoder smaller in proportion, and decoding faster, which is bound by
reading it; what that costs in loss is the question. All three are one model with another `num_kv_heads` (grouped-
query attention, here with as many groups as divide the heads: arXiv 2305.13245; multi-query: arXiv 1911.02150).
StarCoder2 is grouped (paper, section 6.1), StarCoder was multi-query.

At equal width the smaller key and value projections leave a smaller model. `*_wide` give those parameters back to the
MLP, in every layer, to within one unit of its width: 2 x (heads - kv heads) x head size x (width + 1) parameters with
their biases, of which a unit of the MLP takes 2 x width + 1. Expected on two cores: 15 runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base, to_settings
from sc2jax.config_values import with_values


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    model = to_settings(config).model
    grouped = max((heads for heads in range(2, model.num_heads) if model.num_heads % heads == 0), default=1)

    def wide(kv_heads: int) -> int:
        saved = 2 * (model.num_heads - kv_heads) * model.head_dim * (model.embed_dim + 1)
        return model.mlp_dim + round(saved / (2 * model.embed_dim + 1))

    fewer = {"grouped": grouped, "multi_query": 1} if grouped > 1 else {"multi_query": 1}
    config.ablation.variants = (
        f"multi_head: model.num_kv_heads={model.num_heads}",
        *(f"{name}: model.num_kv_heads={kv_heads}" for name, kv_heads in fewer.items()),
        *(f"{name}_wide: model.num_kv_heads={n} model.mlp_dim={wide(n)}" for name, n in fewer.items()),
    )
    config.ablation.computed_from = with_values(
        config, "model.num_heads", "model.head_dim", "model.embed_dim", "model.mlp_dim"
    )
    config.evaluation.decoding_tokens = model.context_length // 4
    config.ablation.seeds = (0, 1, 2)
    return config
