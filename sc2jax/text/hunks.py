"""Changes between two versions of a file, written as unified hunks.

Only a newline ends a line, as in git. The reference pipeline (bigcode's the-stack-v2) also ends lines at form feeds and
other separators, joins hunks only when the context of one touches the change of the other, miscounts the lines of a
hunk that reaches the end of its file, and leaves out the newline after the last line of context; none of this is copied
here.
"""

import dataclasses
import difflib
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Change:
    """Lines `base_start` to `base_stop` of the old version become `lines`, from `head_start` on in the new one."""

    base_start: int
    base_stop: int
    head_start: int
    lines: tuple[str, ...]


def split_lines(content: str) -> list[str]:
    """The lines of a file without their newlines; a newline at the end begins no further line."""
    lines = content.split("\n")
    return lines if lines[-1] else lines[:-1]


def changes(base: Sequence[str], head: Sequence[str]) -> list[Change]:
    """The differences between two versions, by difflib's SequenceMatcher as in the reference pipeline."""
    matcher = difflib.SequenceMatcher(None, base, head)
    return [
        Change(base_start, base_stop, head_start, tuple(head[head_start:head_stop]))
        for kind, base_start, base_stop, head_start, head_stop in matcher.get_opcodes()
        if kind != "equal"
    ]


def hunks(base: Sequence[str], found: Sequence[Change], context: int, skipped: int) -> list[str]:
    """Changes as hunks with lines of context around them; those whose contexts touch are joined.

    Lines are numbered from 1, not counting the first `skipped` ones, which are never shown and must not change.
    """
    groups: list[list[Change]] = []
    for change in found:
        if groups and change.base_start - context <= groups[-1][-1].base_stop + context:
            groups[-1].append(change)
        else:
            groups.append([change])
    return [_hunk(base, group, context, skipped) for group in groups]


def _hunk(base: Sequence[str], group: Sequence[Change], context: int, skipped: int) -> str:
    start = max(skipped, group[0].base_start - context)
    stop = min(len(base), group[-1].base_stop + context)
    head_start = group[0].head_start - (group[0].base_start - start)
    added = sum(len(change.lines) - (change.base_stop - change.base_start) for change in group)
    written = [f"@@ -{start - skipped + 1},{stop - start} +{head_start - skipped + 1},{stop - start + added} @@"]
    at = start
    for change in group:
        written += [f" {line}" for line in base[at : change.base_start]]
        written += [f"-{line}" for line in base[change.base_start : change.base_stop]]
        written += [f"+{line}" for line in change.lines]
        at = change.base_stop
    written += [f" {line}" for line in base[at:stop]]
    return "".join(f"{line}\n" for line in written)


# Numbers of more digits are no lines of a file, and too long ones cannot be read at all.
_HEADER = re.compile(r"@@ -(\d{1,18})((?:,\d+)?) \+(\d{1,18})((?:,\d+)?) @@")


def shifted_header(hunk: str, skipped: int) -> str:
    """A hunk renumbered without the first `skipped` lines; a hunk that begins among them starts at line 0.

    A hunk without a header, which some comments on a whole file have, is left as it is. The reference pipeline fails on
    a hunk that begins before the lines shown.
    """

    def shift(match: re.Match[str]) -> str:
        base, head = (max(0, int(number) - skipped) for number in (match[1], match[3]))
        return f"@@ -{base}{match[2]} +{head}{match[4]} @@"

    header, newline, rest = hunk.partition("\n")
    return _HEADER.sub(shift, header, count=1) + newline + rest
