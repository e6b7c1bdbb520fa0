import dataclasses
import html
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from sc2jax.display import PAGE_POLICY
from sc2jax.errors import UserError
from sc2jax.feed.batches import open_batches
from sc2jax.feed.packing import pack_row
from sc2jax.feed.rows import Rows
from sc2jax.feed.show import Shown, read_row, render_page, render_row, row_page, show_row
from sc2jax.feed.sources import FeedInputs
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def row(tokenizer: Tokenizer, length: int = 24) -> dict[str, np.ndarray]:
    pieces = [Special.FILE_SEP, "a = 1\n", Special.END_OF_TEXT, Special.FILE_SEP, "b\x1b[31m"]
    return pack_row(np.array(tokenizer.encode(pieces)), length, cross_document_attention=False)


def test_a_row_without_colours(tokenizer: Tokenizer) -> None:
    header, _, *text = render_row(row(tokenizer), tokenizer, color=False).split("\n")
    assert re.fullmatch(r"24 tokens: \d+ in segment 1, \d+ in segment 2, \d+ of padding; \d+ with weight 0", header)
    # The escape character of the text is shown as a picture, so that it cannot colour the terminal.
    padding = re.fullmatch(r"<file_sep>a = 1\n<\|endoftext\|><file_sep>b␛\[31m<fim_pad> x (\d+)", "\n".join(text))
    assert padding
    assert f"{padding[1]} of padding" in header


@pytest.mark.parametrize(
    ("character", "picture"),
    [("\x00", "␀"), ("\x1b", "␛"), ("\x7f", "␡"), ("\x9b", "\ufffd"), ("\u202e", "<U+202E>"), ("\u200b", "<U+200B>")],
)
def test_no_text_can_command_the_terminal(tokenizer: Tokenizer, character: str, picture: str) -> None:
    ids = tokenizer.encode_text(f"a\t{character}b\nc")
    text = render_row(pack_row(np.array([*ids, 0]), len(ids), False), tokenizer, color=False)
    assert text.endswith(f"a\t{picture}b\nc")
    page = render_page(pack_row(np.array([*ids, 0]), len(ids), False), tokenizer, f"t{character}")
    assert page.count(html.escape(picture)) == 3
    assert character not in page


@pytest.mark.parametrize(("count", "written"), [(3, "<fim_pad><fim_pad><fim_pad>"), (4, "<fim_pad> x 4")])
def test_a_long_run_of_a_special_token_is_abbreviated(tokenizer: Tokenizer, count: int, written: str) -> None:
    window = np.array(tokenizer.encode_text("ab"))
    text = render_row(pack_row(window, len(window) + count, False), tokenizer, color=False)
    assert text.endswith(f"\nab{written}")


def test_a_row_in_colours(tokenizer: Tokenizer) -> None:
    plain = render_row(row(tokenizer), tokenizer, color=False)
    coloured = render_row(row(tokenizer), tokenizer, color=True)
    assert ANSI.sub("", coloured) == plain
    # Special tokens are bold; the end of text has weight 0, so it is dim too.
    assert "\x1b[1;35m<file_sep>\x1b[0m" in coloured
    assert "\x1b[2;1;35m<|endoftext|>\x1b[0m" in coloured
    # The second document has the other colour.
    first, second = (re.search(rf"\x1b\[(\d+)m{text}", coloured) for text in ("a = 1", "b"))
    assert first
    assert second
    assert first[1] != second[1]


def test_the_row_that_training_sees(inputs: FeedInputs, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_batches(inputs, 4) as batches:
        next(batches)
        second = next(batches)
    expected = render_row({name: values[3] for name, values in second.items()}, tokenizer, color=False)
    title, _, shown = show_row(inputs, 4, row=3, step=1).partition("\n")
    assert shown == expected
    (place,) = Rows(inputs).places(7, 8)
    assert title == f"batch 1, row 3: source_code, epoch {place.epoch}, window {place.window} of 160"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in show_row(inputs, 4)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in show_row(inputs, 4)


def test_the_name_of_a_source_passes_the_filters(inputs: FeedInputs, tokenizer: Tokenizer, monkeypatch) -> None:
    def shown(*arguments: Any) -> Shown:
        return Shown(row(tokenizer), arguments[-1])

    monkeypatch.setattr("sc2jax.feed.show.read_row", shown)
    assert show_row(inputs, 4, source="a\x1b[2J", color=True).startswith("a␛[2J\n")
    assert "<title>&lt;i&gt;␛</title>" in row_page(inputs, 4, source="<i>\x1b")


class Reader(HTMLParser):
    """The text of a page's row, by class."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[str, str, str]] = []
        self._open: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img")
        self._open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if any(tag == "pre" for tag, _ in self._open):
            self.runs.append((*self._open[-1], data))


def test_a_row_as_a_page(tokenizer: Tokenizer) -> None:
    pieces = [Special.FILE_SEP, "<b>&\n", Special.END_OF_TEXT, Special.FILE_SEP, "b</pre>\x1b[31m"]
    page = render_page(pack_row(np.array(tokenizer.encode(pieces)), 40, False), tokenizer, "a <title>")
    reader = Reader()
    reader.feed(page)
    text = "".join(run for *_, run in reader.runs)
    assert text.startswith("<file_sep><b>&\n<|endoftext|><file_sep>b</pre>␛[31m<fim_pad> x ")
    assert ("b", "s1", "<file_sep>") in reader.runs
    assert ("b", "s1 unweighted", "<|endoftext|>") in reader.runs
    assert ("b", "s0", "<file_sep>") in reader.runs
    assert reader.runs[-1][1] == "padding unweighted"
    assert "<title>a &lt;title&gt;</title>" in page
    assert page.split("\n")[2:4] == ['<meta charset="utf-8">', PAGE_POLICY]


def test_a_source_alone(inputs: FeedInputs, tokenizer: Tokenizer) -> None:
    assert show_row(inputs, 4, source="source_code").startswith(
        "batch 0, row 0, source_code alone: source_code, epoch 0,"
    )
    assert "<h1>batch 0, row 0: source_code, epoch 0, window" in row_page(inputs, 4)
    assert "batch 2, row 1, source_code alone" in row_page(inputs, 4, row=1, step=2, source="source_code")
    with pytest.raises(UserError, match="no source 'issues'; use one of source_code"):
        show_row(inputs, 4, source="issues")


def test_before_there_are_tokens_a_row_is_of_the_first_texts(inputs: FeedInputs, untokenized: FeedInputs) -> None:
    """By the flat tokens of the same corpus: what is shown lies at the window that the title names."""
    off = FimConfig(level="off")
    corpus = dataclasses.replace(untokenized, fim=off)
    flat = Rows(dataclasses.replace(inputs, fim=off)).sources[0].renderings[0]
    for step, number in ((0, 1), (1, 3), (2, 0)):
        shown = read_row(corpus, 4, number, step, "")
        window = re.search(r": source_code, window (\d+) of its first texts", shown.title)
        assert window
        with ts.Batch() as batch:
            expected = flat.request(int(window[1]) * 64, 64, batch)
        assert shown.features["tokens"].tolist() == expected.result().tolist()
    assert "window 1 of its first texts (training reads tokens: `sc2jax tokenize`)" in show_row(corpus, 4, row=1)
    with pytest.raises(UserError, match="no source 'issues'; use one of source_code"):
        show_row(corpus, 4, source="issues")


def test_a_row_longer_than_all_texts_begins_anew(untokenized: FeedInputs) -> None:
    features = read_row(dataclasses.replace(untokenized, row_length=30_000), 1, 0, 0, "").features
    assert features["weights"].shape == (30_000,)
    assert (features["segment_ids"] > 0).all()
