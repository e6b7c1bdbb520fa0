"""Documents of a source: read, written in their format, and encoded part by part as tokens are needed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.units import Unit, Units
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.fim import transform_document
from sc2jax.text.formats import FORMATS, is_infilled
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer

# Long documents are encoded in parts of about this size, so that resuming inside one encodes a single part.
_PART_CHARACTERS = 2**15


class Part(Protocol):
    """Consecutive tokens of a document."""

    def ids(self) -> np.ndarray:
        """The tokens, int32, at least one."""
        ...


class DocumentUnit(Protocol):
    """The documents of a unit of reading; each has at least one part."""

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many records are in no document, for each of the reasons in `records/faults.py`."""
        ...

    def __len__(self) -> int: ...
    def parts(self, document: int) -> Sequence[Part]:
        """The parts of one of the documents."""
        ...


class Documents(Protocol):
    """What a stream needs of a source: units by epoch and number."""

    def __len__(self) -> int:
        """Units in an epoch."""
        ...

    def unit(self, epoch: int, index: int) -> DocumentUnit:
        """Reads a unit."""
        ...


@dataclasses.dataclass(frozen=True)
class DocumentWriter:
    """From the records of a document to its pieces."""

    format: str  # its name
    config: FormatConfig
    fim: FimConfig

    def pieces(self, rows: Sequence[Mapping[str, Any]], *key: int | str) -> list[Piece]:
        """A document in its format, infilled if that is done on documents; all random choices follow from the key."""
        pieces = FORMATS[self.format].render(rows, keyed_generator("document", *key), self.config)
        if self.fim.level == "document" and is_infilled(self.format, self.fim):
            pieces = transform_document(pieces, self.fim, keyed_generator("fim", *key))
        return pieces


@dataclasses.dataclass(frozen=True)
class WrittenDocuments:
    """The documents of a dataset, written anew in each epoch.

    A document's random choices depend on the seed, the source's name, the epoch and its place in the dataset.
    """

    name: str
    units: Units
    writer: DocumentWriter
    tokenizer: Tokenizer
    seed: int

    def __len__(self) -> int:
        return len(self.units)

    def unit(self, epoch: int, index: int) -> "WrittenUnit":
        """Reads a unit; its documents are written when they are needed."""
        return WrittenUnit(self, self.units[index], (self.seed, self.name, epoch, index))


@dataclasses.dataclass(frozen=True)
class WrittenUnit:
    """One unit of the documents of an epoch."""

    documents: WrittenDocuments
    unit: Unit
    key: tuple[int | str, ...]

    @property
    def left_out(self) -> Mapping[str, int]:
        """What was left out of the row group."""
        return self.unit.left_out

    def __len__(self) -> int:
        return len(self.unit)

    def parts(self, document: int) -> list["TextPart"]:
        """A document in parts of several thousand tokens."""
        pieces = self.documents.writer.pieces(self.unit[document], *self.key, document)
        return [TextPart(part, self.documents.tokenizer) for part in split_parts(pieces)]


@dataclasses.dataclass(frozen=True)
class TextPart:
    """Pieces that are encoded when their tokens are needed."""

    pieces: list[Piece]
    tokenizer: Tokenizer

    def ids(self) -> np.ndarray:
        """The tokens."""
        return np.array(self.tokenizer.encode(self.pieces), np.int32)


def split_parts(document: Sequence[Piece], filled: int = _PART_CHARACTERS) -> list[list[Piece]]:
    """A document in parts that can be encoded one at a time.

    Each piece is encoded on its own, so the parts' tokens, joined, are the document's. A part ends with the piece that
    fills it; no piece is divided, however long.
    """
    parts: list[list[Piece]] = [[]]
    room = filled
    for piece in document:
        if room <= 0:
            parts.append([])
            room = filled
        parts[-1].append(piece)
        room -= characters([piece])
    return parts


def characters(pieces: Sequence[Piece]) -> int:
    """The length of a document's text; a special token counts as one character."""
    return sum(1 if isinstance(piece, Special) else len(piece) for piece in pieces)
