"""Tokens that are not those of the inputs are refused wherever rows are read, and not by the command line alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_corpora import Lay, laid, make_repositories, numbered, split_units, write_corpus

from sc2jax.errors import UserError
from sc2jax.feed import flat_tokens
from sc2jax.feed.batches import open_batches
from sc2jax.feed.rows import Rows
from sc2jax.feed.show import read_row
from sc2jax.feed.sources import FeedInputs
from sc2jax.records.manifest import Manifest, commit, read_manifest
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.text.train_tokenizer import TokenizerConfig, train_tokenizer


def test_what_differs_is_named(inputs: FeedInputs, tmp_path: Path) -> None:
    other = tmp_path / "other.model"
    other.write_bytes(train_tokenizer(["def f(x): return x\n" * 50], TokenizerConfig(vocab_size=320), seed=0))
    corpus = write_corpus(tmp_path / "corpus", [split_units(make_repositories(5, seed=3), 3)])
    mixture = tmp_path / "files.json"
    mixture.write_text(json.dumps({"sources": [{"name": "source_code", "format": "file", "share": 1}]}))
    both = tmp_path / "both.json"
    sources = [{"name": name, "format": "repository", "share": 1} for name in ("source_code", "more")]
    both.write_text(json.dumps({"sources": sources}))
    config = inputs.config
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tokenizer": load_tokenizer(str(other))}, "tokenizer"),
        ({"seed": 2}, "seed"),
        ({"corpus": corpus}, "corpus"),
        ({"formats": FormatConfig(metadata_rate=1.0)}, "format"),
        ({"fim": FimConfig(level="document")}, "fim"),
        ({"config": dataclasses.replace(config, mixture=str(mixture))}, "source source_code"),
        ({"config": dataclasses.replace(config, mixture=str(both))}, "source more"),
    ]
    for change, named in cases:
        changed = dataclasses.replace(inputs, **change)
        message = rf"were made with another {named}; run `sc2jax tokenize` to make them anew"
        for read in (lambda: Rows(changed), lambda: open_batches(changed, 2), lambda: read_row(changed, 2, 0, 0, "")):  # noqa: B023
            with pytest.raises(UserError, match=message):
                read()


def test_whole_tokens_serve_whatever_was_to_become_of_damage(lay: Lay, inputs: FeedInputs) -> None:
    skip = dataclasses.replace(inputs.config, damaged="skip")
    skipping = lay(config=skip)  # nothing was damaged
    assert read_manifest(skipping.tokens).config["skip_damaged"]
    for config, tokens in ((inputs.config, skipping.tokens), (skip, inputs.tokens)):
        Rows(dataclasses.replace(inputs, config=config, tokens=tokens))


def test_tokens_of_which_something_was_left_out_are_not_taken_for_whole(
    untokenized: FeedInputs, tmp_path: Path
) -> None:
    units = split_units(make_repositories(9, seed=4), 3)
    corpus = Path(write_corpus(tmp_path / "corpus", [units[:1], units[1:]]))
    (part,) = (corpus / "train").glob("part-00000-*")
    part.write_bytes(part.read_bytes()[:-40])
    skip = dataclasses.replace(untokenized.config, damaged="skip")
    inputs = laid(dataclasses.replace(untokenized, corpus=str(corpus), config=skip), str(tmp_path / "tokens"))
    Rows(inputs)
    with pytest.raises(UserError, match=r"made with another feed\.damaged; "):
        Rows(dataclasses.replace(inputs, config=untokenized.config))


@pytest.mark.parametrize(
    "statistics",
    [
        {},
        {"sources": []},
        {"sources": {}},
        {"sources": {"source_code": {"tokens": [], "left_out": {}, "damaged_units": 0}}},
        {"sources": {"source_code": {"tokens": [5], "left_out": {}}}},
        {"sources": {"source_code": {"tokens": "5", "left_out": {}, "damaged_units": 0}}},
    ],
)
def test_statistics_of_another_shape_end_in_one_message(
    inputs: FeedInputs, tmp_path: Path, statistics: dict[str, Any]
) -> None:
    manifest = dataclasses.replace(read_manifest(inputs.tokens), statistics=statistics)
    commit(str(tmp_path), manifest)
    with pytest.raises(UserError, match=r"manifest\.json|holds no tokens"):
        Rows(dataclasses.replace(inputs, tokens=str(tmp_path)))


def test_the_folder_of_another_stage_is_none_of_tokens(inputs: FeedInputs, tmp_path: Path) -> None:
    commit(str(tmp_path), Manifest("curate", {}, {}, (), {}))
    with pytest.raises(UserError, match=r"manifest\.json is damaged: .*; name a folder that `sc2jax tokenize` wrote"):
        Rows(dataclasses.replace(inputs, tokens=str(tmp_path)))


def test_a_token_beyond_the_vocabulary_is_named(flat: Any) -> None:
    inputs = flat({"a": [numbered(100)]}, row_length=16, vocab_size=2**17)
    small = dataclasses.replace(inputs.tokenizer, vocab_size=150)
    rows = Rows(dataclasses.replace(inputs, tokenizer=dataclasses.replace(small, vocab_size=2**16 + 1)))
    assert rows.read(rows.places(0, 6)).features["tokens"].max() < 200
    wide = dataclasses.replace(inputs, tokenizer=dataclasses.replace(inputs.tokenizer, vocab_size=2**16 + 1))
    rows = Rows(wide)
    object.__setattr__(wide.tokenizer, "vocab_size", 150)
    with pytest.raises(UserError, match=r"a has a token 1\d\d, beyond the tokenizer's vocabulary of 150"):
        rows.read(rows.places(0, 6))


@pytest.mark.parametrize("length", [0, -1])
def test_a_row_of_no_tokens_is_refused(inputs: FeedInputs, length: int) -> None:
    with pytest.raises(UserError, match="use 1 or more"):
        Rows(dataclasses.replace(inputs, row_length=length))


def test_a_row_of_one_token(inputs: FeedInputs) -> None:
    rows = Rows(dataclasses.replace(inputs, row_length=1, fim=FimConfig(level="off")))
    found = rows.read(rows.places(0, 50)).features
    assert found["tokens"].shape == (50, 1)
    assert rows.sources[0].windows == [len(rows.sources[0].renderings[0])]


def test_a_pipe_in_the_place_of_tokens_is_missing(flat: Any) -> None:
    """TensorStore would wait for it without end."""
    import os

    inputs = flat({"a": [numbered(100)]}, row_length=16)
    (shard,) = Path(inputs.tokens).rglob("c/0")
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(UserError, match="the file is damaged or missing"):
        Rows(inputs)
    rows = Rows(dataclasses.replace(inputs, config=dataclasses.replace(inputs.config, damaged="skip")))
    made = rows.read(rows.places(0, 6))
    assert made.counts[:, 3].tolist() == [1] * 6
    assert not np.any(made.features["weights"])


@pytest.mark.parametrize("folder", ["/tmp/a\\b", "/tmp/a\udc80b"])
def test_a_folder_that_tensorstore_takes_for_another(folder: str) -> None:
    with pytest.raises(UserError, match="TensorStore opens no path with a backslash or bytes that are no UTF-8"):
        flat_tokens._kvstore(folder)
