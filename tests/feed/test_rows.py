import numpy as np
import pytest
from sc2jax.feed.cache import CachedPart
from sc2jax.feed.streams import Source, Stream

from sc2jax.feed.config import FeedConfig
from sc2jax.feed.rows import LOSSES, Rows
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

ALWAYS = FimConfig(rate=1.0, file_rate=1.0)


class SameDocument:
    """One unit of one document, for ever: these tokens, however the tokenizer would have written them."""

    def __init__(self, ids: list[int]) -> None:
        self._part = CachedPart(np.array(ids, np.int32))
        self.left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return 1

    def unit(self, epoch: int, index: int) -> "SameDocument":  # noqa: ARG002
        return self

    def parts(self, document: int) -> list[CachedPart]:  # noqa: ARG002
        return [self._part]


def rows(ids: list[int], tokenizer: Tokenizer, fim: FimConfig = ALWAYS, length: int = 32) -> Rows:
    stream = Stream([Source("s", 1.0, SameDocument(ids))], 0, 1, 0, length)
    return Rows(stream, tokenizer, FeedConfig(), fim, 0)


def losses(made: Rows) -> dict[str, int]:
    return dict(zip(LOSSES, made.position(), strict=False))


def test_rows_that_become_shorter_are_padded_and_the_places_counted(tokenizer: Tokenizer) -> None:
    """Letter by letter, words take more tokens than when they are encoded anew."""
    letters = [
        token for letter in "def return self import yield value " * 30 for token in tokenizer.encode_text(letter)
    ]
    assert len(letters) > 2 * len(tokenizer.encode_text("def return self import yield value " * 30))
    made = rows(letters, tokenizer)
    found = [made.next_row() for _ in range(20)]
    padding = sum(int((row["targets"] == Special.FIM_PAD).sum()) for row in found)
    assert padding > 20
    assert losses(made) == {"cut_tokens": 0, "padding": padding, "replaced_characters": 0}
    assert all((row["weights"][row["targets"] == Special.FIM_PAD] == 0).all() for row in found)


def test_tails_that_do_not_fit_are_counted(tokenizer: Tokenizer) -> None:
    made = rows(tokenizer.encode_text("a b c d e f g h " * 100), tokenizer)
    for _ in range(10):
        made.next_row()
    # Three sentinels a row, and what the cuts add.
    assert losses(made)["cut_tokens"] >= 30
    assert losses(made)["padding"] == 0


@pytest.mark.parametrize("length", [31, 32, 33, 34])
def test_characters_that_the_edges_of_windows_cut_apart_are_counted(tokenizer: Tokenizer, length: int) -> None:
    """The snake has four bytes, each a token of its own, so that most edges cut one apart."""
    snakes = tokenizer.encode_text("\U0001f40d" * 200)
    assert len(snakes) == 800
    genuine = tokenizer.encode_text("\ufffd")
    made = rows(genuine + snakes, tokenizer, length=length)
    written = 0
    for _ in range(20):
        row = made.next_row()
        text = tokenizer.bytes_of([*row["tokens"].tolist(), int(row["targets"][-1])]).decode(errors="replace")
        written += text.count("\ufffd")
    # Tails are cut off after the counting: the greater part is still to be seen.
    assert written / 2 < losses(made)["replaced_characters"] <= 20 * 6
    plain = rows(genuine + snakes, tokenizer, FimConfig(level="off"), length)
    plain.next_row()
    assert losses(plain) == dict.fromkeys(LOSSES, 0)


def test_counts_go_on_after_a_restart(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_text("a b c d e f g h " * 100)
    made, again = rows(ids, tokenizer), rows(ids, tokenizer)
    for _ in range(7):
        made.next_row()
    again.seek(made.position())
    for _ in range(3):
        np.testing.assert_array_equal(made.next_row()["tokens"], again.next_row()["tokens"])
    assert again.position() == made.position()
