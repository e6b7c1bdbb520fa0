"""26 M parameters for an hour of one TPU v5e, as Colab lends it: from source code to a report.

    sc2jax quickstart --config=colab
    sc2jax quickstart --config=colab --config.paths.source=/path/to/repositories --workdir=/path/to/run

The tokens are as many as a v5e is expected to read in an hour at 30 % of its peak (`parallel/chips.py`; what counts as
a FLOP: `training/utilisation.py`):

    parameters   8192 x 512 + 8 layers x 2,758,400 + a norm of 1024         = 26,262,528
    a token      6 x 26,262,528 + 12 x 8 layers x 512 x 384.25 keys         = 176.5 MFLOPs
    an hour      0.30 x 197 TFLOP/s x 3600 s / 176.5 MFLOPs                = 1.205 G tokens

By the same sum a T4 (65 TFLOP/s in float16, `--config.model.compute_dtype=float16`) takes 3 hours and 2 minutes.
Neither was run: what such a chip reaches of its peak with a model this narrow is an expectation; what was run on a CPU
stands in docs/results.md. `--config.training.horizon_tokens` makes it shorter.

The default source, the machine's Python with the packages beside it, had 27 M tokens where it was tried, which an hour
reads 44 times; `train` says it of yours. The StarCoder2 paper hardly repeats a source more than five times, so name
repositories of your own with `--config.paths.source` where there are some.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import default_config

BATCH, CONTEXT = 64, 1024


def get_config() -> ConfigDict:
    """The differences from the defaults."""
    config: Any = default_config()

    config.corpus.max_distribution_bytes = 300_000_000

    config.tokenizer.vocab_size = 8192

    config.model.context_length = CONTEXT
    config.model.embed_dim = 512
    config.model.num_layers = 8
    config.model.num_heads = 8
    config.model.num_kv_heads = 2
    config.model.window = 512  # half of the context, so that the sliding window does something
    config.model.rope_theta = 10_000.0
    config.model.init_stddev = 0.02
    config.model.rematerialization = "dots"  # with all that is computed kept, 64 rows do not fit in 16 GiB

    config.plan.slice = "v5e-1"

    config.training.steps = 0  # to the horizon
    config.training.horizon_tokens = 1_205_000_000
    config.training.batch_size = BATCH
    config.training.peak_learning_rate = 1e-3
    config.training.warmup_tokens = 200 * BATCH * CONTEXT  # 200 steps
    config.training.checkpoint_every = 500
    config.training.checkpoints_kept = 2

    return config
