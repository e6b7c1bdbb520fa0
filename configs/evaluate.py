"""Measures a model with benchmarks alone.

    sc2jax evaluate --config=evaluate:humaneval --config.paths.train=DIR --config.paths.tokenizer=DIR --workdir=RUN
    sc2jax evaluate --config=evaluate:humaneval --config.evaluation.samples_file=samples.jsonl --workdir=RUN

What follows the colon are names of benchmarks, separated by commas; `paper` stands for those of the StarCoder2 paper
that are Python: HumanEval and HumanEval+, MBPP and MBPP+, GSM8K and CRUXEval.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import default_config

PAPER = ("humanevalplus", "mbppplus", "gsm8k", "cruxeval-input", "cruxeval-output")


def get_config(names: str = "humaneval") -> ConfigDict:
    """The differences from the defaults."""
    config: Any = default_config()
    config.evaluation.benchmarks = PAPER if names == "paper" else tuple(names.split(","))
    config.evaluation.heldout = False
    return config
