"""Adapts a model to your own repositories: `--config=finetune:adapters` (LoRA), or `finetune:all` for all parameters.

    sc2jax convert --config.convert.from_huggingface=starcoder2-3b --workdir=BASE
    sc2jax quickstart --config=finetune:adapters --config.paths.start=BASE/train \\
        --config.paths.source=/path/to/repositories --workdir=RUN
    sc2jax convert --config.convert.to_huggingface=DIR --workdir=RUN

The first reads released weights; any run's `train` serves as well. The second curates the repositories, trains on them
(`train`), measures held-out files and completes some of them; each of its verbs can be run alone with the same
arguments. The last writes the model, adapters merged; with `--config.convert.adapters_only=true` the adapters alone, as
`peft` reads them. The model's shape and its tokenizer are those of the start, rows are as long as its context;
`--config.model.context_length=4096` makes them shorter, and `--config.training.accumulation=8` computes one at a time.

Learning rates, batch and length are those of common recipes for released weights, not of the StarCoder2 paper, which
does not fine-tune. A model of quickstart stands for them in tests: see docs/results.md.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import default_config
from sc2jax.errors import UserError, did_you_mean

WAYS = ("adapters", "all")


def get_config(argument: str = "adapters") -> ConfigDict:
    """The differences from the defaults; the argument says what is trained.

    Raises:
        UserError: there is no such way.
    """
    if argument not in WAYS:
        raise UserError(
            f"finetune has no way {argument!r}{did_you_mean(argument, WAYS)}; the ways are {' and '.join(WAYS)}"
        )
    config: Any = default_config()

    config.training.model_of_start = True
    config.model.rematerialization = "full"

    config.training.steps = 1000
    config.training.batch_size = 8
    config.training.warmup_tokens = 1_000_000
    config.training.weight_decay = 0.01
    config.training.checkpoint_every = 100
    config.training.checkpoints_kept = 2

    if argument == "adapters":
        config.adapters.rank = 16
        config.training.peak_learning_rate = 2e-4
    else:
        config.training.peak_learning_rate = 2e-5

    return config
