"""Settings of the held-out evaluation: of each measure what it reads, and all of them together."""

import dataclasses

from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class HeldoutConfig:
    """How much of the held-out repositories every measure may look at."""

    max_files: int = 256
    """Held-out files that may be scored: a bound for corpora of many tiny files."""
    max_bytes: int = 300_000
    """UTF-8 bytes of held-out text to score, about 90,000 tokens; 0 leaves bits per byte out."""

    def __post_init__(self) -> None:
        """Refuses numbers that cannot be.

        Raises:
            UserError: a value out of range.
        """
        may_be_zero = ("max_bytes", "unigram_bytes", "infill_samples", "min_line_letters")
        for field in dataclasses.fields(self):
            least = 0 if field.name in may_be_zero else 1
            value = getattr(self, field.name)
            if value < least:
                raise UserError(f"evaluation.{field.name} is {value}; it must be at least {least}")


@dataclasses.dataclass(frozen=True)
class BitsPerByteConfig(HeldoutConfig):
    """What the measure of bits per byte reads."""

    max_file_bytes: int = 16_384
    """Bytes scored of one file, from its start, so that one large file cannot stand for the whole corpus."""
    score_batch: int = 8
    """Rows that are scored at once; memory grows with it. It does not decide a result."""
    unigram_bytes: int = 4_000_000
    """Training text whose tokens are counted for the unigram baseline: over a million tokens, far more than the
    vocabulary; 0 counts the whole split."""


@dataclasses.dataclass(frozen=True)
class InfillingConfig(HeldoutConfig):
    """What the measure of infilling reads."""

    infill_samples: int = 128
    """Held-out lines to fill in: a standard error of at most 4.4 points; 0 leaves infilling out."""
    infill_batch: int = 16
    """Prompts decoded together. It does not decide a result."""
    infill_tokens: int = 48
    """Tokens that a completion may have; a line of `max_line_characters` needs about 30."""
    min_line_letters: int = 3
    """Letters that a line must have to be asked for: leaves out blank lines, brackets and rules of dashes."""
    max_line_characters: int = 80
    """Length of the longest line asked for, without its indentation."""
    prefix_characters: int = 480
    """Text shown before the hidden line, cut at the start of a line. Together with the suffix and the completion about
    250 tokens, so that the question fits the rows that a tiny model was trained on."""
    suffix_characters: int = 160
    """Text shown after the hidden line, cut at the end of a line. In the prompt it stands between the prefix and the
    answer, so a long one pushes the prefix out of a narrow attention window."""

    def __post_init__(self) -> None:
        """Refuses numbers that cannot be.

        Raises:
            UserError: a value out of range, or bounds that no line can meet.
        """
        super().__post_init__()
        if self.min_line_letters > self.max_line_characters:
            raise UserError(
                f"evaluation.min_line_letters is {self.min_line_letters}, more than "
                f"evaluation.max_line_characters ({self.max_line_characters}): no line can qualify; lower it"
            )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(BitsPerByteConfig, InfillingConfig):
    """Everything that an evaluation reads.

    The defaults cost about half a minute on two cores with a model of three million parameters.
    """
