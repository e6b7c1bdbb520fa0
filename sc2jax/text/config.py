"""Settings of the text room: the tokenizer, document formats and fill-in-the-middle."""

import dataclasses

from sc2jax.settings import check_ranges, setting
from sc2jax.text.special_tokens import Special

BYTES = 256
"""Every byte has a token of its own, so that any text can be encoded."""

LEVELS = ("context", "document", "off")
VARIANTS = ("paper", "reference")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """How a SentencePiece BPE tokenizer is trained."""

    vocab_size: int = setting(
        8192,
        "Size of the vocabulary, with the 38 special tokens, the unknown one and the 256 bytes. StarCoder2 has 49152 "
        "(paper, section 5.1); a small model spends most of its parameters on the embedding, so the default is small.",
        unit="tokens",
        at_least=len(Special) + 1 + BYTES + 1,
        at_most=2**24,
    )
    max_training_bytes: int = setting(
        30_000_000,
        "Text to train on at most; of a larger corpus a seeded sample of whole files is taken.",
        unit="bytes",
        at_least=1,
        at_most=2**36,
    )
    character_coverage: float = setting(
        0.9999,
        "Share of the characters of the training text that get a token of their own; the rest are written in bytes.",
        at_least=0.98,  # the library takes no less
        at_most=1,
    )

    def __post_init__(self) -> None:
        check_ranges("tokenizer", self)


@dataclasses.dataclass(frozen=True)
class FormatConfig:
    """How records are written as documents, where the StarCoder2 paper leaves a choice or leaves it to chance."""

    metadata_rate: float = setting(
        0.5,
        "Chance of a repository to be written with its name and the paths of its files (paper, section 5.1).",
        at_least=0,
        at_most=1,
    )
    variant: str = setting(
        "paper",
        "Whom to follow where the paper and the reference pipeline (bigcode's the-stack-v2) disagree: they do on "
        "comments and review states of pull requests, and on example rows of Kaggle data sets.",
        choices=VARIANTS,
    )
    size_optimized_rate: float = setting(
        0.8,
        "Chance of code to be paired with the intermediate representation that was optimised for size; otherwise it is "
        "the one optimised for speed (paper, section 2).",
        at_least=0,
        at_most=1,
    )
    code_first_rate: float = setting(
        0.5,
        "Chance of code to stand before its intermediate representation and not after it (paper, section 5).",
        at_least=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        check_ranges("format", self)


@dataclasses.dataclass(frozen=True)
class FimConfig:
    """Repository-context fill-in-the-middle (StarCoder2 paper, section 5.1)."""

    level: str = setting(
        "context",
        'Where it is applied: "context" to the windows that the model is trained on, as StarCoder2 does, so that a '
        'window always holds whole tasks; "document" before windows are cut, so that no token is lost; or "off".',
        choices=LEVELS,
    )
    rate: float = setting(
        0.5,
        "Chance of a repository to be chosen at all (and of a document without files to be transformed).",
        at_least=0,
        at_most=1,
    )
    file_rate: float = setting(
        0.5,
        "Chance of each file of a chosen repository to be transformed: a quarter of all files with both at 0.5.",
        at_least=0,
        at_most=1,
    )
    spm_rate: float = setting(
        0.5,
        "Share of the transformed files written suffix first; the reference implementations use 0.5, the paper is "
        "silent.",
        at_least=0,
        at_most=1,
    )
    line_rate: float = setting(
        0.0,
        "Share of the transformed files whose middle is one line that is not blank, and not what lies between any two "
        "characters; StarCoder2 has none.",
        at_least=0,
        at_most=1,
    )
    whole_middles: bool = setting(
        False,
        "Whether every middle stands whole in its window, with a special token after it. A transformed file gives up "
        "the tail of its suffix, or else the head of its prefix, as far as the window is too short, and gets an end of "
        "text where the window ends within it; one that cannot is left as it is. Without it windows of a few hundred "
        'tokens hardly show a model where to stop; StarCoder2 has none. At level "context" alone: document level '
        "cuts windows afterwards.",
    )
    source_code_only: bool = setting(
        True,
        "Whether it is applied to source code alone, repositories and files, as the paper says (section 5.1). The "
        "reference implementations (bigcode's Megatron-LM, NeMo) do not tell sources apart: with False an issue or a "
        "notebook is transformed too, as a whole, with the chance `rate`.",
    )
    drop_empty_files: bool = setting(
        False,
        "Whether an empty file of a chosen repository is dropped together with its separator, so that a repository "
        "without metadata loses its first token, and an empty last file may become three sentinels. So it is in the "
        "reference implementations.",
    )
    drop_empty_documents: bool = setting(
        False,
        "The same for empty documents and their ends: two ends of text in a row become one, and a window that ends "
        "with an end of text may get three sentinels after it.",
    )
    protect_repository_name: bool = setting(
        True,
        "Whether the name of a repository is never transformed, as the paper says (section 5.1) and NeMo does; in "
        "bigcode's Megatron-LM it is a fragment like any other.",
    )

    def __post_init__(self) -> None:
        check_ranges("fim", self)
