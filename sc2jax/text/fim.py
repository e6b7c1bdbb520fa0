"""Fill-in-the-middle: a file is cut into three parts at random characters, and its middle is moved to the end.

Repository-context file-level infilling (StarCoder2 paper, section 5.1): one random number decides whether a repository
is chosen, and another for each of its files whether that file is transformed; the part that names the repository is
left alone. A file's path belongs to its text, so a cut may fall inside it. `transform_document` works on a document as
pieces, `transform_window` on a window of tokens that may begin and end in the middle of a file, as in StarCoder2's
training; both use the same random numbers in the same order. A transformed file without its middle is a prompt.

The random numbers, in order: for each document with files, whether it is chosen; then for each of its files (or for the
whole of a document without files) whether it is transformed, whether its middle is a line if some are to be, where it
is cut, and whether its suffix comes first. A special token inside a fragment, as in an issue, counts as one character
and is never cut.

What the reference implementations (bigcode's Megatron-LM, NeMo) do differently is an option of `FimConfig`. They can
also shorten the suffix of each fragment, or pad it, to the fragment's former length; none of them does so for
StarCoder2. `FimConfig.whole_middles` shortens it as far as the window needs, so that a small window, too, shows where
a middle ends.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer

SENTINELS = frozenset({Special.FIM_PREFIX, Special.FIM_MIDDLE, Special.FIM_SUFFIX, Special.FIM_PAD})

Chunk = TypeVar("Chunk", Sequence[Piece], np.ndarray)
Token = TypeVar("Token", Piece, int)

_REPLACEMENT = "\ufffd"
_MARKS = 4  # the three sentinels of a transformed file, and the special token after it


class TransformedWindow(NamedTuple):
    """A window after infilling.

    `replaced` counts the U+FFFD that now stand for parts of characters that were split, and `given_up` the tokens of
    suffixes and prefixes that were left out so that middles fit.
    """

    ids: np.ndarray
    replaced: int = 0
    given_up: int = 0


class Parts(NamedTuple, Generic[Token]):
    """A fragment cut in three, as pieces or as tokens; `suffix_first` is the order to write them in."""

    prefix: Sequence[Token]
    middle: Sequence[Token]
    suffix: Sequence[Token]
    suffix_first: bool


def transform_document(pieces: Sequence[Piece], config: FimConfig, rng: np.random.Generator) -> list[Piece]:
    """Moves the middles of a document's randomly chosen files to their ends."""

    def places(part: Sequence[Piece], separator: Special) -> list[int]:
        return [index for index, piece in enumerate(part) if piece == separator]

    def permute(fragment: Sequence[Piece], _: bool) -> Sequence[Piece]:
        prefix, middle, suffix, suffix_first = _cut(fragment, config, rng)
        return arrange(prefix, middle, suffix, suffix_first=suffix_first)

    return list(itertools.chain.from_iterable(_transform(pieces, config, rng, places, permute)))


def transform_window(
    window: np.ndarray, tokenizer: Tokenizer, config: FimConfig, rng: np.random.Generator
) -> TransformedWindow:
    """Moves the middles of a window's randomly chosen files to their ends.

    Each part is encoded again on its own, so the result is usually a few tokens longer or shorter than the window; the
    caller cuts or pads it. In a transformed file, a character that the window's edge had split becomes U+FFFD. Files
    that are not chosen keep their tokens.
    """
    chunks: list[np.ndarray] = []
    room, replaced, given_up = len(window), 0, 0

    def permute(fragment: np.ndarray, is_closed: bool) -> np.ndarray:
        nonlocal replaced, given_up
        pieces = tokenizer.pieces(fragment)
        prefix, middle, suffix, suffix_first = _cut(pieces, config, rng)
        parts = Parts(tokenizer.encode(prefix), tokenizer.encode(middle), tokenizer.encode(suffix), suffix_first)
        fitted = _fit(parts, room, is_closed) if config.whole_middles else parts
        if fitted is None:
            return fragment
        given_up += _tokens(parts) - _tokens(fitted)
        found = sum(piece.count(_REPLACEMENT) for piece in pieces if not isinstance(piece, Special))
        if found:  # some may have been there before
            replaced += found - tokenizer.bytes_of(fragment.tolist()).count(_REPLACEMENT.encode())
        ids = arrange(fitted.prefix, fitted.middle, fitted.suffix, suffix_first=suffix_first)
        stop = [] if is_closed or not config.whole_middles else [Special.END_OF_TEXT]
        return np.array([*ids, *stop], np.int32)

    def places(part: np.ndarray, separator: Special) -> list[int]:
        return (part == int(separator)).nonzero()[0].tolist()

    # Chunk by chunk: `permute` is asked for the next one when `room` is what those before it have left.
    for chunk in _transform(np.asarray(window, np.int32), config, rng, places, permute):
        chunks.append(chunk)
        room -= len(chunk)
    return TransformedWindow(np.concatenate(chunks), replaced, given_up)


def infill_prompt(prefix: str, suffix: str, *, suffix_first: bool = False) -> list[Piece]:
    """A transformed file without its middle, which the model then generates."""
    return arrange([prefix], [], [suffix], suffix_first=suffix_first)


def arrange(
    prefix: Sequence[Token], middle: Sequence[Token], suffix: Sequence[Token], *, suffix_first: bool
) -> list[Token | Special]:
    """The parts of a file in training order: prefix, suffix, middle; or suffix, then prefix and middle as one.

    The latter is the second variant of suffix-prefix-middle in "Efficient Training of Language Models to Fill in the
    Middle" (arXiv 2207.14255): nothing stands between prefix and middle, but each is encoded on its own.
    """
    if suffix_first:
        ordered = [Special.FIM_PREFIX, Special.FIM_SUFFIX, *suffix, Special.FIM_MIDDLE, *prefix, *middle]
    else:
        ordered = [Special.FIM_PREFIX, *prefix, Special.FIM_SUFFIX, *suffix, Special.FIM_MIDDLE, *middle]
    return [piece for piece in ordered if piece != ""]


def _transform(
    items: Chunk,
    config: FimConfig,
    rng: np.random.Generator,
    places: Callable[[Chunk, Special], list[int]],
    permute: Callable[[Chunk, bool], Chunk],
) -> Iterator[Chunk]:
    """The fragments and separators of all documents in `items`, with `permute` applied to the chosen fragments.

    `permute` is also told whether a separator or an end of text follows the fragment in `items`.
    """
    for document, end in _split(items, places(items, Special.END_OF_TEXT)):
        if len(document) == 0 and len(end):
            if not config.drop_empty_documents:
                yield end
            continue
        separators = places(document, Special.FILE_SEP)
        rate, drop_empty = config.rate, config.drop_empty_documents
        if separators:
            rate, drop_empty = config.file_rate, config.drop_empty_files
            if rng.random() >= config.rate:
                yield document
                yield end
                continue
        for fragment, separator in _split(document, separators):
            # An empty fragment takes no random number; in the reference the last one does, and may be transformed.
            if len(fragment) == 0 and (len(separator) or not drop_empty):
                if not drop_empty:
                    yield separator
                continue
            # The repository's name takes a random number too, as in the reference.
            chosen = rng.random() < rate
            protected = config.protect_repository_name and len(fragment) and fragment[0] == Special.REPO_NAME
            is_closed = bool(len(separator) or len(end))
            yield permute(fragment, is_closed) if chosen and not protected else fragment
            yield separator
        yield end


def _split(items: Chunk, places: Sequence[int]) -> Iterator[tuple[Chunk, Chunk]]:
    """The parts of `items` between the separators at `places`, each with the one after it; the last has none."""
    start = 0
    for place in places:
        yield items[start:place], items[place : place + 1]
        start = place + 1
    yield items[start:], items[:0]


def _cut(fragment: Sequence[Piece], config: FimConfig, rng: np.random.Generator) -> Parts[Piece]:
    """Cuts a fragment in three, and draws the order of its parts."""
    start, stop = _middle(fragment, config, rng)
    return Parts(
        _slice(fragment, 0, start),
        _slice(fragment, start, stop),
        _slice(fragment, stop, _length(fragment)),
        suffix_first=bool(rng.random() < config.spm_rate),
    )


def _fit(parts: Parts[int], room: int, is_closed: bool) -> Parts[int] | None:
    """The parts without as many tokens as it takes for them, three sentinels and a stop to fit into `room` tokens.

    The suffix gives up its tail, as with `truncate_or_pad` in Fast-LLM and bigcode's Megatron-LM, and where nothing
    would be left of it, the prefix its head. None if the middle is too long for either, or if it goes on beyond the
    window: of a file that is not closed and has no suffix nobody knows where the middle ends.
    """
    if not is_closed and not parts.suffix:
        return None
    excess = _tokens(parts) + _MARKS - room
    if excess <= 0:
        return parts
    if excess < len(parts.suffix):
        return parts._replace(suffix=parts.suffix[:-excess])
    if excess <= len(parts.prefix):
        return parts._replace(prefix=parts.prefix[excess:])
    return None


def _tokens(parts: Parts[int]) -> int:
    return len(parts.prefix) + len(parts.middle) + len(parts.suffix)


def _middle(fragment: Sequence[Piece], config: FimConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Where the middle begins and ends: at two characters, each chosen at random from all of them, both ends included.

    Or it is one line that is not blank, without its newline ("line level", arXiv 2207.14255, section 4.4).
    """
    if config.line_rate and rng.random() < config.line_rate:
        lines = _filled_lines(fragment)
        if lines:
            return lines[rng.integers(len(lines))]
    start, stop = sorted(rng.integers(0, _length(fragment), size=2, endpoint=True).tolist())
    return start, stop


def _filled_lines(fragment: Sequence[Piece]) -> list[tuple[int, int]]:
    """Where the lines that are not blank begin and end, in characters. A special token is a character of its line."""
    text = "".join("\ufffc" if isinstance(piece, Special) else piece for piece in fragment)
    ends = itertools.accumulate(len(line) + 1 for line in text.split("\n"))
    return [(end - 1 - len(line), end - 1) for line, end in zip(text.split("\n"), ends, strict=True) if line.strip()]


def _length(fragment: Sequence[Piece]) -> int:
    return sum(1 if isinstance(piece, Special) else len(piece) for piece in fragment)


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
