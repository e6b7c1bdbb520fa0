"""The shape of the model and how it is computed."""

import dataclasses
from typing import Any

from sc2jax.errors import UserError

CHOICES = {
    "attention": ("auto", "reference", "blocked", "pallas", "splash", "cudnn"),
    "compute_dtype": ("float32", "bfloat16", "float16"),
    "rematerialization": ("none", "dots", "full"),
}

COMPUTATION = ("attention", "compute_dtype", "rematerialization", "scan_unroll")
"""The fields that say how the model is computed; the others say what it is, and go with its parameters."""

WITHOUT_DROPOUT = ("pallas", "splash", "cudnn")
"""Attention kernels that cannot drop weights."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """StarCoder2's architecture; the defaults are the 3B model (paper, section 6.1 and the released config.json).

    Multi-head (`num_kv_heads = num_heads`), grouped-query and multi-query attention (`num_kv_heads = 1`) are one model.
    """

    vocab_size: int = 0  # tokens; 0: as many as the tokenizer has
    context_length: int = 16384  # tokens of a training row; the longest sequence that the model has seen
    embed_dim: int = 3072
    num_layers: int = 30
    num_heads: int = 24  # query heads
    num_kv_heads: int = 2  # each serves num_heads / num_kv_heads query heads
    head_dim: int = 0  # 0: embed_dim / num_heads
    mlp_dim: int = 0  # 0: 4 * embed_dim, as in every released size
    window: int = 4096  # keys that a query sees, itself included; 0: all before it
    rope_theta: float = 999999.4420358813  # base of the rotary embedding's wavelengths
    norm_epsilon: float = 1e-5
    init_stddev: float = 0.018042  # of the normal distribution of embeddings and kernels
    tie_embeddings: bool = True  # the output projection is the input embedding (3B, 7B; not 15B)
    embedding_dropout: float = 0.0  # dropout rates; pretraining used none (paper, section 6.2)
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    # The kernel, all of the same values: reference (all scores at once), blocked (what the window needs, anywhere),
    # splash (JAX's, for TPUs), cudnn (NVIDIA GPUs from Ampere on, rows of one segment); auto: the fastest that can.
    attention: str = "auto"
    compute_dtype: str = "bfloat16"  # of activations and products; parameters stay float32
    rematerialization: str = (
        "none"  # of a layer in the backward pass: none, dots (keep products), full (keep its input)
    )
    scan_unroll: int = 1  # layers unrolled in each iteration of the scan; num_layers: no loop at all

    def __post_init__(self) -> None:
        """Fills in what is derived and refuses what cannot be.

        Raises:
            UserError: sizes that do not fit each other, or an unknown name.
        """
        if not self.head_dim:
            self._divides("embed_dim", self.embed_dim, "num_heads", self.num_heads)
            object.__setattr__(self, "head_dim", self.embed_dim // self.num_heads)
        if not self.mlp_dim:
            object.__setattr__(self, "mlp_dim", 4 * self.embed_dim)
        self._divides("num_heads", self.num_heads, "num_kv_heads", self.num_kv_heads)
        if self.head_dim % 2:
            raise UserError(
                f"model.head_dim {self.head_dim} is odd: the rotary embedding turns pairs; use an even size"
            )
        for name in (
            "embed_dim",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "mlp_dim",
            "context_length",
            "scan_unroll",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.window < 0:
            raise UserError(f"model.window is {self.window}; it must be positive, or 0 for full attention")
        for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"model.{name} is {getattr(self, name)}; a dropout rate lies in [0, 1)")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"model.{name} {getattr(self, name)!r} is none of {', '.join(choices)}")
        if self.attention_dropout and self.attention in WITHOUT_DROPOUT:
            raise UserError(
                f"model.attention={self.attention} has no dropout; set model.attention_dropout to 0 (now "
                f"{self.attention_dropout}) or model.attention to blocked"
            )

    def computation(self) -> dict[str, Any]:
        """How it is computed, which may differ from one use of the same parameters to the next."""
        return {name: getattr(self, name) for name in COMPUTATION}

    @staticmethod
    def _divides(whole_name: str, whole: int, part_name: str, part: int) -> None:
        if part < 1 or whole % part:
            raise UserError(f"model.{whole_name} {whole} is not a multiple of model.{part_name} {part}")
