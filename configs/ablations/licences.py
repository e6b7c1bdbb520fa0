"""Which licence types are trained on: permissive alone, with files of no licence (as the paper), and all.

    sc2jax ablate --config=ablations/licences

The Stack v2 keeps permissive files and those without any licence (StarCoder2 paper, section 2.1). A subset is less
text, so that a long run repeats it sooner; at the tokens of quickstart none of them is read through once. Every run is
scored on the same held-out files, of the base's licences. Expected on two cores: 9 runs of five minutes, and a minute
for each corpus.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import load_base


def get_config(base: str = "quickstart") -> ConfigDict:
    """The runs over a base config."""
    config: Any = load_base(base)
    config.ablation.variants = (
        "as_the_paper: corpus.keep_license_types=permissive,no_license",
        "permissive: corpus.keep_license_types=permissive",
        "all: corpus.keep_license_types=permissive,no_license,non_permissive",
    )
    config.ablation.seeds = (0, 1, 2)
    return config
