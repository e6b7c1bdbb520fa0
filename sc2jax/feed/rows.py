"""Rows of one stream: its windows, with infilling at context level, packed."""

from collections.abc import Sequence

import numpy as np

from sc2jax.feed.config import FeedConfig
from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.packing import pack_row
from sc2jax.feed.streams import Stream
from sc2jax.text.config import FimConfig
from sc2jax.text.fim import transform_window
from sc2jax.text.tokenizer import Tokenizer

LOSSES = ("cut_tokens", "padding", "replaced_characters")
"""What infilling at context level costs: tokens that no longer fit into their row, padding in rows that became shorter,
and characters that the edge of a window had split."""


class Rows:
    """Makes the rows of a stream one after the other, and counts `LOSSES`."""

    def __init__(self, stream: Stream, tokenizer: Tokenizer, config: FeedConfig, fim: FimConfig, seed: int) -> None:
        self._stream, self._tokenizer, self._config, self._fim, self._seed = stream, tokenizer, config, fim, seed
        self._losses = [0] * len(LOSSES)

    def next_row(self) -> dict[str, np.ndarray]:
        """The features of the next row."""
        number = self._stream.windows
        window = self._stream.next_window()
        if self._fim.level == "context" and self._stream.infilled:
            window = self._transform(window, number)
        return pack_row(window, self._stream.row_length, self._config.cross_document_attention)

    def position(self) -> list[int]:
        """The losses so far, and the position of the stream."""
        return [*self._losses, *self._stream.position()]

    def seek(self, position: Sequence[int]) -> None:
        """Continues from a position that the rows of an equal stream had."""
        self._losses = list(position[: len(LOSSES)])
        self._stream.seek(position[len(LOSSES) :])

    def _transform(self, window: np.ndarray, number: int) -> np.ndarray:
        generator = keyed_generator("window", self._seed, self._stream.stream, number)
        transformed, replaced = transform_window(window, self._tokenizer, self._fim, generator)
        longer = len(transformed) - len(window)
        lost = (max(0, longer), max(0, -longer), replaced)
        self._losses = [before + now for before, now in zip(self._losses, lost, strict=True)]
        return transformed
