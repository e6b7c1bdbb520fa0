"""The released models at their real sizes: `--config=starcoder2:3b` (`:7b`, `:15b`), of the long-context stage.

    sc2jax train --config=starcoder2:3b,stage=base --config.paths.corpus=CORPUS --config.paths.tokenizer=TOKENIZER \\
        --workdir=BASE
    sc2jax train --config=starcoder2:3b,stage=long --config.paths.start=BASE/train --config.paths.corpus=CORPUS \\
        --config.paths.tokenizer=TOKENIZER --workdir=LONG
    sc2jax complete --config=starcoder2:3b --config.completion.prompt="def " --workdir=LONG

The base stage trains at context 4096 from random weights; the long one, whose architecture is the released one, starts
from what the base stage ended with, and goes on at context 16384 with the same window and a larger rotary base
(StarCoder2 paper, section 6.2). Shapes are those of the released config.json. Expected of a whole base stage: 5.94e22,
1.55e23 and 3.87e23 floating-point operations.

Batches divide over 256 chips, which the paper's tokens of a step (2.6, 3.5 and 4.1 M) do not: of the multiples of 256
rows the nearest to them were chosen. 3B's 2.6 M lie between 512 rows (2.1 M) and 768 (3.1 M), and nearer to the former,
as do the 2.58 M that its 3.1 T tokens in 1.2 M iterations come to. What is kept is the tokens, not the steps. A batch
of the long stage has as many tokens in a quarter of the rows: on 256 chips those of 3B need `--config.mesh.sequence=2`,
those of 7B `--config.mesh.sequence=4`. The warm-up is the paper's 1000 steps, here of these batches.

The long stage holds its learning rate and then lets it fall; how long the plateau is the paper does not say. Here it is
80 % of the stage, and the decay is linear, down to a tenth.

Each size is trained on its mixture of the paper, whose sources lie in folders of CORPUS (`data/mixtures`); with
`--config.feed.mixture=repositories` it is trained on what `sc2jax curate` writes. In both stages a document is a whole
repository, and goes on from row to row: in the long one a row holds as much of it as four of the base stage.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from sc2jax.config import default_config
from sc2jax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the released sizes."""

    embed_dim: int
    num_layers: int
    num_heads: int  # of 128 elements everywhere
    num_kv_heads: int
    base_theta: float  # rotary base of the base stage (paper, section 6.2)
    long_theta: float  # of the long one, as released
    init_stddev: float
    tie_embeddings: bool
    base_batch: int  # rows of 4096 tokens, a multiple of 256
    base_tokens: int
    slice: str  # that it is planned for, of 256 chips


SIZES = {
    "3b": Size(3072, 30, 24, 2, 1e5, 999999.4420358813, 0.018042, True, 512, 3_100_000_000_000, "v5e-256"),
    "7b": Size(4608, 32, 36, 4, 1e5, 1e6, 0.018042, True, 768, 3_500_000_000_000, "v5e-256"),
    "15b": Size(6144, 40, 48, 4, 1e4, 1e5, 0.01275, False, 1024, 4_100_000_000_000, "v5p-512"),
}
STAGES = ("base", "long")

WINDOW = 4096
WARMUP_STEPS = 1000
LONG_TOKENS = 200_000_000_000


def get_config(argument: str = "3b") -> ConfigDict:
    """The differences from the defaults; the argument is a size and, after a comma, a stage.

    Raises:
        UserError: there is no such size or stage.
    """
    name, stage = _parse(argument)
    size = SIZES[name]
    config: Any = default_config()

    config.feed.mixture = f"starcoder2_{name}"
    config.feed.cross_document_attention = True  # a row is one sequence, its documents parted by end-of-text alone

    config.tokenizer.vocab_size = 49152
    config.tokenizer.max_training_bytes = 1_000_000_000

    config.model.vocab_size = 49152
    config.model.embed_dim = size.embed_dim
    config.model.num_layers = size.num_layers
    config.model.num_heads = size.num_heads
    config.model.num_kv_heads = size.num_kv_heads
    config.model.init_stddev = size.init_stddev
    config.model.tie_embeddings = size.tie_embeddings
    config.model.window = WINDOW
    config.model.rematerialization = "full"  # at these sizes activations, not weights, fill the memory

    config.plan.slice = size.slice
    config.training.steps = 0  # to the horizon
    if stage == "base":
        config.model.context_length = WINDOW  # full causal attention: the window is the context
        config.model.rope_theta = size.base_theta
        config.training.batch_size = size.base_batch
        config.training.warmup_tokens = WARMUP_STEPS * size.base_batch * WINDOW
        config.training.horizon_tokens = size.base_tokens
    else:
        config.model.context_length = 4 * WINDOW
        config.model.rope_theta = size.long_theta
        config.training.batch_size = size.base_batch // 4  # as many tokens a step
        config.training.peak_learning_rate = 3e-5
        config.training.schedule = "plateau"
        config.training.warmup_tokens = 0
        config.training.horizon_tokens = LONG_TOKENS
        config.training.decay_tokens = LONG_TOKENS // 5

    return config


def _parse(argument: str) -> tuple[str, str]:
    name, *options = argument.split(",")
    if name not in SIZES:
        raise UserError(f"starcoder2 has no size {name!r}{did_you_mean(name, SIZES)}; the sizes are {', '.join(SIZES)}")
    stage = "long"
    for option in options:
        key, _, stage = option.partition("=")
        if key != "stage":
            raise UserError(
                f"starcoder2:{argument}: {key!r} is no argument{did_you_mean(key, ['stage'])}; give stage=base"
            )
        if stage not in STAGES:
            raise UserError(
                f"starcoder2:{argument}: there is no stage {stage!r}{did_you_mean(stage, STAGES)}; the stages are "
                f"{' and '.join(STAGES)}"
            )
    return name, stage
