"""How the model is trained."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

MOST_STEPS = 1_000_000_000
"""The step is counted in 32 bits."""
NEAREST_TO_ONE = 0.99999
"""A decay of moments at most: closer to 1, float32 cannot hold the correction of their bias."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Optimizer, schedule and bookkeeping; the defaults are StarCoder2-3B's base stage (paper, section 6.2)."""

    steps: int = setting(1_200_000, "Length of the run.", unit="steps", at_least=1, at_most=MOST_STEPS)
    batch_size: int = setting(
        640, "Rows of a step over all devices: 2.6 M tokens at context 4096.", unit="rows", at_least=1, at_most=1 << 20
    )
    peak_learning_rate: float = setting(3e-4, "Learning rate at the end of the warm-up.", at_least=1e-12, at_most=1)
    final_learning_rate_fraction: float = setting(
        0.1, "Where the cosine ends, as a fraction of the peak.", at_least=0, at_most=1
    )
    warmup_steps: int = setting(1000, "Linear warm-up from 0.", unit="steps", at_least=0, at_most=MOST_STEPS)
    beta1: float = setting(0.9, "Decay of Adam's first moment.", at_least=0, at_most=NEAREST_TO_ONE)
    beta2: float = setting(0.95, "Decay of Adam's second moment.", at_least=0, at_most=NEAREST_TO_ONE)
    epsilon: float = setting(1e-8, "Added to the root of Adam's second moment.", at_least=1e-16, at_most=1)
    weight_decay: float = setting(
        0.1, "Decoupled weight decay, on matrices only: see `decayed` in the parameter table.", at_least=0, at_most=1
    )
    max_gradient_norm: float = setting(
        1.0, "Global norm that gradients are scaled down to.", at_least=1e-6, at_most=1e6
    )
    loss_chunk: int = setting(
        2048,
        "Tokens whose logits exist at a time on each device; 0: all at once.",
        unit="tokens",
        at_least=0,
        at_most=1 << 30,
        decides=False,
    )
    log_every: int = setting(
        10, "Steps that a line of metrics.jsonl stands for.", unit="steps", at_least=1, at_most=MOST_STEPS
    )
    checkpoint_every: int = setting(
        1000,
        "Steps between checkpoints; a multiple of log_every.",
        unit="steps",
        at_least=1,
        at_most=MOST_STEPS,
        decides=False,
    )
    checkpoints_kept: int = setting(
        3, "How many checkpoints stay, the newest ones.", at_least=1, at_most=10_000, decides=False
    )
    keep_every: int = setting(
        0,
        "The checkpoints of all multiples of this many steps stay too, for ever; 0: none; a multiple of "
        "checkpoint_every.",
        unit="steps",
        at_least=0,
        at_most=MOST_STEPS,
        decides=False,
    )
    keep_best: int = setting(
        0,
        "How many of the checkpoints with the lowest loss in the evaluation stay too; 0: none.",
        at_least=0,
        at_most=10_000,
        decides=False,
    )
    checkpoints_local: str = setting(
        "",
        "A local folder, the same for all hosts, where checkpoints are written first and copied to the run's folder "
        'behind the training; "": they are written to the run\'s folder.',
        decides=False,
    )

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of its range, or a warm-up that leaves no step.
        """
        check_ranges("training", self)
        if self.checkpoint_every % self.log_every:
            raise UserError(
                f"training.checkpoint_every {self.checkpoint_every} is not a multiple of training.log_every "
                f"{self.log_every}: a restored run could not complete the log line it was in"
            )
        if self.keep_every % self.checkpoint_every:
            raise UserError(
                f"training.keep_every {self.keep_every} is not a multiple of training.checkpoint_every "
                f"{self.checkpoint_every}: no checkpoint is written there"
            )
        if not self.warmup_steps < self.steps:
            raise UserError(
                f"training.warmup_steps is {self.warmup_steps}; it must lie below training.steps = {self.steps}"
            )
