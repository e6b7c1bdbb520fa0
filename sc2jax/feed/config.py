"""Settings of the feed: how a corpus becomes token rows."""

import dataclasses

from sc2jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class FeedConfig:
    """How documents are drawn, written and packed into rows."""

    # Name of a mixture in data/mixtures, or the path of a file like those.
    mixture: str = "repositories"
    # Tokens of a row; 0: model.context_length. StarCoder2 trains with 4096, then 16384 (paper, section 6.2).
    row_length: int = 0
    # Chance of a repository to be written with its name and its files' paths (paper, section 5.1).
    metadata_rate: float = 0.5
    # Whether a row is one sequence, as in StarCoder2's training, in which documents see those before them; otherwise
    # each document has a segment id of its own, its positions start anew, and attention stays inside of it.
    cross_document_attention: bool = False
    # Virtual streams that a row of the batch reads by turns. A stream follows one repository at a time, so that a small
    # batch sees few of them at once; with more streams it sees more. Each holds one row group in memory.
    streams_per_row: int = 1
    # Batches made ahead in the background, so that a training step does not wait for the next one.
    prefetch: int = 4

    def __post_init__(self) -> None:
        if not self.mixture:
            raise UserError("feed.mixture is empty; use the name of a mixture such as 'repositories'")
        if self.row_length < 0 or self.row_length == 1:
            raise UserError(f"feed.row_length {self.row_length} leaves nothing to predict; use 2 or more")
        if not 0 <= self.metadata_rate <= 1:
            raise UserError(f"feed.metadata_rate {self.metadata_rate} is not between 0 and 1")
        if self.streams_per_row < 1:
            raise UserError(f"feed.streams_per_row is {self.streams_per_row}; use 1 or more")
        if self.prefetch < 1:
            raise UserError(f"feed.prefetch is {self.prefetch}; use 1 or more")


@dataclasses.dataclass(frozen=True)
class ShowConfig:
    """Which training row is shown."""

    # Batch, counted from 0, as the first training step sees it.
    step: int = 0
    # Row of the batch, counted from 0.
    row: int = 0

    def __post_init__(self) -> None:
        if self.step < 0 or self.row < 0:
            raise UserError(f"show.step {self.step} and show.row {self.row} count from 0")
