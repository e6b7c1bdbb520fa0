"""Settings of the held-out evaluation: a part for each measure, and all of them together."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

MOST_BYTES = 1 << 40
MOST_ROWS = 1 << 16
"""Of what a device works on at once."""
MOST_CHARACTERS = 1 << 20
"""Of a prompt."""


@dataclasses.dataclass(frozen=True)
class HeldoutConfig:
    """Which held-out text every measure may use."""

    max_files: int = setting(
        256,
        "Held-out files that may be measured: a bound for corpora of many tiny files.",
        unit="files",
        at_least=1,
        at_most=1_000_000,
    )
    max_bytes: int = setting(
        300_000,
        "UTF-8 bytes of held-out text to measure, about 90,000 tokens; 0 leaves every measure out.",
        unit="bytes",
        at_least=0,
        at_most=MOST_BYTES,
    )


@dataclasses.dataclass(frozen=True)
class BitsPerByteConfig(HeldoutConfig):
    """How bits per byte are measured."""

    max_file_bytes: int = setting(
        16_384,
        "Scored of one file, from its start, so that one large file cannot stand for the whole corpus.",
        unit="bytes",
        at_least=1,
        at_most=MOST_BYTES,
    )
    score_batch: int = setting(
        8,
        "Rows that the scorer runs at once; memory grows with it, the figures do not depend on it.",
        unit="rows",
        at_least=1,
        at_most=MOST_ROWS,
        decides=False,
    )
    unigram_bytes: int = setting(
        4_000_000,
        "Training text whose tokens are counted for the unigram baseline: over a million tokens, far more than the "
        "vocabulary; 0 counts the whole split.",
        unit="bytes",
        at_least=0,
        at_most=MOST_BYTES,
    )


@dataclasses.dataclass(frozen=True)
class InfillingConfig(HeldoutConfig):
    """How exact-match infilling is measured."""

    infill_samples: int = setting(
        128,
        "Held-out lines to fill in: a standard error of at most 4.4 points; 0 leaves infilling out.",
        unit="lines",
        at_least=0,
        at_most=1_000_000,
    )
    infill_batch: int = setting(
        16, "Prompts decoded together.", unit="prompts", at_least=1, at_most=MOST_ROWS, decides=False
    )
    infill_tokens: int = setting(
        48,
        "Length of a completion; a line of `max_line_characters` needs about 30.",
        unit="tokens",
        at_least=1,
        at_most=1 << 16,
    )
    min_line_letters: int = setting(
        3,
        "Letters that a line must have to be asked for: leaves out blank lines, brackets and rules of dashes.",
        unit="letters",
        at_least=0,
        at_most=MOST_CHARACTERS,
    )
    max_line_characters: int = setting(
        80,
        "Length of the longest line asked for, without its indentation.",
        unit="characters",
        at_least=1,
        at_most=MOST_CHARACTERS,
    )
    prefix_characters: int = setting(
        480,
        "Text shown before the hidden line, cut at the start of a line. Together with the suffix and the completion "
        "about 250 tokens, so that the question fits the rows that a tiny model was trained on.",
        unit="characters",
        at_least=1,
        at_most=MOST_CHARACTERS,
    )
    suffix_characters: int = setting(
        160,
        "Text shown after the hidden line, cut at the end of a line. In the prompt it stands between the prefix and "
        "the answer, so a long one pushes the prefix out of a narrow attention window.",
        unit="characters",
        at_least=1,
        at_most=MOST_CHARACTERS,
    )


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """How the cost of generation is measured."""

    decoding_tokens: int = setting(
        0,
        "Written after each prompt, which fills the rest of the model's context, while decoding is timed; 0 leaves "
        "that out.",
        unit="tokens",
        at_least=0,
        at_most=1 << 16,
    )
    decoding_batch: int = setting(
        16,
        "Prompts that are completed together, beside one alone, while decoding is timed.",
        unit="prompts",
        at_least=1,
        at_most=MOST_ROWS,
    )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(DecodingConfig, InfillingConfig, BitsPerByteConfig):
    """How much of the held-out repositories is measured, and how.

    The defaults cost about half a minute on two cores with a model of three million parameters.
    """

    def __post_init__(self) -> None:
        check_ranges("evaluation", self)
        if self.min_line_letters > self.max_line_characters:
            raise UserError(
                f"evaluation.min_line_letters is {self.min_line_letters}, more than "
                f"evaluation.max_line_characters ({self.max_line_characters}): no line can qualify; lower it"
            )
