"""How the model is trained."""

import dataclasses

from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Optimizer, schedule and bookkeeping; the defaults are StarCoder2-3B's base stage (paper, section 6.2)."""

    steps: int = 1_200_000
    batch_size: int = 640  # rows of a step over all devices: 2.6 M tokens at context 4096
    peak_learning_rate: float = 3e-4
    final_learning_rate_fraction: float = 0.1  # of the peak, where the cosine ends
    warmup_steps: int = 1000  # linear, from 0
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1  # on matrices only, see decayed in the parameter table
    max_gradient_norm: float = 1.0  # gradients are scaled down to this global norm
    loss_chunk: int = 2048  # tokens whose logits exist at a time on each device; 0: all logits at once
    log_every: int = 10  # steps a line of metrics.jsonl stands for
    checkpoint_every: int = 1000  # steps
    checkpoints_kept: int = 3  # the newest ones

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a count below 1, or a warm-up that leaves no step.
        """
        for name in ("steps", "batch_size", "log_every", "checkpoint_every", "checkpoints_kept"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; it must be at least 1")
        if self.loss_chunk < 0:
            raise UserError(
                f"training.loss_chunk is {self.loss_chunk}; it must be positive, or 0 for all logits at once"
            )
        if self.checkpoint_every % self.log_every:
            raise UserError(
                f"training.checkpoint_every {self.checkpoint_every} is not a multiple of training.log_every "
                f"{self.log_every}: a restored run could not complete the log line it was in"
            )
        if not 0 <= self.warmup_steps < self.steps:
            raise UserError(
                f"training.warmup_steps is {self.warmup_steps}; it must lie below training.steps = {self.steps}"
            )
