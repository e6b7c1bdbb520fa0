"""Which texts, such as a benchmark's solutions or a model's completions, occur in a corpus, and how much of each.

A text occurs where a span of at least 50 characters of it does, white space left out on both sides: a file that was
indented or wrapped otherwise is still the same.

Every span of 50 characters holds one of the 25-character pieces into which its text is cut from the start. An
Aho-Corasick automaton looks for those pieces alone, so that it has fewer states than the texts have characters, and
what it finds is compared with 25 characters more on each side. It takes one pass over the documents, of any number: in
memory are the texts and one document. ahocorasick_rs searches about twice as fast as pyahocorasick.
"""

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import ahocorasick_rs

SPAN = 50
"""The fewest characters in a row, other than white space, that a text and a document must share."""

_PIECE = SPAN // 2
_SEARCHED = 2**16  # characters of a document at once: all that is found in them is a list

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Occurrence:
    """How much of a text occurs in documents.

    Attributes:
        characters: of the text, without white space; of fewer than `SPAN`, nothing can be found.
        covered: how many of them lie in a span that occurs.
    """

    characters: int
    covered: int

    @property
    def found(self) -> bool:
        """Whether any span occurs."""
        return self.covered > 0

    @property
    def share(self) -> float:
        """The part of the text that occurs; 0 of an empty one."""
        return self.covered / self.characters if self.characters else 0.0


def occurrences(texts: Mapping[K, str], documents: Iterable[str]) -> dict[K, Occurrence]:
    """What of each text occurs in any of the documents."""
    packed = {key: without_white_space(text) for key, text in texts.items()}
    distinct = list(dict.fromkeys(packed.values()))
    covered = [bytearray(len(text)) for text in distinct]
    spans = Spans(distinct)
    for document in documents:
        for number, start, end in spans.find(document):
            covered[number][start:end] = b"\1" * (end - start)
    found = {text: Occurrence(len(text), sum(cover)) for text, cover in zip(distinct, covered, strict=True)}
    return {key: found[text] for key, text in packed.items()}


def without_white_space(text: str) -> str:
    """A text as it is compared; halves of surrogate pairs, which no corpus holds, become question marks."""
    return "".join(text.split()).encode(errors="replace").decode()


class Spans:
    """Finds the spans that documents share with texts."""

    def __init__(self, texts: Sequence[str]):
        """Prepares the search for texts without white space."""
        self._texts = texts
        places: dict[str, list[tuple[int, int]]] = {}
        for number, text in enumerate(texts):
            for start in range(0, len(text) - _PIECE + 1, _PIECE) if len(text) >= SPAN else ():
                places.setdefault(text[start : start + _PIECE], []).append((number, start))
        self._places = list(places.values())
        self._automaton = ahocorasick_rs.AhoCorasick(places, store_patterns=False)

    def find(self, document: str) -> Iterator[tuple[int, int, int]]:
        """Spans of texts that a document holds: the number of the text, and start and end in it.

        Together they cover all that any span of at least `SPAN` characters covers; a longer one comes in several that
        overlap. A document of one line without end takes no longer than another.
        """
        packed = without_white_space(document)
        seen = set()
        for begin in range(0, len(packed) - _PIECE + 1, _SEARCHED):
            part = packed[begin : begin + _SEARCHED + _PIECE - 1]
            for piece, start, _ in self._automaton.find_matches_as_indexes(part, overlapping=True):
                place = begin + start
                before = packed[max(place - _PIECE, 0) : place]
                after = packed[place + _PIECE : place + SPAN]
                if (piece, before, after) not in seen:
                    seen.add((piece, before, after))
                    yield from self._around(piece, before, after)

    def _around(self, piece: int, before: str, after: str) -> Iterator[tuple[int, int, int]]:
        for number, start in self._places[piece]:
            text, end = self._texts[number], start + _PIECE
            left = _in_common(reversed(before), reversed(text[max(start - _PIECE, 0) : start]))
            right = _in_common(after, text[end : end + _PIECE])
            if left + _PIECE + right >= SPAN:
                yield number, start - left, end + right


def _in_common(one: Iterable[str], other: Iterable[str]) -> int:
    """How many characters are the same before the first that is not."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
