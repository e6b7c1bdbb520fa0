"""The shape of the model and how it is computed."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

ATTENTIONS = ("auto", "reference", "blocked", "pallas", "splash", "cudnn")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
REMATERIALIZATIONS = ("none", "dots", "full", "named")
ACTIVATIONS = (
    "layer_input", "q", "k", "v", "attention_output", "attention_projection", "mlp_up", "mlp_hidden", "mlp_down",
)  # fmt: skip
"""What of a layer has a name, in the order in which it is computed."""

LONGEST = 1 << 20
"""Tokens of a sequence at most: beyond that a float32 angle of a rotary embedding is off by a sixteenth of a radian."""
WIDEST = 1 << 16
"""Elements of a dimension of the model at most, and a quarter of the MLP's."""
MOST_LAYERS = 1000
MOST_DROPPED = 0.9
"""Closer to 1, float32 cannot hold what is left."""

WITHOUT_DROPOUT = ("pallas", "splash", "cudnn")
"""Attention kernels that cannot drop weights."""

LINEAR_LAYERS = ("q", "k", "v", "o", "up", "down")
"""The linear layers of a transformer layer, by their names in the parameter table."""


@dataclasses.dataclass(frozen=True)
class Computation:
    """How a model is computed, which may differ from one use of the same parameters to the next."""

    attention: str = setting(
        "auto",
        "The kernel, all of the same values: reference (all scores at once), blocked (what the window needs, "
        "anywhere), pallas and splash (for TPUs: ours and JAX's), cudnn (NVIDIA GPUs from Ampere on, rows of one "
        "segment); auto: the fastest that can.",
        choices=ATTENTIONS,
        decides=False,
    )
    compute_dtype: str = setting(
        "bfloat16", "Type of activations and products; parameters stay float32.", choices=COMPUTE_DTYPES
    )
    rematerialization: str = setting(
        "none",
        "What of a layer is computed again in the backward pass: none, dots (all but products and attention), full "
        "(all), named (all but what kept_activations and offloaded_activations name).",
        choices=REMATERIALIZATIONS,
        decides=False,
    )
    kept_activations: tuple[str, ...] = setting(
        (), "What of a layer named rematerialization keeps on the device.", choices=ACTIVATIONS, decides=False
    )
    offloaded_activations: tuple[str, ...] = setting(
        (),
        "What of a layer named rematerialization keeps in the host's memory, and brings back for the backward pass.",
        choices=ACTIVATIONS,
        decides=False,
    )
    scan_unroll: int = setting(
        1,
        "Layers unrolled in each iteration of the scan; num_layers: no loop at all.",
        at_least=1,
        at_most=MOST_LAYERS,
        decides=False,
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig(Computation):
    """StarCoder2's architecture; the defaults are the 3B model (paper, section 6.1 and the released config.json).

    Multi-head (`num_kv_heads = num_heads`), grouped-query and multi-query attention (`num_kv_heads = 1`) are one model.
    """

    vocab_size: int = setting(
        0, "Size of the vocabulary; 0: as many tokens as the tokenizer has.", unit="tokens", at_least=0, at_most=1 << 20
    )
    context_length: int = setting(
        16384,
        "Length of a training row, and the longest sequence that the model has seen. StarCoder2 trains with 4096, then "
        "16384 (paper, section 6.2).",
        unit="tokens",
        at_least=2,
        at_most=LONGEST,
    )
    embed_dim: int = setting(3072, "Width of the residual stream.", at_least=1, at_most=WIDEST)
    num_layers: int = setting(30, "Layers.", at_least=1, at_most=MOST_LAYERS)
    num_heads: int = setting(24, "Query heads.", at_least=1, at_most=WIDEST)
    num_kv_heads: int = setting(
        2, "Key-value heads; each serves num_heads / num_kv_heads query heads.", at_least=1, at_most=WIDEST
    )
    head_dim: int = setting(0, "Size of a head; 0: embed_dim / num_heads.", at_least=0, at_most=WIDEST)
    mlp_dim: int = setting(
        0, "Width of the MLP; 0: 4 * embed_dim, as in every released size.", at_least=0, at_most=4 * WIDEST
    )
    window: int = setting(
        4096, "Keys that a query sees, itself included; 0: all before it.", unit="tokens", at_least=0, at_most=LONGEST
    )
    rope_theta: float = setting(
        999999.4420358813, "Base of the rotary embedding's wavelengths.", at_least=1, at_most=1e12
    )
    norm_epsilon: float = setting(1e-5, "Added to the variance in LayerNorm.", at_least=1e-12, at_most=1)
    init_stddev: float = setting(
        0.018042, "Standard deviation of embeddings and kernels at initialisation.", at_least=1e-6, at_most=10
    )
    tie_embeddings: bool = setting(True, "Whether the output projection is the input embedding (3B, 7B; not 15B).")
    embedding_dropout: float = setting(
        0.0, "Dropout of embeddings; pretraining used none (paper, section 6.2).", at_least=0, at_most=MOST_DROPPED
    )
    attention_dropout: float = setting(0.0, "Dropout of attention weights.", at_least=0, at_most=MOST_DROPPED)
    residual_dropout: float = setting(0.0, "Dropout of what a layer adds.", at_least=0, at_most=MOST_DROPPED)

    def __post_init__(self) -> None:
        """Fills in what is derived and refuses what cannot be.

        Raises:
            UserError: a value out of its range, or sizes that do not fit each other.
        """
        check_ranges("model", self)
        if not self.head_dim:
            self._divides("embed_dim", "num_heads")
            object.__setattr__(self, "head_dim", self.embed_dim // self.num_heads)
        if not self.mlp_dim:
            object.__setattr__(self, "mlp_dim", 4 * self.embed_dim)
        self._divides("num_heads", "num_kv_heads")
        self._refuse_misnamed_activations()
        if self.head_dim % 2:
            raise UserError(
                f"model.head_dim {self.head_dim} is odd: the rotary embedding turns pairs; use an even size"
            )
        if self.attention_dropout and self.attention in WITHOUT_DROPOUT:
            raise UserError(
                f"model.attention={self.attention} has no dropout; set model.attention_dropout to 0 (now "
                f"{self.attention_dropout}) or model.attention to blocked"
            )

    def _refuse_misnamed_activations(self) -> None:
        names = (*self.kept_activations, *self.offloaded_activations)
        if names and self.rematerialization != "named":
            raise UserError(
                f"model.kept_activations and model.offloaded_activations name {', '.join(names)}, but with "
                f"model.rematerialization={self.rematerialization} they do nothing; set it to named, or leave them out"
            )
        twice = sorted(name for name in ACTIVATIONS if names.count(name) > 1)
        if twice:
            raise UserError(
                f"model.kept_activations and model.offloaded_activations name {', '.join(twice)} twice; each is kept "
                "in one place"
            )

    def _divides(self, whole_name: str, part_name: str) -> None:
        whole, part = getattr(self, whole_name), getattr(self, part_name)
        if whole % part:
            raise UserError(f"model.{whole_name} {whole} is not a multiple of model.{part_name} {part}")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Low-rank adapters (LoRA, arXiv 2106.09685): trained in place of the parameters, which stay as they are.

    A linear layer W then computes `x W + alpha / rank * (x A) B`, with A of `rank` columns and B of `rank` rows.
    """

    rank: int = setting(0, "Rank of the adapters; 0: none, all parameters are trained.", at_least=0, at_most=1024)
    alpha: float = setting(32.0, "What adapters add is multiplied by alpha / rank.", at_least=1e-3, at_most=1e6)
    targets: tuple[str, ...] = setting(
        LINEAR_LAYERS, "The linear layers that get adapters, by name.", choices=LINEAR_LAYERS
    )

    def __post_init__(self) -> None:
        """Puts the targets into one order, for it changes nothing.

        Raises:
            UserError: a value out of its range.
        """
        check_ranges("adapters", self)
        object.__setattr__(self, "targets", tuple(name for name in LINEAR_LAYERS if name in self.targets))
