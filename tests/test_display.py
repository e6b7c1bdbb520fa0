"""No text that others wrote commands a terminal or a page."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.display import page_text, terminal_text


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_nothing_is_left_that_a_terminal_obeys(text):
    for character in terminal_text(text):
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "PDF",
            "LRO",
            "RLO",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("def f():\n\treturn 'ä'\n", "def f():\n\treturn 'ä'\n"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b31m\r\x7f", "�31m␍␡"),
        ("if admin\u202e:", "if admin<U+202E>:"),
        ("\ud83d", "�"),
    ],
)
def test_what_is_shown_instead(written, shown):
    assert terminal_text(written) == shown


def test_a_page_gets_no_tag_either():
    assert (
        page_text("<b title=\"x\" y='z'>&\u2066") == "&lt;b title=&quot;x&quot; y=&#x27;z&#x27;&gt;&amp;&lt;U+2066&gt;"
    )
