"""Settings of the corpus room: a part for each stage of the recipe, and all of them together.

A stage is handed its own part alone, so it cannot read a setting that its key does not hold. Thresholds are those of
the StarCoder2 paper, sections 2.1 and 3.
"""

import dataclasses
import os

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

LICENSE_TYPES = ("permissive", "no_license", "non_permissive")
"""What the licences of a file amount to, the most welcome first."""

NEAR_RULES = ("greedy", "transitive")
"""Which near-duplicates fall."""

DAMAGED = ("skip", "stop")
"""What a repository, folder or file of a source that cannot be read may do."""

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
MOST_CHARACTERS = 256 * MIB
"""Of a file at most: a few of such a size still fit the 2 GiB that an Arrow array of texts can address."""
CROSS_ROWS = 5
"""Rows per band where the sides of the split are compared: 50 bands of 5 find more than 999 of 1,000 pairs at 0.7."""
LEAST_FOUND = 0.9
"""Of the near-duplicates across the split, what the comparison must be expected to find."""


@dataclasses.dataclass(frozen=True)
class MachineConfig:
    """Which of the machine's own packages are curated where no source is named."""

    max_distribution_bytes: int = setting(
        30_000_000,
        "Installed distributions that join the machine's standard library when no source is named.",
        unit="bytes",
        at_least=0,
        at_most=TIB,
        decides=False,  # the digest of the sources, an input of every stage, says which files there are
    )


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """Which files are listed and read."""

    max_file_bytes: int = setting(
        10 * MIB,
        "Size from which on a file is rejected without being read.",
        unit="bytes",
        at_least=1,
        at_most=MOST_CHARACTERS,
    )
    unit_bytes: int = setting(
        8 * MIB,
        "Source files, in whole repositories, that one worker lists, judges and signs at a time; every unit becomes a "
        "Parquet part of each stage, so of an archive of many terabytes take more.",
        unit="bytes of source files",
        at_least=1,
        at_most=1 << 40,
    )
    sample: float = setting(
        1.0,
        "Share of the repositories, by a hash of their names, that is curated, to try a recipe: what is decided on a "
        "file is the same with all of them, but for duplicates.",
        at_least=0,
        at_most=1,
        decides=False,  # the digest of the sources says which files there are
    )
    damaged: str = setting(
        "skip",
        "Whether a repository, archive, folder or file of a source that cannot be read is left out and counted "
        '("skip") or ends the run with a message ("stop").',
        choices=DAMAGED,
        decides=False,  # what is left out is an input of its own
    )
    retry_failed: bool = setting(
        False,
        "Whether what an earlier run could not read of a repository, an archive or a store is tried again; its listing "
        "stands, and nothing else is done anew.",
        decides=False,  # what is left out is counted
    )
    max_failed_share: float = setting(
        0.01,
        "Share of the contents of Software Heritage that may be absent, damaged or not fetched; more stop the run.",
        at_least=0,
        at_most=1,
        decides=False,  # what is left out is counted, whatever its share
    )


@dataclasses.dataclass(frozen=True)
class HeritageConfig:
    """What is read beside an export of Software Heritage."""

    heritage_contents: str = setting(
        "s3://softwareheritage",
        "Bucket or folder that holds content/SHA1 for the contents of Software Heritage, packed by gzip.",
        decides=False,  # contents are named by their hashes
    )
    github_archive: str = setting(
        "",
        "Bucket or folder of hourly files of GHArchive (.json.gz), for stars, forks, licences and default branches; "
        '"": all of these are unknown.',
        decides=False,  # the digest of the sources says which repositories there are
    )


@dataclasses.dataclass(frozen=True)
class LicenseConfig:
    """How licences are found in the files that may tell of one."""

    license_confidence: float = setting(
        0.9,
        "Share of a licence's words, in runs of three, that a text must have to count as that licence.",
        at_least=0,
        at_most=1,
    )


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """Which files are kept for what they are by themselves."""

    keep_license_types: tuple[str, ...] = setting(
        ("permissive", "no_license"),
        "Licence types that are kept; the paper trains on permissive files and on those without any licence.",
        choices=LICENSE_TYPES,
    )
    max_lines: int = setting(100_000, "Lines of a file.", unit="lines", at_least=1, at_most=MOST_CHARACTERS)
    max_mean_line: float = setting(
        100.0, "Mean length of a file's lines.", unit="characters", at_least=0, at_most=MOST_CHARACTERS
    )
    max_line: int = setting(1_000, "Longest line of a file.", unit="characters", at_least=1, at_most=MOST_CHARACTERS)
    max_line_exempt: int = setting(
        100_000,
        "Longest line in the languages that are exempt from the two limits above (markup and data).",
        unit="characters",
        at_least=1,
        at_most=MOST_CHARACTERS,
    )
    min_alphabetic: float = setting(0.25, "Least share of alphabetic characters.", at_least=0, at_most=1)
    max_encoded_run: int = setting(
        1_024, "Longest stretch of encoded data.", unit="characters", at_least=1, at_most=MOST_CHARACTERS
    )
    max_encoded_share: float = setting(0.5, "Share of a file that is encoded data.", at_least=0, at_most=1)
    max_data_lines: int = setting(
        512,
        "Lines in the languages that are mostly data (Text, JSON, YAML, Web Ontology Language, Graphviz).",
        unit="lines",
        at_least=1,
        at_most=MOST_CHARACTERS,
    )


@dataclasses.dataclass(frozen=True)
class SignatureConfig:
    """What the MinHash signature of a file is."""

    near_ngram: int = setting(5, "Tokens of an n-gram.", unit="tokens", at_least=1, at_most=100)
    near_permutations: int = setting(
        250,
        "MinHash permutations of a signature. The comparison across the split takes them five by five, and needs as "
        "many as find 9 of 10 pairs at near_threshold, or where that is 0, at heldout_similarity.",
        at_least=CROSS_ROWS,
        at_most=1024,
    )


@dataclasses.dataclass(frozen=True)
class NearConfig(SignatureConfig):
    """What counts as a near-duplicate; bands and rows follow (25 of 10 for 250 permutations at 0.7)."""

    near_rule: str = setting(
        "greedy",
        'Which near-duplicates are dropped. "greedy": a file falls if one that is kept, and preferred to it, shares a '
        'band with it and their estimated similarity reaches near_threshold. "transitive", as in the paper: of files '
        "that a chain of shared bands joins one is kept, however unlike its ends are.",
        choices=NEAR_RULES,
    )
    near_threshold: float = setting(
        0.7,
        "Jaccard similarity from which two files count as the same; 0: only exact duplicates do, on each side of the "
        "split.",
        at_least=0,
        at_most=1,
    )


def share_found(similarity: float, permutations: int) -> float:
    """Of the pairs of files of a similarity, how many the comparison across a split finds: they agree in a band."""
    return 1 - (1 - similarity**CROSS_ROWS) ** (permutations // CROSS_ROWS)


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Which repositories are held out from training."""

    heldout_fraction: float = setting(
        0.05, "Share of the repositories, by a hash of their names, that is held out.", at_least=0, at_most=1
    )
    heldout_similarity: float = setting(
        0.61,
        "Estimated similarity to a training file from which a held-out file is dropped: three standard errors of an "
        "estimate from 250 permutations below near_threshold, so that chance lets no duplicate across; not above it.",
        at_least=0,
        at_most=1,
    )


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """Where the work is done, and in which portions."""

    engine: str = setting(
        "native",
        'What the work is handed to: the cores of this machine ("native"), or a cluster of Ray ("ray"), whose workers '
        "must see the same paths.",
        choices=("native", "ray"),
        decides=False,  # the same units are done by the same functions
    )
    ray_address: str = setting(
        "",
        'Of the cluster, such as "ray://head:10001"; "" takes the one that this machine is in, or starts one on it.',
        decides=False,
    )
    memory_bytes: int = setting(
        4 * GIB,
        "Memory of a machine that the work is planned to fit in: where the rows of a corpus are brought together by a "
        "key, each core takes a share of it at a time.",
        unit="bytes",
        at_least=256 * MIB,
        at_most=TIB,
        decides=False,
    )

    @property
    def partition_bytes(self) -> int:
        """Rows that one core is given at a time: of those it makes several copies."""
        return self.memory_bytes // (32 * (os.cpu_count() or 1))


@dataclasses.dataclass(frozen=True)
class PartsConfig:
    """How tables are cut into Parquet parts."""

    part_bytes: int = setting(
        64 * MIB, "Size at which a Parquet part is closed.", unit="bytes of text", at_least=1, at_most=TIB
    )


@dataclasses.dataclass(frozen=True)
class RowGroupConfig:
    """How the corpus is cut into row groups."""

    row_group_bytes: int = setting(
        MIB,
        "Size at which a row group of the corpus, the unit of reading, is closed; it holds whole repositories, or one "
        "document of a repository that is larger than max_document_bytes.",
        unit="bytes of text",
        at_least=1,
        at_most=1 << 30,
    )
    max_document_bytes: int = setting(
        16 * MIB,
        "Size of a repository's kept files above which it becomes several documents of at most that size, each with "
        "the name of the repository; its files are dealt by a hash of their paths.",
        unit="bytes of source files",
        at_least=1,
        at_most=1 << 29,
    )


@dataclasses.dataclass(frozen=True)
class CorpusConfig(
    RowGroupConfig,
    PartsConfig,
    SplitConfig,
    NearConfig,
    FilterConfig,
    LicenseConfig,
    HeritageConfig,
    SourceConfig,
    MachineConfig,
    EngineConfig,
):
    """How source trees become a corpus."""

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of its range, or thresholds with which near-duplicates would pass the split unseen.
        """
        check_ranges("corpus", self)
        if self.heldout_similarity > self.near_threshold > 0:
            raise UserError(
                f"corpus.heldout_similarity is {self.heldout_similarity}, more than corpus.near_threshold "
                f"({self.near_threshold}): near-duplicates of training files would be held out; lower it"
            )
        key = "near_threshold" if self.near_threshold else "heldout_similarity"
        found = share_found(getattr(self, key), self.near_permutations)
        if found < LEAST_FOUND:
            raise UserError(
                f"corpus.near_permutations is {self.near_permutations}: across the split {found:.0%} of the pairs "
                f"at corpus.{key} ({getattr(self, key)}) would be found, and {LEAST_FOUND:.0%} must be; raise either"
            )
