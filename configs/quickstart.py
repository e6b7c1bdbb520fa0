"""The whole path at toy scale: 2 M parameters, from source code to a report in under 6 minutes on 2 CPU cores.

    sc2jax quickstart
    sc2jax quickstart --config.paths.source=/path/to/repositories --workdir=/path/to/run

Expected of the Python standard library: held-out bits per byte at least 20 % below the unigram-token baseline.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import default_config


def get_config() -> ConfigDict:
    """The differences from the defaults."""
    config: Any = default_config()

    config.tokenizer.vocab_size = 2048
    config.tokenizer.max_training_bytes = 8_000_000

    config.model.context_length = 256
    config.model.embed_dim = 160
    config.model.num_layers = 6
    config.model.num_heads = 4
    config.model.num_kv_heads = 2
    config.model.window = 128  # half of the context, so that the sliding window does something
    config.model.rope_theta = 10_000.0
    config.model.init_stddev = 0.02
    config.model.compute_dtype = "float32"
    config.model.scan_unroll = 6  # no loop: a tenth faster on a CPU

    config.training.steps = 420
    config.training.batch_size = 8
    config.training.peak_learning_rate = 2e-3
    config.training.warmup_tokens = 40 * 8 * 256  # 40 steps
    config.training.checkpoint_every = 60
    config.training.checkpoints_kept = 2

    return config
