"""One packed row for people to read, in a terminal or a browser."""

import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from sc2jax.display import PAGE_POLICY, page_text, terminal_text
from sc2jax.errors import UserError
from sc2jax.feed.documents import DocumentWriter, rendering_key, unit_tokens
from sc2jax.feed.mixtures import only, read_mixture
from sc2jax.feed.packing import pack_row
from sc2jax.feed.schedule import ENDLESS, Schedule
from sc2jax.feed.sources import FeedInputs, open_units
from sc2jax.records.manifest import is_finished
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

_SEGMENTS = ("36", "33")  # cyan and yellow, alternating
_SPECIAL = "1;35"  # bold magenta
_DIM = "2"


def show_row(
    inputs: FeedInputs, batch_size: int, *, row: int = 0, step: int = 0, source: str = "", color: bool | None = None
) -> str:
    """Row `row` of batch `step`, both from 0, as training sees it, or as it would if `source` were the only one.

    Before `sc2jax tokenize` has laid the tokens flat, it is a row of the same texts in the order in which they lie in
    the corpus. With `color` None, colours are used if standard output is a terminal and NO_COLOR is not set.

    Raises:
        UserError: the corpus, the tokens or the mixture cannot be used.
    """
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    colored = bool(wanted) if color is None else color
    shown = read_row(inputs, batch_size, row, step, source)
    return f"{terminal_text(shown.title)}\n{render_row(shown.features, inputs.tokenizer, color=colored)}"


def row_page(inputs: FeedInputs, batch_size: int, *, row: int = 0, step: int = 0, source: str = "") -> str:
    """The same as an HTML page without scripts, for a browser or a notebook.

    Raises:
        UserError: the corpus, the tokens or the mixture cannot be used.
    """
    shown = read_row(inputs, batch_size, row, step, source)
    return render_page(shown.features, inputs.tokenizer, shown.title)


class Shown(NamedTuple):
    """The features of a row, and where it is from."""

    features: dict[str, np.ndarray]
    title: str


def read_row(inputs: FeedInputs, batch_size: int, row: int, step: int, source: str) -> Shown:
    """One row of a batch, from tokens if there are any, else from text."""
    number = step * batch_size + row
    read = _row_of_tokens if is_finished(inputs.tokens) else _row_of_text
    features, where = read(inputs, number, source)
    return Shown(features, f"batch {step}, row {row}" + (f", {source} alone" if source else "") + f": {where}")


def _row_of_tokens(inputs: FeedInputs, number: int, source: str) -> tuple[dict[str, np.ndarray], str]:
    from sc2jax.feed.rows import Rows  # TensorStore takes a while to import

    rows = Rows(inputs, source)
    (place,) = rows.places(number, number + 1)
    features = {name: values[0] for name, values in rows.read([place]).features.items()}
    of = rows.sources[place.source]
    windows = of.windows[place.rendering]
    return features, f"{of.share.name}, epoch {place.epoch}, window {place.window:,} of {windows:,}"


def _row_of_text(inputs: FeedInputs, number: int, source: str) -> tuple[dict[str, np.ndarray], str]:
    """A row of the first row groups of the source whose turn it is."""
    from sc2jax.feed.rows import infill

    mixture = read_mixture(inputs.config.mixture)
    mixture = only(mixture, source) if source else mixture
    shares = [share.share for share in mixture]
    sources, rows = Schedule(shares, [ENDLESS] * len(shares)).sequence(number, number + 1)
    share, before = mixture[int(sources[0])], int(rows[0])
    units = open_units(inputs, share, "train")
    units.require("train")
    writer = DocumentWriter(share.format, inputs.formats, inputs.fim)
    tokens = np.empty(0, np.int32)
    for index, unit in units.readable():
        key = rendering_key(inputs.seed, share.name, 0, index)
        tokens = np.concatenate([tokens, *unit_tokens(unit, writer, inputs.tokenizer, key)])
        if len(tokens) > inputs.row_length:
            break
    if not len(tokens):
        raise UserError(f"nothing of the source {share.name} can be read: all of its row groups are damaged")
    window = before % max(1, len(tokens) // inputs.row_length)
    laid = np.take(tokens, np.arange(inputs.row_length + 1) + window * inputs.row_length, mode="wrap")
    infilled = infill(inputs, share, 0, window, laid).ids
    features = pack_row(infilled, inputs.row_length, inputs.config.cross_document_attention)
    return features, f"{share.name}, window {window:,} of its first texts (training reads tokens: `sc2jax tokenize`)"


def render_row(row: Mapping[str, np.ndarray], tokenizer: Tokenizer, *, color: bool) -> str:
    """A row's text below a header that lists its segments.

    Segments alternate between two colours, special tokens are bold, and tokens after which nothing is learnt (weight 0)
    are dim. The text passes the terminal's filter before it is coloured, so that no file can send commands.
    """
    spans = list(_spans(row))
    text = []
    for segment, special, weighted, ids in spans:
        style = _SPECIAL if special else _SEGMENTS[segment % len(_SEGMENTS)]
        written = terminal_text(_repeated(tokenizer, ids) if special else tokenizer.decode(ids))
        text.append(f"\x1b[{style if weighted else f'{_DIM};{style}'}m{written}\x1b[0m" if color else written)
    return f"{_header(row)}\n\n{''.join(text)}"


PAGE_START = (
    f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{PAGE_POLICY}\n'
    '<meta name="generator" content="sc2jax show">\n'
)
"""How every page of a row begins, and no other file: such a page may be written over."""

_STYLE = """
:root { --text: #1d1f21; --page: #fbfbf8; --dim: #77797c; --special: #8f1d6b; --one: #dcebf5; --two: #f6ecd2; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e3; --page: #17181a; --dim: #8b8d90; --special: #f08fd0; --one: #21384a; --two: #443a1f; }
}
.row { color: var(--text); background: var(--page); font: 13px/1.5 ui-monospace, monospace; padding: 1em; }
.row pre { font: inherit; margin: 1em 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.row p, .row h1 { font-family: system-ui, sans-serif; margin: 0.3em 0; }
.row h1 { font-size: 15px; }
.row .s1 { background: var(--one); } .row .s0 { background: var(--two); } .row .padding { background: none; }
.row b { color: var(--special); }
.row .unweighted { color: var(--dim); text-decoration: underline dotted; }
"""


def render_page(row: Mapping[str, np.ndarray], tokenizer: Tokenizer, title: str) -> str:
    """A row as a page: segments on two alternating backgrounds, special tokens bold, weight 0 dim and underlined.

    Hovering over a stretch of text shows its segment and its number of tokens.
    """
    text = []
    for segment, special, weighted, ids in _spans(row):
        written = page_text(_repeated(tokenizer, ids) if special else tokenizer.decode(ids))
        classes = " ".join([f"s{segment % 2}" if segment else "padding", *([] if weighted else ["unweighted"])])
        where = f"segment {segment}" if segment else "padding"
        hint = f"{where}, tokens: {len(ids)}" + ("" if weighted else ", nothing is learnt after these")
        tag = "b" if special else "span"
        text.append(f'<{tag} class="{classes}" title="{hint}">{written}</{tag}>')
    return (
        f"{PAGE_START}<title>{page_text(title)}</title>\n"
        f'<style>{_STYLE}</style>\n<div class="row">\n<h1>{page_text(title)}</h1>\n'
        f"<p>{page_text(_header(row))}</p>\n"
        f"<pre>{''.join(text)}</pre>\n</div>\n</html>\n"
    )


def _header(row: Mapping[str, np.ndarray]) -> str:
    segments, weights = row["segment_ids"], row["weights"]
    lengths = np.bincount(segments)
    parts = [f"{length} in segment {index}" for index, length in enumerate(lengths) if index and length]
    if lengths[0]:
        parts.append(f"{lengths[0]} of padding")
    return f"{len(segments)} tokens: {', '.join(parts)}; {int((weights == 0).sum())} with weight 0"


def _spans(row: Mapping[str, np.ndarray]) -> Iterator[tuple[int, bool, bool, list[int]]]:
    """Runs of tokens that look alike: segment, special or not, weight or not, ids."""
    tokens = row["tokens"].tolist()
    special = [token < len(Special) for token in tokens]
    looks = zip(row["segment_ids"].tolist(), special, (row["weights"] > 0).tolist(), strict=True)
    at = 0
    for look, group in itertools.groupby(looks):
        length = sum(1 for _ in group)
        yield *look, tokens[at : at + length]
        at += length


def _repeated(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Special tokens, with a long run of the same one, such as padding, abbreviated."""
    counts = [(token, sum(1 for _ in group)) for token, group in itertools.groupby(ids)]
    return "".join(
        tokenizer.decode([token]) * count if count < 4 else f"{tokenizer.decode([token])} x {count}"
        for token, count in counts
    )
