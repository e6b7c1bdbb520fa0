# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of `compute` when it is imported)
"""A batch of texts as flat numpy arrays: what the filters and the deduplication measure without a loop over rows."""

import functools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NEWLINE, _RETURN = 10, 13
_CODE_POINTS = 0x110000


class Texts:
    """Views of the texts of a column, each computed once and only when asked for.

    `raw` holds the UTF-8 bytes of all texts after each other, text i in `raw[starts[i]:ends[i]]`. Lengths are in
    characters (code points), as in the StarCoder2 paper, unless a name says bytes.
    """

    def __init__(self, column: pa.ChunkedArray | pa.Array):
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        self.column = column.cast(pa.large_string())
        _, offsets, data = self.column.buffers()
        size = len(self.column)
        bounds = np.frombuffer(offsets, np.int64)[self.column.offset :][: size + 1] if size else np.zeros(1, np.int64)
        everything = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
        self.raw = everything[bounds[0] : bounds[-1]]
        self.starts = bounds[:-1] - bounds[0]
        self.ends = bounds[1:] - bounds[0]

    def __len__(self) -> int:
        return len(self.column)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Characters of each text."""
        return pc.utf8_length(self.column).to_numpy(zero_copy_only=False).astype(np.int64)

    @functools.cached_property
    def lines(self) -> np.ndarray:
        """Lines of each text; a final line break opens no further line."""
        return self._measure_lines[0]

    @functools.cached_property
    def longest_line(self) -> np.ndarray:
        """Characters of the longest line of each text, line breaks not counted."""
        return self._measure_lines[1]

    @functools.cached_property
    def mean_line(self) -> np.ndarray:
        """Mean characters per line of each text, line breaks not counted."""
        return self._measure_lines[2] / np.maximum(self.lines, 1)

    @functools.cached_property
    def _measure_lines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lines end with LF, CR LF or a lone CR."""
        breaks = self.raw == _NEWLINE
        returns = np.flatnonzero(self.raw == _RETURN)
        content = (self.raw & 0xC0) != 0x80
        content &= ~breaks
        if len(returns):
            content[returns] = False
            followed = returns + 1 < len(self.raw)
            before_newline = np.zeros(len(returns), bool)
            before_newline[followed] = self.raw[returns[followed] + 1] == _NEWLINE
            breaks[returns[~before_newline]] = True
        filled = np.flatnonzero(self.ends > self.starts)
        opens = np.zeros(len(self.raw), bool)
        opens[1:] = breaks[:-1]
        opens[self.starts[filled]] = True
        openings = np.flatnonzero(opens)
        counted = _running_sum(content)
        lengths = np.diff(np.append(counted[openings], counted[-1]))
        lines, longest = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        if len(filled):
            first = np.searchsorted(openings, self.starts[filled])
            lines[filled] = np.diff(np.append(first, len(openings)))
            longest[filled] = np.maximum.reduceat(lengths, first)
        return lines, longest, counted[self.ends] - counted[self.starts]

    def count(self, is_counted: Callable[[str], bool]) -> np.ndarray:
        """Characters of each text for which `is_counted` (a named function, such as `str.isalpha`) is true."""
        table = character_table(is_counted)
        if self.raw.max(initial=0) < 0x80:
            counted = _running_sum(table[:0x80][self.raw])
            return counted[self.ends] - counted[self.starts]
        codes = np.frombuffer(self.raw.tobytes().decode().encode("utf-32-le"), np.uint32)
        bounds = _running_sum(self.lengths)
        counted = _running_sum(table[codes])
        return counted[bounds[1:]] - counted[bounds[:-1]]

    def runs(
        self, is_member: np.ndarray, shortest: int, also: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Total and longest length, in bytes, of the maximal runs of certain bytes in each text.

        Args:
            is_member: 256 booleans, the bytes that a run consists of.
            shortest: runs shorter than this do not count.
            also: 256 booleans; runs with fewer than `shortest` of these bytes do not count either.
        """
        inside = np.zeros(len(self.raw) + 2, bool)
        inside[1:-1] = is_member[self.raw]
        changes = np.flatnonzero(inside[1:] != inside[:-1])
        begins, stops = changes[::2], changes[1::2]
        total, longest = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        long_enough = stops - begins >= shortest  # drop most runs before they are cut at the ends of texts
        begins, stops = self._cut_at_texts(begins[long_enough], stops[long_enough])
        counts = stops - begins
        keep = counts >= shortest
        if also is not None:
            counted = _running_sum(also[self.raw])
            keep &= counted[stops] - counted[begins] >= shortest
        begins, counts = begins[keep], counts[keep]
        owner = np.searchsorted(self.starts, begins, side="right") - 1
        np.add.at(total, owner, counts)
        np.maximum.at(longest, owner, counts)
        return total, longest

    def _cut_at_texts(self, begins: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Splits runs that go on from one text into the next."""
        if not len(begins):
            return begins, stops
        edges = self.starts[1:]
        run = np.searchsorted(begins, edges, side="right") - 1
        inside = (run >= 0) & (begins[np.maximum(run, 0)] < edges) & (edges < stops[np.maximum(run, 0)])
        cuts = np.unique(edges[inside])
        return np.sort(np.concatenate([begins, cuts])), np.sort(np.concatenate([stops, cuts]))


@functools.cache
def character_table(is_counted: Callable[[str], bool]) -> np.ndarray:
    """The answers of a predicate for every code point."""
    return np.fromiter(map(is_counted, map(chr, range(_CODE_POINTS))), bool, _CODE_POINTS)


def bytes_of(characters: str, non_ascii: bool = False) -> np.ndarray:
    """256 booleans that are true for these ASCII characters, and on request for every byte above them."""
    table = np.zeros(256, bool)
    table[np.frombuffer(characters.encode("ascii"), np.uint8)] = True
    table[0x80:] = non_ascii
    return table


def _running_sum(values: np.ndarray) -> np.ndarray:
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total
