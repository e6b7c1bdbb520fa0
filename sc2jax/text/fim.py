"""Fill-in-the-middle: a file is cut in three at random characters and its middle is moved to the end.

Repository-context file-level infilling (StarCoder2 paper, section 5.1): a repository is chosen with one draw, each file
of a chosen one with another; the part that names the repository stays as it is. A file's path belongs to its text, so
a cut may fall inside of it. `transform_document` works on a document as pieces, `transform_window` on a window of
tokens that may begin and end in the middle of a file, as StarCoder2's training does; both take the same draws in the
same order. Leaving the middle out gives the prompt.

The reference implementation drops an empty fragment together with the `<file_sep>` before it, by which a document
without metadata loses its first token. Here an empty fragment is kept as it is, and no draw is spent on it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer

SENTINELS = frozenset({Special.FIM_PREFIX, Special.FIM_MIDDLE, Special.FIM_SUFFIX, Special.FIM_PAD})

Item = TypeVar("Item", Piece, int)


def transform_document(pieces: Sequence[Piece], config: FimConfig, rng: np.random.Generator) -> list[Piece]:
    """Moves the middles of a document's randomly chosen files to their ends."""
    return _transform(pieces, config, rng, lambda fragment: _permute(fragment, config, rng))


def transform_window(
    ids: Sequence[int], tokenizer: Tokenizer, config: FimConfig, rng: np.random.Generator
) -> list[int]:
    """Moves the middles of a window's randomly chosen files to their ends.

    The parts are encoded anew, each by itself, so the result is usually some tokens longer than the window: the caller
    cuts its tail. A character that the window's edge had cut apart becomes U+FFFD in a transformed file. Files that
    are not chosen keep their tokens.
    """
    return _transform(
        ids, config, rng, lambda fragment: tokenizer.encode(_permute(tokenizer.pieces(fragment), config, rng))
    )


def infill_prompt(prefix: str, suffix: str, *, suffix_first: bool = False) -> list[Piece]:
    """A transformed file without its middle: what the model continues with the middle."""
    return arrange([prefix], [], [suffix], suffix_first=suffix_first)


def arrange(
    prefix: Sequence[Piece], middle: Sequence[Piece], suffix: Sequence[Piece], *, suffix_first: bool
) -> list[Piece]:
    """The parts of a file in training order: prefix, suffix, middle; or suffix, then prefix and middle in one go.

    The latter is the second variant of suffix-prefix-middle in "Efficient Training of Language Models to Fill in the
    Middle" (arXiv 2207.14255): nothing stands between prefix and middle, though each is encoded by itself.
    """
    if suffix_first:
        ordered = [Special.FIM_PREFIX, Special.FIM_SUFFIX, *suffix, Special.FIM_MIDDLE, *prefix, *middle]
    else:
        ordered = [Special.FIM_PREFIX, *prefix, Special.FIM_SUFFIX, *suffix, Special.FIM_MIDDLE, *middle]
    return [piece for piece in ordered if piece != ""]


def _transform(
    items: Sequence[Item],
    config: FimConfig,
    rng: np.random.Generator,
    permute: Callable[[Sequence[Item]], Sequence[Item]],
) -> list[Item]:
    """Applies the draws to every document in `items`, and `permute` to the fragments chosen."""
    transformed: list[Item] = []
    for document, end in _split(items, Special.END_OF_TEXT):
        fragments = list(_split(document, Special.FILE_SEP))
        rate = config.rate
        if len(fragments) > 1:
            rate = config.file_rate if rng.random() < config.rate else 0.0
        for fragment, separator in fragments:
            # The draw is spent on the repository's name too, as in the reference implementation.
            if rate > 0 and fragment and rng.random() < rate and fragment[0] != Special.REPO_NAME:
                transformed.extend(permute(fragment))
            else:
                transformed.extend(fragment)
            transformed.extend(separator)
        transformed.extend(end)
    return transformed


def _split(items: Sequence[Item], separator: Special) -> Iterator[tuple[Sequence[Item], Sequence[Item]]]:
    """The parts of `items` between separators, each with the separator after it: none after the last."""
    start = 0
    for index, item in enumerate(items):
        if item == separator:
            yield items[start:index], items[index : index + 1]
            start = index + 1
    yield items[start:], items[:0]


def _permute(fragment: Sequence[Piece], config: FimConfig, rng: np.random.Generator) -> list[Piece]:
    """Cuts a fragment at two characters drawn independently from all boundaries, its ends included."""
    length = sum(1 if isinstance(piece, Special) else len(piece) for piece in fragment)
    start, stop = sorted(rng.integers(0, length, size=2, endpoint=True).tolist())
    suffix_first = rng.random() < config.spm_rate
    return arrange(
        _slice(fragment, 0, start),
        _slice(fragment, start, stop),
        _slice(fragment, stop, length),
        suffix_first=suffix_first,
    )


def _slice(pieces: Sequence[Piece], start: int, stop: int) -> list[Piece]:
    """The characters from `start` to `stop`; a special token counts as one character."""
    part: list[Piece] = []
    offset = 0
    for piece in pieces:
        length = 1 if isinstance(piece, Special) else len(piece)
        begin, end = max(start - offset, 0), min(stop - offset, length)
        if begin < end:
            part.append(piece if isinstance(piece, Special) else piece[begin:end])
        offset += length
    return part
