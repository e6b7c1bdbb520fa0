"""The held-out rows on which a model is measured while it is trained.

A document of a source of code is a file, as in the measure of bits per byte (`evaluation/measures/bits_per_byte.py`),
so that it has a language; documents of other sources are those of training. They are taken in a seeded order, laid into
rows one beside the other without seeing each other, and cut at the length of a row. Only their text is measured, and
not the special tokens in it, nor a first token, which nothing predicts.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sc2jax.errors import UserError
from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.mixtures import SourceShare, read_mixture
from sc2jax.feed.packing import pack_rows
from sc2jax.feed.sources import FeedInputs, open_units
from sc2jax.feed.units import Unit, Units
from sc2jax.storage import inside
from sc2jax.text.formats import FORMATS, SOURCE_CODE, repository_document
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer
from sc2jax.training.evaluation import GROUPS, Group, HeldoutRows

_TOGETHER = 8
"""Row groups that are read together, so that the first documents of a large corpus are not all of one of its parts."""

_PURPOSE = "evaluation"
"""Of all random choices here."""

_OPEN = 64
"""Rows that a document may still be laid into, the newest ones."""


@dataclasses.dataclass(frozen=True)
class _Document:
    tokens: np.ndarray  # int32
    group: Group
    bytes: int  # of the text that is measured


def heldout_rows(inputs: FeedInputs, tokens: int) -> HeldoutRows | None:
    """The rows to measure, as many tokens of each source of the mixture; None where nothing is held out.

    Args:
        inputs: what the rows of training follow from.
        tokens: positions of all rows at most, padding included.

    Raises:
        UserError: a dataset is missing or damaged, or there are fewer tokens than a row for each source.
    """
    held = [(share, units) for share in read_mixture(inputs.config.mixture) if (units := _heldout(inputs, share))]
    most = tokens // inputs.row_length // max(len(held), 1)
    if held and not most:
        raise UserError(
            f"training.evaluation_tokens {tokens:,} are less than a row of {inputs.row_length:,} for each of "
            f"{len(held)} sources; use {inputs.row_length * len(held):,} or more, or set training.evaluate_every to 0"
        )
    rows = [row for share, units in held for row in _packed(_documents(inputs, share, units), most, inputs.row_length)]
    return _features(rows, inputs.row_length) if rows else None


def _heldout(inputs: FeedInputs, share: SourceShare) -> Units | None:
    """The held-out records of a source; None if there are none."""
    if share.format not in SOURCE_CODE:
        return open_units(inputs, share, "heldout") or None
    folder = inside(inputs.corpus, share.folder) if share.folder else inputs.corpus
    columns, kind = ("repository", "path", "content", "language"), FORMATS[share.format].kind
    return Units(folder, "heldout", columns, kind=kind, skip_damaged=inputs.skip_damaged) or None


def _documents(inputs: FeedInputs, share: SourceShare, units: Units) -> Iterator[_Document]:
    """The documents of a source with text to measure, in their seeded order, cut at the length of a row."""
    key = inputs.seed, share.name
    for unit, index, numbers in _order(units, key):
        rows = unit[index]
        if share.format in SOURCE_CODE:
            pieces = repository_document(rows[0]["repository"], [(rows[0]["path"], rows[0]["content"])], False)
            language = rows[0]["language"]
        else:
            pieces = FORMATS[share.format].render(rows, keyed_generator(_PURPOSE, *key, *numbers), inputs.formats)
            language = ""
        tokens = inputs.tokenizer.encode_array(pieces)[: inputs.row_length + 1]
        size = _text_bytes(inputs.tokenizer, tokens[1:])
        if size:
            yield _Document(tokens, Group(share.name, language), size)


def _order(units: Units, key: tuple[str | int, ...]) -> Iterator[tuple[Unit, int, tuple[int, int]]]:
    """The documents of some row groups by turns, then of some others; with the numbers of unit and document."""
    order = keyed_generator(_PURPOSE, *key).permutation(len(units)).tolist()
    for at in range(0, len(order), _TOGETHER):
        turns = []
        for number in order[at : at + _TOGETHER]:
            unit = units.read(number)
            documents = (
                keyed_generator(_PURPOSE, *key, number).permutation(len(unit)).tolist() if unit is not None else []
            )
            turns.append([(unit, document, (number, document)) for document in documents])
        for turn in itertools.zip_longest(*turns):
            yield from (document for document in turn if document is not None)


def _text_bytes(tokenizer: Tokenizer, tokens: np.ndarray) -> int:
    return sum(len(piece.encode()) for piece in tokenizer.pieces(tokens) if isinstance(piece, str))


def _packed(documents: Iterator[_Document], most: int, row_length: int) -> list[list[_Document]]:
    """Documents in rows, each in the first open one that has room, until one needs more than `most` rows."""
    rows: list[list[_Document]] = []
    room: list[int] = []  # tokens that a row can still take: with the last target it has one more than positions
    for document in documents:
        size = len(document.tokens)
        place = next((at for at in range(max(len(rows) - _OPEN, 0), len(rows)) if room[at] >= size), len(rows))
        if place == most:
            break
        if place == len(rows):
            rows.append([])
            room.append(row_length + 1)
        rows[place].append(document)
        room[place] -= size
    return rows


def _features(rows: Sequence[Sequence[_Document]], row_length: int) -> HeldoutRows:
    sizes: collections.Counter[Group] = collections.Counter()
    for document in itertools.chain(*rows):
        sizes[document.group] += document.bytes
    numbers = {group: number for number, group in enumerate(sorted(sizes))}
    windows = [np.concatenate([document.tokens for document in row]) for row in rows]
    features = pack_rows(windows, row_length, cross_document_attention=False)
    features["weights"] *= features["targets"] >= len(Special)
    features[GROUPS] = np.zeros_like(features["tokens"])
    for line, row in zip(features[GROUPS], rows, strict=True):
        lengths = [len(document.tokens) for document in row]
        of_tokens = np.repeat([numbers[document.group] for document in row], lengths)[:row_length]
        line[: len(of_tokens)] = of_tokens
    return HeldoutRows(features, tuple(numbers), tuple(sizes[group] for group in numbers))
