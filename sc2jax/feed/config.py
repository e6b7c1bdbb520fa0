"""Settings of the feed: how a corpus becomes token rows."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

LONG_DOCUMENTS = ("continued", "cut")
DAMAGED = ("stop", "skip")


@dataclasses.dataclass(frozen=True)
class FeedConfig:
    """How documents are drawn and packed into rows."""

    mixture: str = setting("repositories", "Name of a mixture in data/mixtures, or the path of a file like those.")
    cross_document_attention: bool = setting(
        False,
        "Whether a row is one sequence, as in StarCoder2's training, in which documents see those before them; "
        "otherwise each document has a segment id of its own, its positions start anew, and attention stays inside it.",
    )
    long_documents: str = setting(
        "continued",
        'What happens to a document that does not fit into what is left of its row: it is "continued" in the next '
        'one, as in StarCoder2\'s training, or "cut": its rest is left out, and every row begins with a document.',
        choices=LONG_DOCUMENTS,
    )
    streams_per_row: int = setting(
        1,
        "Streams that each row of the batch takes turns reading. A stream follows one repository at a time, so a small "
        "batch sees few of them at once; with more streams it sees more. Each holds one row group a source in memory.",
        at_least=1,
        at_most=1024,
    )
    damaged: str = setting(
        "stop",
        "Whether a damaged or missing part of the corpus, or a record that is not of its kind, ends the run with a "
        'message ("stop") or is left out and counted in the training metrics ("skip").',
        choices=DAMAGED,
    )
    tokenized: bool = setting(
        False,
        "Whether documents are taken from what `sc2jax tokenize` wrote, instead of being written and encoded on the "
        "way.",
    )
    prefetch: int = setting(
        4,
        "Batches made ahead in the background, so that a training step does not wait for the next one.",
        unit="batches",
        at_least=1,
        at_most=1024,
        decides=False,
    )

    def __post_init__(self) -> None:
        check_ranges("feed", self)
        if not self.mixture:
            raise UserError("feed.mixture is empty; use the name of a mixture such as 'repositories'")


@dataclasses.dataclass(frozen=True)
class TokenizeConfig:
    """How documents are encoded ahead of training."""

    epochs: int = setting(
        1,
        "Renderings of each document that are kept. An epoch draws the order of a repository's files, its metadata "
        "and, at document level, infilling anew; a feed that reads more epochs than these takes them from the first on "
        "again.",
        at_least=1,
        at_most=1000,
    )

    def __post_init__(self) -> None:
        check_ranges("tokenize", self)


@dataclasses.dataclass(frozen=True)
class ShowConfig:
    """Which training row is shown."""

    step: int = setting(0, "Batch, counted from 0, as the first training step sees it.", at_least=0, at_most=2**31)
    row: int = setting(0, "Row of the batch, counted from 0.", at_least=0, at_most=2**31)
    source: str = setting(
        "", 'The only source of the mixture to show, as if there were no other; "": all of them, as in training.'
    )
    html: str = setting("", 'Where to write the row as an HTML page, for a browser or a notebook; "": it is printed.')

    def __post_init__(self) -> None:
        check_ranges("show", self)
