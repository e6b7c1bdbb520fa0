"""Resumable streams of tokens: the corpus is read by as many virtual streams as a batch has rows.

The units of a source form one endless sequence: epoch after epoch, each permuted by a key. Stream k of K takes the
elements k, k + K, k + 2K, ..., so that no stream is ever without a unit. Where a stream stands is a few integers; going
back there reads one unit and encodes one part of a document for each source.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.documents import Documents, DocumentUnit, Part
from sc2jax.feed.draws import KeyedPermutation, keyed_fraction, keyed_generator
from sc2jax.feed.units import report_skipped


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of documents, its share of the tokens, and how often it may be read (0: without end)."""

    name: str
    share: float
    documents: Documents
    max_epochs: int = 0
    skip_damaged: bool = False
    digest: str = ""  # of its dataset
    lost_parts: int = 0  # of its dataset, left out because they are damaged


@dataclasses.dataclass
class Position:
    """Where a stream stands in a source: before token `offset` of a part of a document."""

    units: int = 0  # finished ones, damaged ones included
    document: int = 0  # in the unit, in the epoch's order
    part: int = 0  # of the document
    offset: int = 0  # tokens of the part that were taken
    tokens: int = 0  # taken from this source, ever
    cut: int = 0  # documents whose rest was left out, ever
    damaged: int = 0  # units that could not be read, ever


POSITION_FIELDS = [field.name for field in dataclasses.fields(Position)]


class Reader:
    """Reads one source for one stream: `open` makes a document ready, of which tokens are then taken in turn."""

    def __init__(self, source: Source, stream: int, streams: int, seed: int) -> None:
        self._source, self._stream, self._streams, self._seed = source, stream, streams, seed
        self.position = Position()
        self._unit: DocumentUnit | None = None
        self._order: Sequence[int] = ()
        self._parts: Sequence[Part] = ()
        self._ids: np.ndarray | None = None
        self._size = 0  # of the document at hand
        self._phase = keyed_fraction("phase", seed, source.name, stream)

    def open(self) -> bool:
        """Makes sure that there is a document to take from; False if the source was read as often as it may be."""
        if self.exhausted:
            return False
        while self._unit is None:
            if not self._open_unit():
                return False
        if not self._parts:
            at = self.position
            self._parts = self._unit.parts(self._order[at.document])
            self._size = sum(part.size for part in self._parts)
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the source was read as often as it may be."""
        return 0 < self._source.max_epochs <= self._place() // len(self._source.documents)

    def patience(self, share: float) -> float:
        """By how many tokens the source has to be behind its share for its next document to be taken.

        Were it always taken as soon as the source is behind, hundreds of streams would begin with the same source, and
        later be ahead by half of its documents' length together. So a source with a share of a quarter begins at once
        in a quarter of the streams, after one document's length in the next quarter, and so on: at any time a quarter
        of them is in one of its documents.
        """
        return math.floor(self._phase / share) * share * self._size

    def tokens(self) -> np.ndarray:
        """The tokens from the position to the end of its part, at least one."""
        if self._ids is None:
            self.open()
            self._ids = self._parts[self.position.part].ids()
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
        self._next_document()
        return True

    def cut(self) -> None:
        """Leaves out the rest of the document."""
        self.position.cut += 1
        self._next_document()

    def seek(self, position: Position) -> None:
        """Goes to a position that another reader of this source and stream had."""
        self.position = position
        self._unit, self._parts, self._ids = None, (), None

    def _place(self) -> int:
        return self._stream + self.position.units * self._streams

    def _open_unit(self) -> bool:
        """Reads the unit at the position, or the next one that is not damaged; False if there is none to be read."""
        source = self._source
        count = len(source.documents)
        for attempt in range(count):
            if self.exhausted:
                return False
            epoch, step = divmod(self._place(), count)
            index = _unit_order(self._seed, source.name, epoch, count)[step]
            try:
                self._unit = source.documents.unit(epoch, index)
            except UserError as error:
                if not source.skip_damaged or attempt == count - 1:
                    raise
                report_skipped(error)
                self.position.damaged += 1
                self._next_unit()
                continue
            draws = keyed_generator("documents", self._seed, source.name, epoch, index)
            self._order = draws.permutation(len(self._unit)).tolist()
            return True
        return False

    def _next_document(self) -> None:
        self._parts, self._ids = (), None
        at = self.position
        at.document, at.part, at.offset = at.document + 1, 0, 0
        if at.document == len(self._order):
            self._next_unit()

    def _next_unit(self) -> None:
        self._unit = None
        self.position.units, self.position.document = self.position.units + 1, 0


class Stream:
    """Windows of tokens from a mixture of sources, without end.

    A document is taken whole before the next one; that comes from the source whose tokens are furthest behind its
    share among those that may still be read. Windows follow one another without gap: each begins with the last token of
    the one before, which was only predicted there. With `cut_documents` a window begins with a document instead, and
    what is left of the last one is left out.

    Raises:
        UserError: every source was read as often as it may be.
    """

    FIELDS = ("windows", "current")
    """What a position begins with; the positions in the sources follow."""

    def __init__(
        self,
        sources: Sequence[Source],
        stream: int,
        streams: int,
        seed: int,
        row_length: int,
        *,
        cut_documents: bool = False,
    ) -> None:
        self.stream = stream
        self.windows = 0  # handed out so far
        self._sources, self._row_length, self._cut_documents = sources, row_length, cut_documents
        self._readers = [Reader(source, stream, streams, seed) for source in sources]
        self._current = -1  # the source of the document at hand; none yet

    def next_window(self) -> np.ndarray:
        """The next `row_length` tokens and the one after them."""
        if self._current < 0:
            self._current = self._furthest_behind()
        parts = []
        missing = self._row_length
        ended = True
        while missing:
            reader = self._readers[self._current]
            taken = reader.tokens()[:missing]
            parts.append(taken)
            missing -= len(taken)
            ended = reader.advance(len(taken))
            if ended:
                self._current = self._furthest_behind()
        parts.append(self._readers[self._current].tokens()[:1])
        if self._cut_documents and not ended:
            self._readers[self._current].cut()
            self._current = self._furthest_behind()
        self.windows += 1
        return np.concatenate(parts)

    def position(self) -> list[int]:
        """Where the stream stands: the windows handed out, the source at hand, and the position in each source."""
        positions = [value for reader in self._readers for value in dataclasses.astuple(reader.position)]
        return [self.windows, self._current, *positions]

    def seek(self, position: Sequence[int]) -> None:
        """Goes to where an equal stream stood; nothing is read until the next window is asked for."""
        self.windows, self._current, *positions = map(int, position)
        size = len(POSITION_FIELDS)
        for index, reader in enumerate(self._readers):
            reader.seek(Position(*positions[index * size : (index + 1) * size]))

    def _furthest_behind(self) -> int:
        """The source of the next document.

        Behind which share is worked out among the sources that can still be read: one that cannot leaves its share to
        the others.
        """
        readable = [index for index, reader in enumerate(self._readers) if reader.open()]
        if not readable:
            raise UserError(_exhausted(self._sources))
        total = math.fsum(self._sources[index].share for index in readable)
        taken = sum(self._readers[index].position.tokens for index in readable)

        def behind(index: int) -> float:
            share, reader = self._sources[index].share / total, self._readers[index]
            return share * taken - reader.position.tokens - reader.patience(share)

        return max(readable, key=behind)


def _exhausted(sources: Sequence[Source]) -> str:
    often = ", ".join(f"{source.name} {source.max_epochs} times" for source in sources)
    return (
        f"there is nothing left to train on: {often} is as often as the mixture lets its sources be read; raise "
        "max_epochs there (0: without end), train for fewer steps, add to the corpus, or, if this is the first step, "
        "use fewer rows and streams than the corpus has row groups"
    )


@functools.lru_cache(maxsize=256)
def _unit_order(seed: int, source: str, epoch: int, units: int) -> KeyedPermutation:
    """The order in which an epoch reads a source's units."""
    return KeyedPermutation(units, "units", seed, source, epoch)
