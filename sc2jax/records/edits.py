"""What was changed in a text since it was decoded, so that every place of it traces back to its source.

An edit replaced the characters `source_start` to `source_end` of the decoded source by those that stand at `start` to
`end` of the text as it is now. The edits of a text are sorted and apart: before the first, between two, and after the
last, the text is the source's own. Whatever changes the text of a record does so through `edit_text`.
"""

import bisect
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sc2jax.records.manifest import sha256_of

_JOINED = "+"
"""Between the rules of an edit that joins several."""


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """One edit; positions count characters (code points)."""

    start: int
    end: int
    source_start: int
    source_end: int
    rule: str


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Replacement:
    """A change to make: `text` in the place of the characters `start` to `end`, because of a rule."""

    start: int
    end: int
    text: str
    rule: str


def edit_text(text: str, edits: Sequence[Edit], replacements: Iterable[Replacement]) -> tuple[str, list[Edit]]:
    """Replaces parts of a text that may have been edited before.

    What touches or overlaps an earlier edit, or touches another replacement, is joined with it to one edit that names
    the rules of both. Edits that leave nothing of themselves vanish, such as an insertion that is deleted again.

    Args:
        text: as it is.
        edits: those that made it from its decoded source.
        replacements: places in `text`, in any order; insertions at one place are made in the order of their texts.

    Returns:
        The new text, and its edits against the same decoded source.

    Raises:
        ValueError: replacements overlap each other or go beyond the text.
    """
    ordered = sorted(change for change in replacements if change.text or change.end > change.start)
    _refuse_overlaps(ordered, len(text))
    pieces: list[str] = []
    made: list[Edit] = []
    at = length = 0
    for group in _groups(edits, ordered):
        start, end = min(one.start for one in group), max(one.end for one in group)
        low, high = source_span(edits, start, start)[0], source_span(edits, end, end)[1]
        written = _written(text, start, end, [one for one in group if isinstance(one, Replacement)])
        pieces += [text[at:start], written]
        length += start - at
        if written or high > low:
            made.append(Edit(length, length + len(written), low, high, _joined_rules(group)))
        length += len(written)
        at = end
    return "".join([*pieces, text[at:]]), made


def decoded_source(text: str, edits: Sequence[Edit], replaced: Sequence[str]) -> str:
    """The text before all edits, given what each of them replaced: the inverse of `edit_text`."""
    pieces, at = [], 0
    for edit, original in zip(edits, replaced, strict=True):
        pieces += [text[at : edit.start], original]
        at = edit.end
    return "".join([*pieces, text[at:]])


def edited_source(source: str, edits: Sequence[Edit], written: Sequence[str]) -> str:
    """The text after all edits of a decoded source, given what each of them wrote there."""
    pieces, at = [], 0
    for edit, text in zip(edits, written, strict=True):
        pieces += [source[at : edit.source_start], text]
        at = edit.source_end
    return "".join([*pieces, source[at:]])


def source_span(edits: Sequence[Edit], start: int, end: int) -> tuple[int, int]:
    """The characters of the decoded source that `start` to `end` of the text stand for.

    An edit counts as a whole, as soon as the span reaches into it; so does what was deleted at the span's ends. A span
    without characters is a position.
    """
    first = bisect.bisect_left(edits, start, key=lambda edit: edit.end)
    low = start + _shift(edits, first - 1)
    if first < len(edits):
        edit = edits[first]
        if edit.start < start < edit.end or edit.start == edit.end == start:
            low = edit.source_start
        elif edit.end == start:
            low = edit.source_end
    last = bisect.bisect_right(edits, end, key=lambda edit: edit.start) - 1
    high = end + _shift(edits, last)
    if last >= 0:
        edit = edits[last]
        if edit.start < end <= edit.end or edit.start == edit.end == end:
            high = edit.source_end
        elif edit.start == end:
            high = edit.source_start
    return low, high


def edits_sha256(edits: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a text's edits, given as a record holds them.

    It stands beside them, because edits that are changed or left out may go on fitting each other and the text.
    """
    names = [field.name for field in dataclasses.fields(Edit)]
    return sha256_of([[edit[name] for name in names] for edit in edits])


def inconsistent(spans: np.ndarray, owners: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which edits of a column of texts cannot be.

    Args:
        spans: (edits, 4) of start, end, source start and source end, text after text.
        owners: the text of each edit, ascending.
        lengths: characters of each text.

    Returns:
        True for each edit that is reversed, goes beyond its text, is empty on both sides, touches or overlaps the one
        before it, or has another distance to it in the text than in the source.
    """
    before = np.zeros_like(spans[:, 1::2])
    follows = np.zeros(len(spans), bool)
    follows[1:] = owners[1:] == owners[:-1]
    before[1:][follows[1:]] = spans[:-1, 1::2][follows[1:]]
    gaps, sizes = spans[:, ::2] - before, spans[:, 1::2] - spans[:, ::2]
    return (
        (sizes < 0).any(axis=1)
        | (sizes == 0).all(axis=1)
        | (gaps[:, 0] != gaps[:, 1])
        | (gaps[:, 0] < follows)
        | (spans[:, 1] > lengths[owners])
    )


def _refuse_overlaps(replacements: Sequence[Replacement], length: int) -> None:
    at = 0
    for change in replacements:
        if not at <= change.start <= change.end <= length:
            raise ValueError(f"{change} overlaps another replacement or leaves the text of {length} characters")
        at = change.end


def _groups(edits: Sequence[Edit], changes: Sequence[Replacement]) -> Iterator[list[Edit | Replacement]]:
    """Edits and replacements that touch each other, by their places in the text; sorted, the earlier edits first."""
    held: list[Edit | Replacement] = []
    end = 0
    for one in sorted([*edits, *changes], key=lambda one: (one.start, one.end)):
        if held and one.start > end:
            yield held
            held = []
        end = max(end, one.end) if held else one.end
        held.append(one)
    if held:
        yield held


def _written(text: str, start: int, end: int, changes: Sequence[Replacement]) -> str:
    """What stands in the place of `start` to `end` after changes in there."""
    pieces, at = [], start
    for change in changes:
        pieces += [text[at : change.start], change.text]
        at = change.end
    return "".join([*pieces, text[at:end]])


def _joined_rules(group: Sequence[Edit | Replacement]) -> str:
    """Each rule once, those of earlier edits first."""
    ordered = sorted(group, key=lambda one: isinstance(one, Replacement))
    return _JOINED.join(dict.fromkeys(rule for one in ordered for rule in one.rule.split(_JOINED)))


def _shift(edits: Sequence[Edit], index: int) -> int:
    """How much further on the source is after an edit."""
    return edits[index].source_end - edits[index].end if index >= 0 else 0
