"""Code files of a curated corpus, and a seeded choice among them that depends on nothing but the files."""

import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest

_COLUMNS = ("repository", "path", "language", "content")


@dataclasses.dataclass(frozen=True)
class CodeFile:
    """A file as evaluation sees it."""

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


def read_files(folder: str, manifest: Manifest, split: str) -> Iterator[CodeFile]:
    """The files of one split (`train` or `heldout`) of a curated corpus, read one row group at a time.

    Raises:
        UserError: a part is missing or damaged.
    """
    for table in read_tables(folder, manifest, split, _COLUMNS):
        for row in table.select(_COLUMNS).to_pylist():
            yield CodeFile(row["repository"], row["path"], row["language"], row["content"])


def choose_files(
    files: Iterable[CodeFile], *, max_files: int, max_bytes: int, seed: int, max_file_bytes: int = 0
) -> list[CodeFile]:
    """The first files in a seeded random order until a budget is reached; 0 means no bound.

    Empty files are left out. A file longer than `max_file_bytes`, and the file that crosses `max_bytes`, is cut between
    two characters. The order is that of a keyed hash of repository and path, so the choice is the same in whatever
    order the files come, and no more than the budget and one file are ever held.
    """
    chosen: list[_Ranked] = []  # a heap, the last of the order at its root
    total = 0
    for file in files:
        file = _cut(file, max_file_bytes)
        if not file.text:
            continue
        heapq.heappush(chosen, _Ranked(rank(seed, file.repository, file.path), file))
        total += file.bytes
        # What follows a full budget never comes back: a new file can only move the end forward.
        while _dispensable(len(chosen), total, chosen[0].file.bytes, max_files, max_bytes):
            total -= heapq.heappop(chosen).file.bytes
    ordered = [ranked.file for ranked in sorted(chosen, reverse=True)]
    if max_bytes and total > max_bytes:
        ordered[-1] = _cut(ordered[-1], ordered[-1].bytes - (total - max_bytes))
    return [file for file in ordered if file.text]


def rank(seed: int, *parts: str | int) -> bytes:
    """A place in a seeded random order: a hash of the seed and of what is being ordered."""
    # The lengths keep ("a", "bc") apart from ("ab", "c") whatever characters the parts hold.
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
    """The file's start, at most so many bytes of it; whole characters only. 0 means the whole file."""
    if not max_bytes or len(file.text) * 4 <= max_bytes:
        return file
    encoded = file.text.encode()
    if len(encoded) <= max_bytes:
        return file
    # A cut inside a character leaves its first bytes behind: the only thing that `ignore` can drop here.
    return dataclasses.replace(file, text=encoded[:max_bytes].decode(errors="ignore"))
