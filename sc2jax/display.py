"""Text that others wrote (a corpus, a file's name, a model), made safe where people look at it.

Whatever goes to a terminal passes `terminal_text`, whatever goes into a page `page_text`; a page says with
`PAGE_POLICY` that nothing in it runs or is fetched.
"""

import html

PAGE_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
)
"""Stands in the head of every page, before anything else that is not the character set."""

_REPLACEMENT = 0xFFFD
_DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Controls of the direction of writing, which make text read otherwise than it is (CVE-2021-42574)."""
_INVISIBLE = (0x2028, 0x2029, *range(0xE0000, 0xE0080))
"""Separators of lines that not every terminal knows, and tags, which show nothing."""

_SHOWN = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),  # the other set of control characters
    **{code: f"<U+{code:04X}>" for code in (*_DIRECTION, *_INVISIBLE)},
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),  # halves of pairs, which cannot be encoded
}


def terminal_text(text: str) -> str:
    """Text that sends no commands to a terminal and is read in the order in which it is stored.

    Control characters are shown as pictures, those that change the direction of writing by their numbers.
    """
    return text.translate(_SHOWN)


def page_text(text: str) -> str:
    """The same for HTML, as content and in attributes."""
    return html.escape(terminal_text(text))
