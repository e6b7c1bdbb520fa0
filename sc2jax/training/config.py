"""How the model is trained."""

import dataclasses
import re

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting, shown

MOST_STEPS = 1_000_000_000
"""The step is counted in 32 bits."""
MOST_ROWS = 1 << 20
"""A limit on a batch, beyond any cluster."""
MOST_TOKENS = 10**15
"""Far beyond any run, and still exact as a float."""
COSINE, PLATEAU = "cosine", "plateau"
ADAMW, MUON = "adamw", "muon"
MOMENTS_DTYPES = ("float32", "bfloat16")
NEAREST_TO_ONE = 0.99999
"""A decay of moments at most: closer to 1, float32 cannot hold the correction of their bias."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Optimizer, schedule and bookkeeping; the defaults are StarCoder2-3B's base stage (paper, section 6.2)."""

    steps: int = setting(
        1_478_196,
        "How far to run; 0: to the horizon. It may change at any restart, but lies beyond no horizon.",
        unit="steps",
        at_least=0,
        at_most=MOST_STEPS,
        decides=False,
    )
    batch_size: int = setting(
        512,
        "Rows of a step over all devices: 2.1 M tokens at context 4096.",
        unit="rows",
        at_least=1,
        at_most=MOST_ROWS,
    )
    accumulation: int = setting(
        1,
        "Parts that the rows of a step are computed in, one after the other, for want of memory; their gradients are "
        "summed over tokens.",
        unit="micro-batches",
        at_least=1,
        at_most=MOST_ROWS,
        decides=False,
    )
    optimizer: str = setting(
        ADAMW,
        "adamw, or muon (https://kellerjordan.github.io/posts/muon): the momentum of each matrix of a layer is made "
        "orthogonal, at the learning rate and decay of AdamW, which all else is left to.",
        choices=(ADAMW, MUON),
    )
    schedule: str = setting(
        COSINE,
        "The learning rate after the warm-up: cosine (falls up to the horizon), plateau (stays at its peak, and falls "
        "linearly over the last decay_tokens before the horizon).",
        choices=(COSINE, PLATEAU),
    )
    horizon_tokens: int = setting(
        0,
        "Positions of rows, padding included, that the schedule is laid out over; 0: as many as training.steps come to "
        "(without decay_tokens a plateau has no horizon).",
        unit="tokens",
        at_least=0,
        at_most=MOST_TOKENS,
    )
    peak_learning_rate: float = setting(3e-4, "Learning rate at the end of the warm-up.", at_least=1e-12, at_most=1)
    final_learning_rate_fraction: float = setting(
        0.1, "Learning rate at the horizon, as a fraction of the peak.", at_least=0, at_most=1
    )
    warmup_tokens: int = setting(
        2_097_152_000, "Linear warm-up from 0: 1000 steps.", unit="tokens", at_least=0, at_most=MOST_TOKENS
    )
    decay_tokens: int = setting(
        0, "Length of the decay that ends a plateau; 0: none.", unit="tokens", at_least=0, at_most=MOST_TOKENS
    )
    beta1: float = setting(0.9, "Decay of Adam's first moment.", at_least=0, at_most=NEAREST_TO_ONE)
    beta2: float = setting(0.95, "Decay of Adam's second moment.", at_least=0, at_most=NEAREST_TO_ONE)
    epsilon: float = setting(1e-8, "Added to the root of Adam's second moment.", at_least=1e-16, at_most=1)
    weight_decay: float = setting(
        0.1, "Decoupled weight decay, on matrices only: see `decayed` in the parameter table.", at_least=0, at_most=1
    )
    max_gradient_norm: float = setting(
        1.0, "Global norm that gradients are scaled down to.", at_least=1e-6, at_most=1e6
    )
    moments_dtype: str = setting(
        "float32", "Type that moments are held in; they are computed in float32.", choices=MOMENTS_DTYPES
    )
    z_loss: float = setting(
        0.0,
        "Weight of the squared logarithm of the softmax's sum, which keeps logits near 0 (PaLM, arXiv 2204.02311: "
        "1e-4); the loss that is reported is without it.",
        at_least=0,
        at_most=1,
    )
    skip_spikes: float = setting(
        0.0,
        "Skip the update of a step whose loss or gradient norm lies more than so many standard deviations above the "
        "mean of the 128 steps before it (OLMo: 6); 0: never.",
        unit="standard deviations",
        at_least=0,
        at_most=1000,
    )
    start_with_optimizer: bool = setting(
        False, "Whether a new run takes the moments of the optimizer from paths.start too, and not only the parameters."
    )
    model_of_start: bool = setting(
        False,
        "Whether the model has the shape and the tokenizer of that in paths.start, and rows at most as long as its "
        "context.",
        decides=False,
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
        10,
        "Steps that a line of metrics.jsonl stands for.",
        unit="steps",
        at_least=1,
        at_most=MOST_STEPS,
        decides=False,
    )
    checkpoint_every: int = setting(
        1000,
        "Steps between checkpoints.",
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
        "How many of the checkpoints with the lowest loss in the evaluation stay too; 0: none. Measured "
        "are those whose step is a multiple of evaluate_every.",
        at_least=0,
        at_most=10_000,
        decides=False,
    )
    evaluate_every: int = setting(
        0,
        "Steps between two measurements of bits per byte on held-out text; 0: none while training.",
        unit="steps",
        at_least=0,
        at_most=MOST_STEPS,
        decides=False,
    )
    evaluation_tokens: int = setting(
        1 << 20,
        "Held-out tokens of such a measurement at most, padding included; less where less is held out.",
        unit="tokens",
        at_least=1,
        at_most=1 << 40,
        decides=False,
    )
    profile_from: int = setting(
        0,
        "First step that JAX's profiler traces, into `profile` beside the log; 0: none.",
        unit="steps",
        at_least=0,
        at_most=MOST_STEPS,
        decides=False,
    )
    profile_steps: int = setting(3, "Steps that are traced.", unit="steps", at_least=1, at_most=1000, decides=False)
    watchdog_minutes: float = setting(
        10.0,
        "How long the training may go on without the end of a step before it is taken to hang and ended, if ten times "
        "the usual step are not longer; 0: for ever.",
        unit="minutes",
        at_least=0,
        at_most=1e6,
        decides=False,
    )
    checkpoints_local: str = setting(
        "",
        "A local folder, the same for all hosts, where checkpoints are written first and copied to the run's folder "
        'behind the training; "": they are written to the run\'s folder.',
        decides=False,
    )
    compiler_options: tuple[str, ...] = setting(
        (),
        "Flags of the TPU's compiler beside those of the chip (sc2jax/parallel/chips.py), as NAME=VALUE; NAME= takes "
        "one of the chip's away. On CPUs and GPUs they do nothing.",
        decides=False,
    )

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of its range, or a schedule whose parts do not fit together.
        """
        check_ranges("training", self)
        self._refuse_malformed_options()
        if self.keep_every % self.checkpoint_every:
            raise UserError(
                f"training.keep_every {self.keep_every} is not a multiple of training.checkpoint_every "
                f"{self.checkpoint_every}: no checkpoint is written there"
            )
        if self.keep_best and not self.evaluate_every:
            raise UserError(
                f"training.keep_best is {self.keep_best:,}, but no checkpoint is measured; set it to 0, or "
                "training.evaluate_every to a multiple of training.checkpoint_every"
            )
        self._refuse_misfit_schedule()

    def _refuse_malformed_options(self) -> None:
        malformed = [option for option in self.compiler_options if not re.fullmatch(r"\w+=[^\s=]*", option, re.ASCII)]
        if malformed:
            raise UserError(
                f"training.compiler_options has {shown(malformed[0])}; each must be NAME=VALUE, without dashes, as "
                "xla_tpu_scoped_vmem_limit_kib=65536, or NAME= to take away the chip's own"
            )
        names = [option.partition("=")[0] for option in self.compiler_options]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise UserError(f"training.compiler_options names {', '.join(twice)} more than once")

    def _refuse_misfit_schedule(self) -> None:
        if self.schedule == COSINE and self.decay_tokens:
            raise UserError(
                f"training.decay_tokens is {self.decay_tokens:,}, but a cosine decays all the way; set it to 0, or "
                f"training.schedule to {PLATEAU}"
            )
        if self.schedule == PLATEAU and self.horizon_tokens and not self.decay_tokens:
            raise UserError(
                f"training.horizon_tokens is {self.horizon_tokens:,}, but a plateau without a decay has no horizon; "
                "set it to 0 and training.steps to how far to run, or set training.decay_tokens"
            )
        before = self.warmup_tokens + self.decay_tokens
        if self.horizon_tokens and not before <= self.horizon_tokens - (self.schedule == COSINE):
            what = "training.warmup_tokens" + (" + training.decay_tokens" if self.decay_tokens else "")
            raise UserError(
                f"{what} is {before:,}; it must {'not exceed' if self.decay_tokens else 'lie below'} the horizon, "
                f"{self.horizon_tokens:,} tokens (training.horizon_tokens, or what training.steps come to)"
            )
