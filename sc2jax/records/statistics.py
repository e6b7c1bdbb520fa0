"""The statistics in the manifest of a curated corpus, as the corpus writes and the report reads them."""

from collections.abc import Mapping, Sequence
from typing import TypedDict


class StageFunnel(TypedDict):
    """One stage of curation: what went in, what came out, and how many files were dropped for each reason."""

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


class LeftOutShare(TypedDict):
    """What the sources hold and the funnel does not see, for one reason: how often, and some of its names."""

    count: int
    named: Sequence[str]


class CorpusStatistics(TypedDict):
    """A curated corpus: its funnel in the order of the stages, and of what it consists.

    `languages` and `licenses` go by name, `left_out` by reason; the keys of `split` are `train` and `heldout`.
    """

    funnel: Sequence[StageFunnel]
    languages: Mapping[str, LanguageShare]
    licenses: Mapping[str, int]
    split: Mapping[str, SplitShare]
    left_out: Mapping[str, LeftOutShare]
