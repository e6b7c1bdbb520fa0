from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sc2jax.feed.documents import DocumentWriter, rendering_key, unit_tokens
from sc2jax.feed.keyed_random import keyed_generator
from sc2jax.feed.sources import FeedInputs, open_sources
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.fim import transform_document
from sc2jax.text.formats import FORMATS
from sc2jax.text.special_tokens import Special

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture
def document(untokenized: FeedInputs) -> Rows:
    """A repository of several files."""
    unit = open_sources(untokenized)[0].units[0]
    return max((unit[number] for number in range(len(unit))), key=len)


@pytest.mark.parametrize("level", ["context", "document", "off"])
def test_all_of_a_document_follows_from_its_key(document: Rows, level: str) -> None:
    fim, formats = FimConfig(level=level, rate=0.8, file_rate=0.8), FormatConfig()
    writer = DocumentWriter("repository", formats, fim)
    infilled = 0
    for number in range(30):
        pieces = FORMATS["repository"].render(document, keyed_generator("document", 5, "s", number), formats)
        if level == "document":
            plain, pieces = pieces, transform_document(pieces, fim, keyed_generator("fim", 5, "s", number))
            infilled += pieces != plain
        assert writer.pieces(document, 5, "s", number) == pieces
        assert (Special.FIM_PREFIX in pieces) <= (level == "document")
    assert bool(infilled) == (level == "document")


@pytest.mark.parametrize("source_code_only", [True, False])
def test_documents_that_are_no_source_code_are_infilled_when_asked_for(source_code_only: bool) -> None:
    fim = FimConfig(level="document", rate=1.0, source_code_only=source_code_only)
    pieces = DocumentWriter("plain_text", FormatConfig(), fim).pieces([{"text": "a long text"}], 1)
    assert (Special.FIM_PREFIX in pieces) == (not source_code_only)
    assert pieces[-1] == Special.END_OF_TEXT


def test_the_documents_of_a_row_group_come_in_an_order_of_chance(untokenized: FeedInputs) -> None:
    unit = open_sources(untokenized)[0].units[1]
    writer, orders = DocumentWriter("repository", FormatConfig(), FimConfig()), set()
    for rendering in range(10):
        key = rendering_key(1, "s", rendering, 1)
        assert key == (1, "s", rendering, 1)
        found = list(unit_tokens(unit, writer, untokenized.tokenizer, key))
        order = keyed_generator("documents", *key).permutation(len(unit)).tolist()
        orders.add(tuple(order))
        assert len(found) == len(unit) == 3
        for ids, number in zip(found, order, strict=True):
            assert ids.dtype == np.int32
            assert ids.tolist() == untokenized.tokenizer.encode(writer.pieces(unit[number], *key, number))
    assert len(orders) > 3
