import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_corpora import Open, Repositories, make_repositories, split_units, write_corpus
from sc2jax.feed.cache import token_config, token_inputs, write_tokens

from sc2jax.errors import UserError
from sc2jax.feed.batches import Batches
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.packing import FEATURES
from sc2jax.feed.sources import FeedInputs, open_documents
from sc2jax.records.manifest import Manifest, commit
from sc2jax.text.config import FimConfig, FormatConfig


def tokenize(inputs: FeedInputs, folder: Path, epochs: int) -> str:
    sources = open_documents(inputs, read_mixture("repositories"))
    outputs, statistics = write_tokens(str(folder), sources, epochs)
    assert statistics["epochs"] == epochs
    manifest = Manifest("tokenize", token_inputs(sources), token_config(sources), tuple(outputs), statistics)
    commit(str(folder), manifest)
    return str(folder)


def cached(inputs: FeedInputs, tokens: str) -> dict[str, Any]:
    return {"config": dataclasses.replace(inputs.config, tokenized=True), "tokens": tokens}


def units_read(feed: Batches) -> float:
    return feed.statistics(feed.state())["sources"]["source_code"]["epochs"]


@pytest.mark.parametrize("level", ["context", "document", "off"])
def test_rows_are_those_of_a_feed_that_encodes_on_the_way(
    open_feed: Open, inputs: FeedInputs, tmp_path: Path, level: str
) -> None:
    inputs = dataclasses.replace(inputs, fim=FimConfig(level=level))
    tokens = tokenize(inputs, tmp_path, epochs=5)  # streams do not stay together
    live, from_cache = open_feed(fim=inputs.fim), open_feed(fim=inputs.fim, **cached(inputs, tokens))
    while units_read(live) < 2:
        expected, found = next(live), next(from_cache)
        for name in FEATURES:
            np.testing.assert_array_equal(found[name], expected[name])
    state = from_cache.state()
    again = open_feed(fim=inputs.fim, **cached(inputs, tokens))
    again.restore(state)
    np.testing.assert_array_equal(next(again)["tokens"], next(live)["tokens"])


def test_with_fewer_renderings_epochs_take_them_again(open_feed: Open, inputs: FeedInputs, tmp_path: Path) -> None:
    fim = FimConfig(level="off")
    feed = open_feed(
        fim=fim, batch_size=1, **cached(inputs, tokenize(dataclasses.replace(inputs, fim=fim), tmp_path, 1))
    )
    documents: list[tuple[int, ...]] = []
    tokens: list[int] = []
    while units_read(feed) < 2:
        tokens += next(feed)["tokens"][0].tolist()
    start = 0
    for end in np.flatnonzero(np.array(tokens) == 0):
        documents.append(tuple(tokens[start : end + 1]))
        start = end + 1
    # 23 repositories; of the second pass the last may be unfinished.
    assert set(documents[23:45]) <= set(documents[:23])
    assert documents[:20] != documents[23:43]


def test_stale_tokens_are_refused(
    open_feed: Open, inputs: FeedInputs, repositories: Repositories, tmp_path: Path
) -> None:
    tokens = tokenize(inputs, tmp_path / "tokens", epochs=1)
    other = write_corpus(tmp_path / "corpus", [split_units(repositories, 4)])
    arguments = cached(inputs, tokens)
    open_feed(**arguments)
    # At context level infilling is not in the tokens.
    open_feed(**arguments, fim=FimConfig(level="off"))
    for changes, what in (
        ({"seed": 9}, "seed differ"),
        ({"corpus": other}, "corpus/source_code differ"),
        ({"formats": FormatConfig(metadata_rate=0.1)}, "format differ"),
        ({"fim": FimConfig(level="document")}, "fim differ"),
        ({"tokenizer": dataclasses.replace(inputs.tokenizer, digest="another")}, "tokenizer differ"),
    ):
        with pytest.raises(UserError, match=rf"were made of something else: {what}; run `sc2jax tokenize` again"):
            open_feed(**arguments, **changes)
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        open_feed(**cached(inputs, str(tmp_path / "nowhere")))


def test_damaged_tokens_end_in_one_message(open_feed: Open, inputs: FeedInputs, tmp_path: Path) -> None:
    tokens = tokenize(inputs, tmp_path, epochs=1)
    part = next(tmp_path.glob("source_code/epoch-00000/*.parquet"))
    content = bytearray(part.read_bytes())
    content[200:240] = bytes(40)
    part.write_bytes(content)
    feed = open_feed(**cached(inputs, tokens))
    with pytest.raises(UserError, match="is damaged"):
        for _ in range(200):
            next(feed)


def test_missing_tokens_may_be_skipped(open_feed: Open, inputs: FeedInputs, tmp_path: Path) -> None:
    """Of 70 units the tokens of 64 are in one part, and of the other six in another."""
    corpus = write_corpus(tmp_path / "corpus", [split_units(make_repositories(70, longest=8), 1)])
    inputs = dataclasses.replace(inputs, corpus=corpus)
    changes: dict[str, Any] = cached(inputs, tokenize(inputs, tmp_path / "tokens", epochs=1)) | {"corpus": corpus}
    next((tmp_path / "tokens").rglob("part-00001-*.parquet")).unlink()
    with pytest.raises(UserError, match="is missing"):
        open_feed(**changes)
    changes["config"] = dataclasses.replace(changes["config"], damaged="skip")
    feed = open_feed(batch_size=1, fim=FimConfig(level="off"), **changes)
    while units_read(feed) < 2:
        next(feed)
    assert 6 <= feed.statistics(feed.state())["damaged_units"] <= 12
