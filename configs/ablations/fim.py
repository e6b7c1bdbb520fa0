"""How much is rewritten for fill-in-the-middle, and in which order: rates, and shares of suffix-first (SPM) documents.

    sc2jax ablate --config=ablations/fim

The StarCoder2 paper chooses repositories with chance 0.5 and files of those with 0.5 (section 5.1), a quarter of all
files; half of them suffix first in the reference implementations. "Efficient Training of Language Models to Fill in the
Middle" (arXiv 2207.14255) finds that left-to-right loss does not suffer up to a rate of 0.9; whether that holds for a
model this small is what the bits per byte say. Infilling is scored prefix first, which a model trained on nothing but
suffix-first documents has not seen. Training losses of these runs are not of the same text. Expected on two cores: 18
runs of five minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    config.ablation.variants = (
        "quarter: fim.level=context fim.rate=0.5 fim.file_rate=0.5 fim.spm_rate=0.5",
        "none: fim.level=off",
        "half: fim.level=context fim.rate=1.0 fim.file_rate=0.5 fim.spm_rate=0.5",
        "most: fim.level=context fim.rate=1.0 fim.file_rate=0.9 fim.spm_rate=0.5",
        "quarter_prefix_first: fim.level=context fim.rate=0.5 fim.file_rate=0.5 fim.spm_rate=0.0",
        "quarter_suffix_first: fim.level=context fim.rate=0.5 fim.file_rate=0.5 fim.spm_rate=1.0",
    )
    config.ablation.seeds = (0, 1, 2)
    return config
