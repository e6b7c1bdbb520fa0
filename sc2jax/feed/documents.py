"""Documents of a source: from the records of a row group to text in their format, and to tokens."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.units import Unit
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.fim import transform_document
from sc2jax.text.formats import FORMATS, is_infilled
from sc2jax.text.special_tokens import Piece
from sc2jax.text.tokenizer import Tokenizer


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


def rendering_key(seed: int, source: str, rendering: int, unit: int) -> tuple[int | str, ...]:
    """What tells the choices of a row group in one rendering from all others."""
    return seed, source, rendering, unit


def unit_tokens(
    unit: Unit, writer: DocumentWriter, tokenizer: Tokenizer, key: tuple[int | str, ...]
) -> Iterator[np.ndarray]:
    """The tokens of a row group's documents, int32, one document after the other in an order of chance.

    Args:
        unit: the row group.
        writer: writes its documents.
        tokenizer: encodes them.
        key: `rendering_key`.
    """
    for document in keyed_generator("documents", *key).permutation(len(unit)).tolist():
        yield tokenizer.encode_array(writer.pieces(unit[document], *key, document))
