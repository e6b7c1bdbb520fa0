"""Settings of the text room: the tokenizer, document formats and fill-in-the-middle."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.text.special_tokens import Special

BYTES = 256
"""Every byte has a token of its own, so that any text can be encoded."""

LEVELS = ("context", "document", "off")
VARIANTS = ("paper", "reference")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """How a SentencePiece BPE tokenizer is trained."""

    # Tokens, the 38 special ones, the unknown one and the 256 bytes included. StarCoder2 has 49152 (paper, section
    # 5.1); a small model spends most of its parameters on the embedding, so the default is small.
    vocab_size: int = 8192
    # Bytes of text to train on at most; of a larger corpus a seeded sample of whole files is taken.
    max_training_bytes: int = 30_000_000
    # Share of the characters of the training text that get a token of their own; the rest are written in bytes.
    character_coverage: float = 0.9999

    def __post_init__(self) -> None:
        smallest = len(Special) + 1 + BYTES
        if self.vocab_size <= smallest:
            raise UserError(
                f"vocab_size {self.vocab_size} is too small: special tokens and bytes alone take {smallest}; "
                "use 512 or more"
            )
        if self.max_training_bytes < 1:
            raise UserError(f"max_training_bytes is {self.max_training_bytes}; use 1 or more")
        if not 0.9 <= self.character_coverage <= 1:
            raise UserError(f"character_coverage {self.character_coverage} is not between 0.9 and 1")


@dataclasses.dataclass(frozen=True)
class FormatConfig:
    """How records are written as documents, where the StarCoder2 paper leaves a choice or draws lots."""

    # Chance of a repository to be written with its name and its files' paths (paper, section 5.1).
    metadata_rate: float = 0.5
    # Whom to follow where the paper and the reference pipeline (bigcode's the-stack-v2) disagree: "paper" or
    # "reference". They do on comments and review states of pull requests, and on example rows of Kaggle data sets.
    variant: str = "paper"
    # Chance of code to be paired with the intermediate representation that was optimised for size; otherwise it is the
    # one optimised for speed (paper, section 2).
    size_optimized_rate: float = 0.8
    # Chance of code to stand before its intermediate representation rather than after it (paper, section 5).
    code_first_rate: float = 0.5

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UserError(f"format.variant {self.variant!r} is unknown; use one of {', '.join(VARIANTS)}")
        for name in ("metadata_rate", "size_optimized_rate", "code_first_rate"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"format.{name} {value} is not between 0 and 1")


@dataclasses.dataclass(frozen=True)
class FimConfig:
    """Repository-context fill-in-the-middle (StarCoder2 paper, section 5.1)."""

    # Where it is applied: "context" to the windows that the model is trained on, as StarCoder2 does, so that a cut
    # window always holds a whole task; "document" before windows are cut, so that no token is lost; or "off".
    level: str = "context"
    # Chance of a repository to be chosen at all (and of a document without files to be transformed).
    rate: float = 0.5
    # Chance of each file of a chosen repository to be transformed: a quarter of all files with both at 0.5.
    file_rate: float = 0.5
    # Share of the transformed files written suffix first; the reference implementations use 0.5, the paper is silent.
    spm_rate: float = 0.5
    # Whether it is applied to source code alone, repositories and files, as the paper says (section 5.1). The reference
    # implementations (bigcode's Megatron-LM, NeMo) do not tell sources apart: with False an issue or a notebook is
    # transformed too, as a whole, with the chance `rate`.
    source_code_only: bool = True
    # Whether an empty file of a chosen repository is dropped together with its separator, by which a repository without
    # metadata loses its first token, and an empty last one is drawn for and may become three sentinels. So it is in the
    # reference implementations (bigcode's Megatron-LM, NeMo).
    drop_empty_files: bool = False
    # The same for empty documents and their ends: two ends of text in a row become one, and a window that ends with an
    # end of text may get three sentinels after it.
    drop_empty_documents: bool = False
    # Whether the name of a repository is never transformed, as the paper says (section 5.1) and NeMo does; in bigcode's
    # Megatron-LM it is a fragment like any other.
    protect_repository_name: bool = True

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UserError(f"fim.level {self.level!r} is unknown; use one of {', '.join(LEVELS)}")
        for name in ("rate", "file_rate", "spm_rate"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"fim.{name} {value} is not between 0 and 1")
