"""Settings of the feed: how a corpus becomes token rows."""

import dataclasses

from sc2jax.errors import UserError

LONG_DOCUMENTS = ("continued", "cut")
DAMAGED = ("stop", "skip")


@dataclasses.dataclass(frozen=True)
class FeedConfig:
    """How documents are drawn and packed into rows."""

    # Name of a mixture in data/mixtures, or the path of a file like those.
    mixture: str = "repositories"
    # Tokens of a row; 0: model.context_length. StarCoder2 trains with 4096, then 16384 (paper, section 6.2).
    row_length: int = 0
    # Whether a row is one sequence, as in StarCoder2's training, in which documents see those before them; otherwise
    # each document has a segment id of its own, its positions start anew, and attention stays inside of it.
    cross_document_attention: bool = False
    # A document that does not fit into what is left of its row is "continued" in the next one, as in StarCoder2's
    # training, or "cut": its rest is left out, and every row begins with the beginning of a document.
    long_documents: str = "continued"
    # Virtual streams that a row of the batch reads by turns. A stream follows one repository at a time, so that a small
    # batch sees few of them at once; with more streams it sees more. Each holds one row group a source in memory.
    streams_per_row: int = 1
    # Whether a damaged or missing part of the corpus ends the run with a message ("stop") or is left out and counted
    # in the training metrics ("skip").
    damaged: str = "stop"
    # Whether documents are taken from what `sc2jax tokenize` wrote, instead of being written and encoded on the way.
    tokenized: bool = False
    # Batches made ahead in the background, so that a training step does not wait for the next one.
    prefetch: int = 4

    def __post_init__(self) -> None:
        if not self.mixture:
            raise UserError("feed.mixture is empty; use the name of a mixture such as 'repositories'")
        if self.row_length < 0 or self.row_length == 1:
            raise UserError(f"feed.row_length {self.row_length} leaves nothing to predict; use 2 or more")
        if self.streams_per_row < 1:
            raise UserError(f"feed.streams_per_row is {self.streams_per_row}; use 1 or more")
        if self.prefetch < 1:
            raise UserError(f"feed.prefetch is {self.prefetch}; use 1 or more")
        for name, choices in (("long_documents", LONG_DOCUMENTS), ("damaged", DAMAGED)):
            if getattr(self, name) not in choices:
                raise UserError(f"feed.{name} {getattr(self, name)!r} is unknown; use one of {', '.join(choices)}")


@dataclasses.dataclass(frozen=True)
class TokenizeConfig:
    """How documents are encoded ahead of training."""

    # Renderings of each document that are kept. An epoch draws the order of a repository's files, its metadata and,
    # at document level, infilling anew; a feed that reads more epochs than these takes them from the first on again.
    epochs: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"tokenize.epochs is {self.epochs}; use 1 or more")


@dataclasses.dataclass(frozen=True)
class ShowConfig:
    """Which training row is shown."""

    # Batch, counted from 0, as the first training step sees it.
    step: int = 0
    # Row of the batch, counted from 0.
    row: int = 0
    # The only source of the mixture to show, as if there were no other; "": all of them, as in training.
    source: str = ""
    # Where to write the row as an HTML page, for a browser or a notebook; "": it is printed.
    html: str = ""

    def __post_init__(self) -> None:
        if self.step < 0 or self.row < 0:
            raise UserError(f"show.step {self.step} and show.row {self.row} count from 0")
