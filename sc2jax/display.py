"""Text that others wrote (a corpus, a file's name, a model), made safe where people look at it.

Whatever goes to a terminal passes `terminal_text`, whatever goes into a page `page_text`; a page says with
`PAGE_POLICY` that nothing in it runs or is fetched. What verbs print goes through `print_text`.
"""

import html
import logging
from collections.abc import Sequence

PAGE_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
)
"""Stands in the head of every page, before anything else that is not the character set."""

_NAMED_AT_MOST = 3
_REPLACEMENT = 0xFFFD
_DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Controls of the direction of writing, which make text read otherwise than it is (CVE-2021-42574)."""
_INVISIBLE = (
    *(0x00AD, 0xFEFF),  # a hyphen that may not show, and the mark of the order of bytes
    *(0x115F, 0x1160, 0x3164, 0xFFA0),  # fillers of Hangul, which are letters to a compiler
    *(0x180E, *range(0x200B, 0x200E)),  # no width
    *(0x2028, 0x2029),  # separators of lines that not every terminal knows
    *(*range(0x2060, 0x2066), *range(0x206A, 0x2070), *range(0xFFF9, 0xFFFC)),  # joiners, old controls, annotations
    *(*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B)),  # controls of shorthand and of music
    *range(0xE0000, 0xE1000),  # tags and selectors of variants, which can carry a hidden text
)
"""Characters that show nothing, so that two texts look alike which are not."""

_SHOWN = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),  # the other set of control characters
    **{code: f"<U+{code:04X}>" for code in (*_DIRECTION, *_INVISIBLE)},
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),  # halves of pairs, which cannot be encoded
}


def terminal_text(text: str) -> str:
    """Text that sends no commands to a terminal and is read in the order in which it is stored.

    Control characters are shown as pictures, those that change the direction of writing or show nothing by their
    numbers. Each character is judged by itself, so that text may come in pieces.
    """
    return text.translate(_SHOWN)


def print_text(text: str, end: str = "\n") -> None:
    """Writes text to standard output, at once; whatever others wrote in it passes the filter."""
    print(terminal_text(text), end=end, flush=True)  # noqa: T201


def name_foreign(folder: str, files: Sequence[str]) -> None:
    """Says which files in a folder are somebody else's, if there are any."""
    if files:
        more = f" and {len(files) - _NAMED_AT_MOST} more" if len(files) > _NAMED_AT_MOST else ""
        named = ", ".join(files[:_NAMED_AT_MOST]) + more
        said = f"{folder} also holds files that are not ours; they stay as they are: {named}"
        logging.getLogger("sc2jax").warning(terminal_text(said))


def page_text(text: str) -> str:
    """The same for HTML, as content and in attributes."""
    return html.escape(terminal_text(text))
