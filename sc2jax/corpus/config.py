"""Settings of the corpus room."""

import dataclasses

from sc2jax.errors import UserError

LICENSE_TYPES = ("permissive", "no_license", "non_permissive")
"""What the licences found for a file amount to, most welcome first."""

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """How source trees become a corpus. Thresholds are those of the StarCoder2 paper, sections 2.1 and 3."""

    # Bytes of the machine's installed distributions that join its standard library when no source is named.
    max_distribution_bytes: int = 30_000_000
    # Bytes of a file; this size and above are rejected without being read.
    max_file_bytes: int = 10 * MIB
    # Least askalono score (0 to 1) at which a text counts as the licence it resembles; 0.9 is askalono's own limit.
    license_confidence: float = 0.9
    # License types that are kept; the paper trains on permissive files and on those without any licence.
    keep_license_types: tuple[str, ...] = ("permissive", "no_license")
    # Lines of a file at most.
    max_lines: int = 100_000
    # Characters per line at most: mean, and longest.
    max_mean_line: float = 100.0
    max_line: int = 1_000
    # Longest line, in characters, in the languages that are exempt from the two limits above (markup and data).
    max_line_exempt: int = 100_000
    # Least share of alphabetic characters.
    min_alphabetic: float = 0.25
    # Characters of one stretch of encoded data at most, and its share of the file.
    max_encoded_run: int = 1_024
    max_encoded_share: float = 0.5
    # Lines at most in the languages that are mostly data (Text, JSON, YAML, Web Ontology Language, Graphviz).
    max_data_lines: int = 512
    # Near-duplicates: tokens per n-gram, MinHash permutations, and the Jaccard similarity from which two files count
    # as the same; bands and rows follow from the last two (25 x 10 for 250 permutations at 0.7).
    near_ngram: int = 5
    near_permutations: int = 250
    near_threshold: float = 0.7
    # Share of the repositories, by a hash of their names, that is held out from training.
    heldout_fraction: float = 0.05
    # Estimated similarity to a training file from which a held-out file is dropped: three standard errors of an
    # estimate from 250 permutations below near_threshold, so that a chance estimate lets no duplicate across.
    heldout_similarity: float = 0.61
    # Bytes of text per Parquet row group (the unit of reading; it holds whole repositories) and per part.
    row_group_bytes: int = MIB
    part_bytes: int = 64 * MIB

    def __post_init__(self) -> None:
        counts = (
            "max_file_bytes",
            "max_lines",
            "max_line",
            "max_line_exempt",
            "max_encoded_run",
            "max_data_lines",
            "near_ngram",
            "near_permutations",
            "row_group_bytes",
            "part_bytes",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"corpus.{name} is {getattr(self, name)}; it must be at least 1")
        shares = (
            "license_confidence",
            "min_alphabetic",
            "max_encoded_share",
            "near_threshold",
            "heldout_fraction",
            "heldout_similarity",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"corpus.{name} is {getattr(self, name)}; it must lie between 0 and 1")
        for name in ("max_distribution_bytes", "max_mean_line"):
            if getattr(self, name) < 0:
                raise UserError(f"corpus.{name} is {getattr(self, name)}; it must not be negative")
        unknown = sorted(set(self.keep_license_types) - set(LICENSE_TYPES))
        if unknown or not self.keep_license_types:
            raise UserError(
                f"corpus.keep_license_types is {self.keep_license_types}; "
                f"name one or more of {', '.join(LICENSE_TYPES)}"
            )
