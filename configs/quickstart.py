"""The whole path at toy scale: 1 M parameters, from source code to a report in under 6 minutes on 2 CPU cores.

    sc2jax quickstart
    sc2jax quickstart --config.paths.source=/path/to/repositories --workdir=/path/to/run

Expected of the Python standard library: held-out bits per byte a quarter below gzip. What was tried: docs/results.md.
"""

from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import default_config


def get_config() -> ConfigDict:
    """The differences from the defaults."""
    config: Any = default_config()

    config.tokenizer.vocab_size = 2048
    config.tokenizer.max_training_bytes = 8_000_000

    # A model that is trained for minutes learns to write a line, and to stop, only if it sees little else: most files
    # infilled, in the order in which completions are asked for, most middles a line, and whole in rows this short.
    config.fim.rate = 1.0
    config.fim.file_rate = 0.9
    config.fim.spm_rate = 0.0
    config.fim.line_rate = 0.9
    config.fim.whole_middles = True

    config.model.context_length = 256
    config.model.embed_dim = 128
    config.model.num_layers = 4
    config.model.num_heads = 4
    config.model.num_kv_heads = 2
    config.model.window = 192  # less than the context, so that the sliding window does something
    config.model.rope_theta = 10_000.0
    config.model.init_stddev = 0.02
    config.model.compute_dtype = "float32"
    config.model.scan_unroll = 4  # no loop: a tenth faster on a CPU

    config.training.optimizer = "muon"
    config.training.steps = 1200
    config.training.batch_size = 8
    config.training.peak_learning_rate = 5e-3
    config.training.final_learning_rate_fraction = 0.0
    config.training.warmup_tokens = 30 * 8 * 256  # 30 steps
    config.training.checkpoint_every = 200
    config.training.checkpoints_kept = 2

    return config
