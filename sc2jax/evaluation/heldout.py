"""Code files of a curated corpus, and a seeded choice among them that does not depend on their order."""

import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest

_COLUMNS = ("repository", "path", "language", "content")
_DIGEST = "text_sha256"


@dataclasses.dataclass(frozen=True)
class CodeFile:
    """What evaluation reads of a file."""

    repository: str
    path: str
    language: str
    text: str

    @property
    def bytes(self) -> int:
        """The length of its text in UTF-8."""
        return len(self.text.encode())


Splits: TypeAlias = Callable[[str], Iterable[CodeFile]]
"""From the name of a split, `train` or `heldout`, to its files."""


def read_files(
    folder: str, manifest: Manifest, split: str, without: Collection[str] = frozenset()
) -> Iterator[CodeFile]:
    """The files of one split (`train` or `heldout`) of a curated corpus, read one row group at a time.

    Files whose text has one of the digests `without` are left out.

    Raises:
        UserError: a part is missing or damaged.
    """
    for table in read_tables(folder, manifest, split, (*_COLUMNS, _DIGEST), "source_file"):
        for row in table.select((*_COLUMNS, _DIGEST)).to_pylist():
            if row[_DIGEST] not in without:
                yield CodeFile(row["repository"], row["path"], row["language"], row["content"])


def shared_texts(folder: str, manifest: Manifest, other: str, other_manifest: Manifest) -> frozenset[str]:
    """The digests of the held-out texts of a corpus that the training split of another holds too.

    Raises:
        UserError: a part is missing or damaged.
    """
    heldout = {digest for table in read_tables(folder, manifest, "heldout", [_DIGEST]) for digest in _digests(table)}
    trained = read_tables(other, other_manifest, "train", [_DIGEST])
    return frozenset(digest for table in trained for digest in _digests(table) if digest in heldout)


def _digests(table: pa.Table) -> list[str]:
    return table.column(_DIGEST).to_pylist()


def choose_files(
    files: Iterable[CodeFile], *, max_files: int, max_bytes: int, seed: int, max_file_bytes: int = 0
) -> list[CodeFile]:
    """The first files in a seeded random order, until one of the bounds is reached; 0 means no bound.

    Empty files are left out. A file longer than `max_file_bytes` is cut between two characters, and so is the file that
    exceeds `max_bytes`. Files are ordered by a hash of seed, repository and path; so the choice does not depend on the
    order in which they come, and no more than `max_bytes` and one file are in memory.
    """
    chosen: list[_Ranked] = []  # a heap with the last file of the order at its root
    total = 0
    for file in files:
        file = _cut(file, max_file_bytes)
        if not file.text:
            continue
        heapq.heappush(chosen, _Ranked(rank(seed, file.repository, file.path), file))
        total += file.bytes
        # A file beyond a full budget can be dropped for good: another file can only push it further back.
        while _dispensable(len(chosen), total, chosen[0].file.bytes, max_files, max_bytes):
            total -= heapq.heappop(chosen).file.bytes
    ordered = [ranked.file for ranked in sorted(chosen, reverse=True)]
    if max_bytes and total > max_bytes:
        ordered[-1] = _cut(ordered[-1], ordered[-1].bytes - (total - max_bytes))
    return [file for file in ordered if file.text]


def rank(seed: int, *parts: str | int) -> bytes:
    """A sort key for a seeded random order: a hash of the seed and of what identifies an item."""
    # With the lengths, ("a", "bc") and ("ab", "c") differ, whatever characters the parts hold.
    key = "".join(f"{len(str(part))}:{part}" for part in (seed, *parts))
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


@dataclasses.dataclass(frozen=True)
class _Ranked:
    place: bytes
    file: CodeFile

    def __lt__(self, other: "_Ranked") -> bool:
        return self.place > other.place


def _dispensable(count: int, total: int, last_bytes: int, max_files: int, max_bytes: int) -> bool:
    too_many = 0 < max_files < count
    full_without_last = max_bytes > 0 and total - last_bytes >= max_bytes
    return too_many or full_without_last


def _cut(file: CodeFile, max_bytes: int) -> CodeFile:
    """The start of a file in at most `max_bytes` bytes and whole characters; 0 means the whole file."""
    if not max_bytes or len(file.text) * 4 <= max_bytes:
        return file
    encoded = file.text.encode()
    if len(encoded) <= max_bytes:
        return file
    # The cut may leave some bytes of a character at the end, and `ignore` drops just those.
    return dataclasses.replace(file, text=encoded[:max_bytes].decode(errors="ignore"))
