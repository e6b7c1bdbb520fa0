"""What may be wrong with a record, and how that is counted."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

REASONS: Mapping[str, str] = {
    "no_value": "a value is missing that every such record has",
    "unknown_value": "a value is none of those that it may be",
    "incomplete": "all of several parts are missing of which one is needed",
    "not_text": "a text is no UTF-8",
    "changed": "the text or its edits are not those that were written",
}
"""Why a record is refused or left out, by the names under which the feed counts."""


_LONGEST_SHOWN = 120


class Fault(NamedTuple):
    """A row of a table that is no record of its kind: for which of `REASONS`, and what exactly is wrong."""

    row: int
    reason: str
    what: str


def shown(value: object) -> str:
    """A value that others wrote, in one line of a message: its beginning, control characters by their numbers."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text)} characters)"


def first_of_each_row(faults: Iterable[Fault]) -> list[Fault]:
    """One fault a row, that which was found first, in the order of the rows."""
    found: dict[int, Fault] = {}
    for fault in faults:
        found.setdefault(fault.row, fault)
    return [found[row] for row in sorted(found)]
