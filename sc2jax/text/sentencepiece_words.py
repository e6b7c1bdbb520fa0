"""SentencePiece word by word: the same ids in a fraction of the time, since most words of a corpus are frequent ones.

The library looks for merges in a text as a whole and remembers nothing. Where no token of the model goes on from one
character to the next, nothing is ever merged across that place; so a text may be cut there, and each part is encoded by
itself and remembered.
"""

import functools
import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sentencepiece

# A word is letters, or other characters, with the spaces before them; all of ASCII, else it goes on to the next space.
# What was matched is not given back (`++`), or a word would be cut before the letter that precedes an accented one.
_WORD = re.compile(r" *(?:[A-Za-z]++(?![^\x00-\x7f])|[^A-Za-z \x80-\U0010ffff]++(?![^\x00-\x7f])|[^ ]+)| +")
_LONGEST_KEPT = 64
_KEPT = 2**17  # twice the words of 8 MB of Python; some 30 MB
SPACE_SYMBOL = "\u2581"
"""How SentencePiece writes a space."""


def word_encoder(processor: "sentencepiece.SentencePieceProcessor") -> Callable[[str], list[int]]:
    """The processor's `encode`, by words if its tokens allow it."""
    encode = processor.encode
    if not _separable(processor):
        return encode
    remembered = functools.lru_cache(_KEPT)(encode)

    def encode_words(text: str) -> list[int]:
        words = _WORD.findall(text)
        return list(
            itertools.chain.from_iterable(
                remembered(word) if len(word) <= _LONGEST_KEPT else encode(word) for word in words
            )
        )

    return encode_words


def _separable(processor: "sentencepiece.SentencePieceProcessor") -> bool:
    """Whether a text's ids are those of its words one after the other.

    No token may hold a space behind something else, nor a letter of ASCII beside another of its characters. The model
    must neither add a space before a text nor leave any out, and have a token for each byte: two unknown characters in
    a row would be one token.
    """
    tokens = range(processor.vocab_size())
    if sum(processor.is_byte(token) for token in tokens) < 256:
        return False
    for token in tokens:
        if processor.is_control(token) or processor.is_unknown(token) or processor.is_byte(token):
            continue
        if any(itertools.starmap(_is_cut, itertools.pairwise(processor.id_to_piece(token)))):
            return False
    encode = processor.encode
    return encode("a") != encode(" a") and all(
        encode(word + spaced) == encode(word) + encode(spaced)
        for word in ("a", "  a")
        for spaced in (" a", "  ", "  1")
    )


def _is_cut(before: str, after: str) -> bool:
    """Whether a word may end between two characters."""
    if SPACE_SYMBOL in (before, after):
        return before != SPACE_SYMBOL
    return before.isascii() and after.isascii() and before.isalpha() != after.isalpha()
