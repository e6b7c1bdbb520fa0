"""What an evaluation finds, as JSON-able records: written by the measures, read by the report."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, TypedDict


class NotMeasured(TypedDict):
    """A measure that could not be taken, and why; it carries no figure."""

    measured: Literal[False]
    reason: str


class Rates(TypedDict):
    """Bits per byte of the model and of the two baselines on the same text."""

    files: int
    bytes: int
    tokens: int
    model: float
    unigram: float
    gzip: float


class UnigramCounts(TypedDict):
    """The training text behind the unigram baseline."""

    files: int
    bytes: int
    tokens: int


class BitsPerByte(TypedDict):
    """Held-out bits per byte: in total (every byte weighs the same) and by language.

    `ratio_to_unigram` is the model's rate over that of the unigram baseline.
    """

    measured: Literal[True]
    total: Rates
    ratio_to_unigram: float
    at_least_20_percent_below_unigram: bool
    by_language: dict[str, Rates]
    unigram: UnigramCounts


class InfillSample(TypedDict):
    """One hidden line: what was asked, what the model wrote, and the verdict.

    `line` counts from 1; `before` and `after` are the lines next to the hidden one, for a reader; `prompt` is the whole
    prompt as the model saw it, special tokens written as their literals.
    """

    repository: str
    path: str
    line: int
    language: str
    before: str
    after: str
    prompt: str
    reference: str
    completion: str
    finish: Literal["stop", "length"]
    exact: bool
    first_line_exact: bool
    edit_similarity: float


class InfillRates(TypedDict):
    """Shares of samples, all in [0, 1]; `edit_similarity` is a mean."""

    samples: int
    exact: int
    exact_match: float
    edit_similarity: float


class Infilling(TypedDict):
    """Exact-match infilling of held-out lines.

    `interval` is the 95 % Wilson interval of `model.exact_match`; `first_line_match` the share in which the first line
    written is right whether or not the model stopped after it; `stopped` the share that ended in a stop token.
    `copy_previous` is the score of repeating the line before.
    """

    measured: Literal[True]
    model: InfillRates
    interval: tuple[float, float]
    first_line_match: float
    stopped: float
    copy_previous: InfillRates
    by_language: dict[str, InfillRates]
    items: list[InfillSample]


class Evaluation(TypedDict):
    """Everything that the report shows of an evaluation."""

    bits_per_byte: BitsPerByte | NotMeasured
    infilling: Infilling | NotMeasured


class StageFunnel(TypedDict):
    """One stage of curation: what went in, what came out, and why files were dropped."""

    stage: str
    files_in: int
    files_out: int
    bytes_in: int
    bytes_out: int
    dropped: Mapping[str, int]


class LanguageShare(TypedDict):
    """The curated text of one language."""

    files: int
    bytes: int


class SplitShare(TypedDict):
    """One side of the split."""

    repositories: int
    files: int
    bytes: int


class CorpusStatistics(TypedDict):
    """`statistics` of a curated corpus's manifest; the split's keys are `train` and `heldout`."""

    funnel: Sequence[StageFunnel]
    languages: Mapping[str, LanguageShare]
    licenses: Mapping[str, int]
    split: Mapping[str, SplitShare]


class TrainingMetrics(TypedDict):
    """One row of `metrics.jsonl`; `loss` in nats a token, `tokens` trained on so far."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int


class Training(TypedDict):
    """The training run: its curve and its size."""

    metrics: Sequence[TrainingMetrics]
    parameters: int


class LeftToRight(TypedDict):
    """A continuation of a prompt."""

    kind: Literal["left_to_right"]
    prompt: str
    completion: str
    finish: Literal["stop", "length"]


class Infill(TypedDict):
    """A completion between a prefix and a suffix."""

    kind: Literal["infill"]
    prefix: str
    suffix: str
    completion: str
    finish: Literal["stop", "length"]


CompletionSample: TypeAlias = LeftToRight | Infill


class Provenance(TypedDict):
    """What made the run: version of the code, digest of each stage's manifest, and the resolved config."""

    version: str
    manifests: Mapping[str, str]
    config: Mapping[str, object]
