"""Settings of the feed: how a corpus becomes token rows."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

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
    damaged: str = setting(
        "stop",
        "Whether a damaged or missing part of the corpus, a record that is not of its kind, or a damaged block of "
        'tokens ends the run with a message ("stop"), or is left out and counted ("skip"); a row whose tokens are '
        "damaged is then empty.",
        choices=DAMAGED,
        decides=False,  # what `tokenize` left out stands in its outputs
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

    renderings: int = setting(
        1,
        "How often each document is written and encoded. A rendering draws the order of a repository's files, its "
        "metadata and, at document level, infilling anew; epochs take one after the other, and after the last the "
        "first again.",
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
