"""Resumable streams of tokens: the corpus is read by as many virtual streams as a batch has rows.

The units of a source form one endless sequence: epoch after epoch, each permuted by a key. Stream k of K takes the
elements k, k + K, k + 2K, ..., so that no stream is ever without a unit. Where a stream stands is a few integers; going
back there reads one unit and encodes one file for each source.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sc2jax.feed.draws import keyed_generator
from sc2jax.feed.units import Repository, Unit
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer


class DocumentFormat(Protocol):
    """What a stream needs of a Task's preprocessor."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the documents."""
        ...

    def document(self, example: Repository, *key: int) -> list[Piece]:
        """The document of an example, with the draws of the key."""
        ...


class UnitSequence(Protocol):
    """What a stream needs of a source: units by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Unit: ...


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of documents, and its share of the tokens."""

    name: str
    share: float
    units: UnitSequence
    format: DocumentFormat


@dataclasses.dataclass
class Position:
    """Where a stream stands in a source: before token `offset` of a part of a document."""

    units: int = 0  # finished ones
    document: int = 0  # in the unit, in the epoch's order
    part: int = 0  # of the document: a file, or what stands before the first
    offset: int = 0  # tokens of the part that were taken
    tokens: int = 0  # taken from this source, ever


POSITION_FIELDS = len(dataclasses.fields(Position))


class Reader:
    """Reads one source for one stream."""

    def __init__(self, source: Source, stream: int, streams: int, seed: int) -> None:
        self._source, self._stream, self._streams, self._seed = source, stream, streams, seed
        self.position = Position()
        self._unit: Unit | None = None
        self._order: list[int] = []
        self._parts: list[list[Piece]] = []
        self._ids: np.ndarray | None = None

    def tokens(self) -> np.ndarray:
        """The tokens from the position to the end of its part, at least one."""
        if self._ids is None:
            self._load()
        assert self._ids is not None
        return self._ids[self.position.offset :]

    def advance(self, count: int) -> bool:
        """Takes `count` of the tokens; whether that was the end of a document."""
        at = self.position
        at.offset += count
        at.tokens += count
        assert self._ids is not None
        if at.offset < len(self._ids):
            return False
        self._ids = None
        at.part, at.offset = at.part + 1, 0
        if at.part < len(self._parts):
            return False
        self._parts = []
        at.document, at.part = at.document + 1, 0
        if at.document == len(self._order):
            self._unit = None
            at.units, at.document = at.units + 1, 0
        return True

    def seek(self, position: Position) -> None:
        """Goes to a position that another reader of this source and stream had."""
        self.position = position
        self._unit, self._parts, self._ids = None, [], None

    def _load(self) -> None:
        at, source = self.position, self._source
        place = self._stream + at.units * self._streams
        epoch, step = divmod(place, len(source.units))
        if self._unit is None:
            index = _unit_order(self._seed, source.name, epoch, len(source.units))[step]
            self._unit = source.units[int(index)]
            draws = keyed_generator("documents", self._seed, source.name, epoch, int(index))
            self._order = draws.permutation(len(self._unit)).tolist()
        if not self._parts:
            example = self._unit[self._order[at.document]]
            self._parts = split_parts(source.format.document(example, self._seed, epoch))
        self._ids = np.array(source.format.tokenizer.encode(self._parts[at.part]), np.int32)


class Stream:
    """Windows of tokens from a mixture of sources, without end.

    A document is taken whole before the next one; that comes from the source whose tokens are furthest behind its
    share. Windows follow one another without gap: each begins with the last token of the one before, which was only
    predicted there.
    """

    def __init__(self, sources: Sequence[Source], stream: int, streams: int, seed: int, row_length: int) -> None:
        self.stream = stream
        self.windows = 0  # handed out so far
        self._row_length = row_length
        total = sum(source.share for source in sources)
        self._shares = [source.share / total for source in sources]
        self._readers = [Reader(source, stream, streams, seed) for source in sources]
        self._current = self._furthest_behind()

    def next_window(self) -> np.ndarray:
        """The next `row_length` tokens and the one after them."""
        parts = []
        missing = self._row_length
        while missing:
            reader = self._readers[self._current]
            taken = reader.tokens()[:missing]
            parts.append(taken)
            missing -= len(taken)
            if reader.advance(len(taken)):
                self._current = self._furthest_behind()
        parts.append(self._readers[self._current].tokens()[:1])
        self.windows += 1
        return np.concatenate(parts)

    def position(self) -> list[int]:
        """Where the stream stands: the windows handed out, the source at hand, and the position in each source."""
        positions = [value for reader in self._readers for value in dataclasses.astuple(reader.position)]
        return [self.windows, self._current, *positions]

    def seek(self, position: Sequence[int]) -> None:
        """Goes to where an equal stream stood; nothing is read until the next window is asked for."""
        self.windows, self._current, *positions = map(int, position)
        for index, reader in enumerate(self._readers):
            reader.seek(Position(*positions[index * POSITION_FIELDS : (index + 1) * POSITION_FIELDS]))

    def _furthest_behind(self) -> int:
        taken = [reader.position.tokens for reader in self._readers]
        total = sum(taken)
        behind = [share * total - tokens for share, tokens in zip(self._shares, taken, strict=True)]
        return behind.index(max(behind))


def split_parts(document: Sequence[Piece]) -> list[list[Piece]]:
    """A document in parts that can be encoded one at a time: each file with the `<file_sep>` before it.

    Pieces are encoded by themselves, so the parts' tokens, joined, are the document's.
    """
    starts = [index for index, piece in enumerate(document) if piece == Special.FILE_SEP]
    bounds = sorted({0, *starts, len(document)})
    return [list(document[start:stop]) for start, stop in itertools.pairwise(bounds)]


@functools.lru_cache(maxsize=64)
def _unit_order(seed: int, source: str, epoch: int, units: int) -> np.ndarray:
    """The order in which an epoch reads a source's units."""
    return keyed_generator("units", seed, source, epoch).permutation(units)
