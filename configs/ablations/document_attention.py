"""Whether attention crosses the documents of a row, as in StarCoder2's training, or stays inside each.

    sc2jax ablate --config=ablations/document_attention

StarCoder2's rows are one sequence, whose documents are parted by end-of-text alone; a mask spares a document what has
nothing to do with it (compare "Analysing the Impact of Sequence Composition on Language Model Pre-Training", arXiv
2402.13991). Expected on two cores: 6 runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    config.ablation.variants = (
        "inside: feed.cross_document_attention=false",
        "across: feed.cross_document_attention=true",
    )
    config.ablation.seeds = (0, 1, 2)
    return config
