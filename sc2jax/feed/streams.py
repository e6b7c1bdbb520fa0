"""Resumable streams of tokens: a fixed number of virtual streams reads the corpus, at least one per row of a batch.

The units of a source form one endless sequence, epoch after epoch, each in a random order of its own. Stream k of K
takes the elements k, k + K, k + 2K, ..., so no stream ever runs out of units. A stream's position is a few integers; to
resume there, at most one unit is read and one part of a document is encoded for each source.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.documents import Documents, DocumentUnit, Part
from sc2jax.feed.keyed_random import KeyedPermutation, keyed_generator
from sc2jax.feed.mixer import scheduled_source
from sc2jax.feed.units import report_skipped


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of documents, its share of the tokens, and how often it may be read (0: no limit)."""

    name: str
    share: float
    documents: Documents
    max_epochs: int = 0
    skip_damaged: bool = False
    digest: str = ""  # of its dataset
    infilled: bool = True  # whether fill-in-the-middle is applied to its windows


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
    # Records left out of finished units, ever, for each of the reasons in `records/faults.py`.
    no_value: int = 0
    unknown_value: int = 0
    incomplete: int = 0
    not_text: int = 0
    changed: int = 0


POSITION_FIELDS = [field.name for field in dataclasses.fields(Position)]


class Reader:
    """Reads one source for one stream: `open` prepares a document, whose tokens are then taken bit by bit."""

    def __init__(self, source: Source, stream: int, streams: int, seed: int) -> None:
        self.source, self._stream, self._streams, self._seed = source, stream, streams, seed
        self.position = Position()
        self._unit: DocumentUnit | None = None
        self._order: Sequence[int] = ()
        self._parts: Sequence[Part] = ()
        self._ids: np.ndarray | None = None

    def open(self) -> bool:
        """Makes sure that there is a document to read; False if the source was read as often as it may be."""
        if self.exhausted:
            return False
        while self._unit is None:
            if not self._open_unit():
                return False
        if not self._parts:
            self._parts = self._unit.parts(self._order[self.position.document])
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the source was read as often as it may be."""
        return 0 < self.source.max_epochs <= self._place() // len(self.source.documents)

    def tokens(self) -> np.ndarray:
        """The tokens from the position to the end of its part, at least one."""
        if self._ids is None:
            self.open()
            self._ids = self._parts[self.position.part].ids()
        return self._ids[self.position.offset :]

    def advance(self, count: int) -> bool:
        """Takes `count` tokens; returns whether a document ended with them."""
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
        """Continues from a position that another reader of this source and stream had."""
        self.position = position
        self._unit, self._parts, self._ids = None, (), None

    def _place(self) -> int:
        return self._stream + self.position.units * self._streams

    def _open_unit(self) -> bool:
        """Reads the unit at the position, or the next one that is not damaged; False if there is none to read."""
        source = self.source
        count = len(source.documents)
        for attempt in range(count):
            if self.exhausted:
                return False
            epoch, step = divmod(self._place(), count)
            index = _unit_order(self._seed, source.name, epoch, count)[step]
            try:
                self._unit = source.documents.unit(epoch, index)
            except UserError as error:
                if not source.skip_damaged:
                    raise
                if attempt == count - 1:
                    raise UserError(f"nothing of the source {source.name} can be read: {error}") from error
                report_skipped(error)
                self.position.damaged += 1
                self._next_unit()
                continue
            generator = keyed_generator("documents", self._seed, source.name, epoch, index)
            self._order = generator.permutation(len(self._unit)).tolist()
            return True
        return False

    def _next_document(self) -> None:
        self._parts, self._ids = (), None
        at = self.position
        at.document, at.part, at.offset = at.document + 1, 0, 0
        if at.document == len(self._order):
            self._next_unit()

    def _next_unit(self) -> None:
        if self._unit is not None:
            for reason, count in self._unit.left_out.items():
                setattr(self.position, reason, getattr(self.position, reason) + count)
        self._unit = None
        self.position.units, self.position.document = self.position.units + 1, 0


class Stream:
    """Endless windows of tokens from a mixture of sources.

    A window is filled from the source whose turn it is among all windows of all streams (`mixer.py`); only if that
    source ends within the window, read as often as it may be, does another one fill the rest. Windows from the same
    source follow each other without a gap: each begins with the last token of the one before, which was only a target
    there. With `cut_documents` every window begins with a new document instead; the rest of the last one is left out.

    Raises:
        UserError: every source was read as often as it may be.
    """

    FIELDS = ("windows",)
    """The first fields of a position; the positions in the sources follow."""

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
        self.stream, self.row_length = stream, row_length
        self.windows = 0  # returned so far
        self.infilled = False  # whether the source that the last window began with takes part in fill-in-the-middle
        self._sources, self._cut_documents = sources, cut_documents
        self._streams, self._seed = streams, seed
        self._readers = [Reader(source, stream, streams, seed) for source in sources]

    def next_window(self) -> np.ndarray:
        """The next `row_length` tokens and the one after them."""
        reader = self._next_reader()
        self.infilled = reader.source.infilled
        parts = []
        missing = self.row_length
        ended = True
        while missing:
            taken = reader.tokens()[:missing]
            parts.append(taken)
            missing -= len(taken)
            ended = reader.advance(len(taken))
            if ended and not reader.open():
                reader = self._next_reader()
        parts.append(reader.tokens()[:1])
        if self._cut_documents and not ended:
            reader.cut()
        self.windows += 1
        return np.concatenate(parts)

    def position(self) -> list[int]:
        """The stream's position: the windows returned so far, and the position in each source."""
        positions = [value for reader in self._readers for value in dataclasses.astuple(reader.position)]
        return [self.windows, *positions]

    def seek(self, position: Sequence[int]) -> None:
        """Continues from a position of an equal stream; nothing is read before the next window is."""
        self.windows, *positions = map(int, position)
        size = len(POSITION_FIELDS)
        for index, reader in enumerate(self._readers):
            reader.seek(Position(*positions[index * size : (index + 1) * size]))

    def _next_reader(self) -> Reader:
        """The reader of the source whose turn it is, with a document to read.

        The others take over the share of a source that was read as often as it may be.
        """
        while not all(reader.exhausted for reader in self._readers):
            shares = tuple(
                0.0 if reader.exhausted else float(source.share)
                for source, reader in zip(self._sources, self._readers, strict=True)
            )
            reader = self._readers[scheduled_source(shares, self._streams, self._seed, self.stream, self.windows)]
            if reader.open():
                return reader
        raise UserError(_exhausted(self._sources))


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
