"""The statistics in the manifests of a curated corpus and of its identities, as the corpus writes them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypedDict

import msgspec

from sc2jax.json_files import Count, as_kind
from sc2jax.records.manifest import MANIFEST, Manifest, Output
from sc2jax.storage import join


class StageFunnel(TypedDict):
    """One stage of curation: what went in, what came out, and how many files were dropped for each reason."""

    stage: str
    files_in: Count
    files_out: Count
    bytes_in: Count
    bytes_out: Count
    dropped: Mapping[str, Count]


class LanguageShare(TypedDict):
    """The curated text of one language."""

    files: Count
    bytes: Count


class SplitShare(TypedDict):
    """One side of the split."""

    repositories: Count
    files: Count
    bytes: Count


class Split(TypedDict):
    """Both sides."""

    train: SplitShare
    heldout: SplitShare


class RepositoryShare(TypedDict):
    """The repositories found, those of which something is kept, and the others by reason."""

    found: Count
    kept: Count
    without: Mapping[str, Count]


class CutShare(TypedDict):
    """The repositories that were too large for one document, on both sides, and the documents that they became."""

    repositories: Count
    documents: Count


class LeftOutShare(TypedDict):
    """What the sources hold and the funnel does not see, for one reason: how often, and some of its names."""

    count: Count
    named: Sequence[str]


class CorpusStatistics(TypedDict):
    """A curated corpus: its funnel in the order of the stages, and of what it consists.

    `languages` and `licenses` go by name, `left_out` by reason.
    """

    funnel: Annotated[Sequence[StageFunnel], msgspec.Meta(min_length=1)]
    languages: Mapping[str, LanguageShare]
    licenses: Mapping[str, Count]
    split: Split
    repositories: RepositoryShare
    cut: CutShare
    left_out: Mapping[str, LeftOutShare]


class IdentityStatistics(TypedDict):
    """What is said of a corpus beside the identities of its files, so that it can be built again from an archive.

    `parts` are those of both sides of the corpus as its manifest lists them, `written_by` the versions of what wrote
    them, `largest_file` the bytes of the largest file, and `corpus` its statistics, without what was left out.
    """

    parts: Sequence[Output]
    written_by: Mapping[str, str]
    largest_file: Count
    corpus: CorpusStatistics


def corpus_statistics(folder: str, manifest: Manifest) -> CorpusStatistics:
    """The statistics of the corpus in a folder.

    Raises:
        UserError: its manifest holds others.
    """
    where, remedy = f"what {join(folder, MANIFEST)} says of the corpus", "curate it again"
    return as_kind(manifest.statistics, CorpusStatistics, where, remedy)


def identity_statistics(folder: str, manifest: Manifest) -> IdentityStatistics:
    """The statistics of the identities in a folder.

    Raises:
        UserError: its manifest holds others.
    """
    where, remedy = f"what {join(folder, MANIFEST)} says of the corpus", "bring it back as it was written"
    return as_kind(manifest.statistics, IdentityStatistics, where, remedy)
