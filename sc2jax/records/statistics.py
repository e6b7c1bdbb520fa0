"""What the manifest of a curated corpus says about it, as JSON-able records: `corpus/` writes it, reports read it."""

from collections.abc import Mapping, Sequence
from typing import TypedDict


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
