"""A small scaling law: the best model size for three budgets of FLOPs, each spent on five sizes (isoFLOP).

    sc2jax ablate --config=ablations/scaling

The second approach of "Training Compute-Optimal Large Language Models" (arXiv 2203.15556, section 3.2): within a budget
a larger model is left fewer tokens, and the lowest point of a parabola over the logarithm of the size is the best size;
over budgets these follow a power law. Budgets are an eighth, a third and all of the base's training FLOPs, counted as
`sc2jax/training/utilisation.py` counts them. All sizes share the base's learning rate and batch, which a study in
earnest would tune for each; one seed, whose noise the bootstrap takes for what it is. Expected on two
cores: 15 runs, 45 minutes in all.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base, to_settings
from sc2jax.config_values import with_values

BUDGETS = (1 / 8, 1 / 3, 1.0)
"""Shares of the base's training FLOPs."""
SIZES = ((0.2, 1 / 3), (0.3, 1 / 2), (0.45, 2 / 3), (0.65, 5 / 6), (0.95, 1.0))
"""Shares of the base's width and layers, whose parameters about double from one to the next."""


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    from sc2jax.training.utilisation import flops_per_token  # imports JAX, which listing the configs can do without

    config: Any = load_base(base)
    settings = to_settings(config)
    vocab_size = settings.model.vocab_size or settings.tokenizer.vocab_size
    model = dataclasses.replace(settings.model, vocab_size=vocab_size)
    row, batch = model.context_length, settings.training.batch_size
    whole = flops_per_token(model, row) * (settings.training.horizon_tokens or settings.training.steps * batch * row)

    def variant(budget: float, width: float, depth: float) -> str:
        unit = 2 * model.num_heads  # of which a head gets an even number
        embed_dim = max(1, round(width * model.embed_dim / unit)) * unit
        layers = max(1, round(depth * model.num_layers))
        shape = dataclasses.replace(model, embed_dim=embed_dim, num_layers=layers, head_dim=0, mlp_dim=0)
        steps = max(2, round(budget * whole / (flops_per_token(shape, row) * batch * row)))
        return (
            f"{budget * whole:.1e}_{embed_dim}x{layers}: model.embed_dim={embed_dim} model.num_layers={layers} "
            f"training.steps={steps} training.warmup_tokens={max(1, steps // 10) * batch * row}"
        )

    shape = [f"model.{name}" for name in ("num_heads", "num_kv_heads", "context_length", "window", "tie_embeddings")]
    computed_from = with_values(config, "tokenizer.vocab_size", "training.steps", "training.batch_size", *shape)
    config.model.head_dim = 0
    config.model.mlp_dim = 0
    config.model.scan_unroll = 1
    config.training.schedule = "cosine"
    config.training.horizon_tokens = 0
    config.training.decay_tokens = 0
    config.training.checkpoint_every = 1000  # the smallest models take thousands of quick steps
    config.ablation.variants = tuple(variant(budget, *size) for budget in BUDGETS for size in SIZES)
    config.ablation.computed_from = computed_from
    config.ablation.fit = "isoflop"
    config.ablation.seeds = (0,)
    return config
