"""No text that others wrote commands a terminal or a page, on whatever way it gets there."""

import ast
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.display import PAGE_POLICY, page_text, print_text, terminal_text

PACKAGE = Path(__file__).parent.parent / "sc2jax"
SHOWN_THOUGH_FORMAT = {
    *range(0x600, 0x606),
    0x6DD,
    0x70F,
    0x890,
    0x891,
    0x8E2,
    0x110BD,
    0x110CD,
    *range(0x13430, 0x13456),
}
"""Signs around numbers and joints of hieroglyphs, which Unicode counts among the controls of format."""
HANGUL_FILLERS = {0x115F, 0x1160, 0x3164, 0xFFA0}

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]))


def is_obeyed_or_unseen(character: str) -> bool:
    """By the tables of Unicode, which the filter does not read."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cs"):
        return character not in "\n\t"
    hides = category in ("Cf", "Zl", "Zp") or ord(character) in HANGUL_FILLERS
    return hides and ord(character) not in SHOWN_THOUGH_FORMAT


def test_every_character_is_shown_or_written_out():
    for code in range(0x110000):
        shown = terminal_text(chr(code))
        if is_obeyed_or_unseen(chr(code)):
            assert not any(map(is_obeyed_or_unseen, shown)), hex(code)
            pictures = ["\u2421", "\ufffd"] + ([chr(0x2400 + code)] if code < 0x20 else [])
            assert shown in (*pictures, f"<U+{code:04X}>"), hex(code)
        else:
            assert shown == chr(code) or code == 0x2065 or 0xE0000 <= code < 0xE1000, hex(code)  # some unassigned


@given(ANY_TEXT, ANY_TEXT)
def test_text_may_come_in_pieces(one, other):
    assert terminal_text(one) + terminal_text(other) == terminal_text(one + other)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("def f():\n\treturn 'ä'\n", "def f():\n\treturn 'ä'\n"),
        ("naïve 😀 \u2581", "naïve 😀 \u2581"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b31m\r\x7f", "�31m␍␡"),
        ("if admin\u202e:", "if admin<U+202E>:"),
        ("a\u200bb\ufeff\U000e0041", "a<U+200B>b<U+FEFF><U+E0041>"),
        ("\ud83d", "�"),
    ],
)
def test_what_is_shown_instead(written, shown):
    assert terminal_text(written) == shown


def test_a_page_gets_no_tag_either():
    assert (
        page_text("<b title=\"x\" y='z'>&\u2066") == "&lt;b title=&quot;x&quot; y=&#x27;z&#x27;&gt;&amp;&lt;U+2066&gt;"
    )


class Attribute(HTMLParser):
    """What a browser makes of the page's one tag and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.title, self.text = "", ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.title = dict(attrs)["title"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data


@given(ANY_TEXT | st.text(st.sampled_from("<>&\"' =/b;#x2\x1b\u202e")))
def test_a_browser_reads_the_text_and_nothing_else(text):
    page = Attribute(f'<b title="{page_text(text)}">{page_text(text)}</b>')
    assert page.tags == ["b"]
    assert page.title == page.text == terminal_text(text)


def test_text_is_printed_at_once(capsys):
    print_text("a", end="")
    print_text("b\x1b[31m")
    assert capsys.readouterr().out == "ab␛[31m\n"


WRITES_TO_THE_TERMINAL = {
    "display.py",  # the filter
    "cli.py",  # its own words; what an error says passes the filter
    "process.py",  # an error, which passes the filter
    "training/utilisation.py",  # a warning of numbers alone
    "verbs/show.py",  # a row, whose text was filtered before it was coloured
}


def names(path: Path) -> set[str]:
    """The dotted names that a file uses, as they are written."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)}


def test_what_is_printed_passes_the_filter():
    """ruff's T201 refuses `print` without a remark; this refuses the other ways too, and remarks elsewhere."""
    ways = {"print", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer", "sys.stderr.buffer", "tqdm.write"}
    ways |= {"warnings.warn", "logging.warning", "logging.error", "logging.info"}
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if names(path) & ways}
    assert found <= WRITES_TO_THE_TERMINAL


def test_what_is_logged_passes_the_filter():
    """Loggers are made where something is logged, and only there; those that are silenced log nothing."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for call in re.findall(r"getLogger\(.*?\)\.(?!setLevel|addFilter)(.*)", source):
            assert "terminal_text(" in call, path


def test_a_bar_of_progress_is_described_in_our_words():
    assert {path.name for path in PACKAGE.rglob("*.py") if "tqdm" in names(path)} == {"progress.py"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "progress":
                described = [word.value for word in node.keywords if word.arg in ("desc", "postfix", "unit")]
                assert all(isinstance(value, ast.Constant) for value in described), path


def test_every_page_has_the_policy():
    pages = {
        path: path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".jinja") and re.search(r"<html\b", path.read_text(encoding="utf-8"))
    }
    assert {path.name for path in pages} == {
        "show.py",
        "report.html.jinja",
        "ablation.html.jinja",
        "plan.html.jinja",
        "score_head.html.jinja",
    }
    for path, source in pages.items():
        assert re.search(r'<meta charset="utf-8">(\\n)?\s*({PAGE_POLICY}|{{ policy }})', source), path
    assert "default-src 'none'" in PAGE_POLICY
    assert "script-src" not in PAGE_POLICY
