"""Numbers of the feed's and the text's settings: those that are taken can be used, all others are refused."""

import dataclasses
from typing import Any

import pytest
from feed_corpora import Lay, Open

from sc2jax.errors import UserError
from sc2jax.feed.config import FeedConfig, ShowConfig, TokenizeConfig
from sc2jax.feed.rows import Rows
from sc2jax.settings import declared
from sc2jax.text.config import FimConfig, FormatConfig, TokenizerConfig
from sc2jax.text.train_tokenizer import train_tokenizer

SECTIONS = (FeedConfig, TokenizeConfig, ShowConfig, TokenizerConfig, FormatConfig, FimConfig)
NUMBERS = [
    (section, name)
    for section in SECTIONS
    for name, _ in declared(section)
    if type(getattr(section(), name)) in (int, float)
]


@pytest.mark.parametrize(("section", "name"), NUMBERS)
@pytest.mark.parametrize("value", [10**20, 2**40, -1, -(2**63), float("nan"), float("inf"), -1e-320, 1e308])
def test_numbers_that_nobody_means_are_refused(section: Any, name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{name} is .*; it must be "):
        section(**{name: value})


def test_there_are_numbers_in_every_section_of_them() -> None:
    assert len(NUMBERS) == 14
    for section, name in NUMBERS:
        setting = dict(declared(section))[name]
        assert setting.at_least is not None
        assert setting.at_most is not None


@pytest.mark.parametrize("bad", [{"damaged": "mend"}, {"prefetch": 0}, {"mixture": ""}])
def test_bad_settings_of_the_feed(bad: dict) -> None:
    with pytest.raises(UserError, match=rf"feed\.{next(iter(bad))} "):
        FeedConfig(**bad)


def test_bad_settings_of_the_feed_s_verbs() -> None:
    with pytest.raises(UserError, match=r"tokenize\.renderings"):
        TokenizeConfig(renderings=0)
    with pytest.raises(UserError, match=r"show\.step"):
        ShowConfig(step=-1)
    with pytest.raises(UserError, match=r"show\.row"):
        ShowConfig(row=-1)


def test_the_greatest_numbers_of_the_feed_can_be_used(open_feed: Open, inputs: Any) -> None:
    config = dataclasses.replace(inputs.config, prefetch=1024)
    assert next(open_feed(batch_size=1, config=config))["tokens"].shape == (1, 64)


@pytest.mark.parametrize("field", ["metadata_rate", "size_optimized_rate", "code_first_rate"])
@pytest.mark.parametrize("value", [0.0, 1e-320, 1.0])
def test_the_least_and_the_greatest_rates_can_be_used(lay: Lay, field: str, value: Any) -> None:
    inputs = lay(formats=FormatConfig(**{field: value}))
    rows = Rows(inputs)
    assert rows.read(rows.places(0, 4)).counts.shape == (4, 5)


@pytest.mark.parametrize("value", [0.0, 1e-320, 1.0])
def test_the_least_and_the_greatest_rates_of_infilling_can_be_used(lay: Lay, value: float) -> None:
    for level in ("context", "document"):
        rows = Rows(lay(fim=FimConfig(level=level, rate=value, file_rate=value, spm_rate=value, line_rate=value)))
        assert rows.read(rows.places(0, 4)).counts.shape == (4, 5)


def test_the_numbers_of_the_tokenizer_at_their_limits() -> None:
    greatest = TokenizerConfig(vocab_size=2**24, max_training_bytes=2**36, character_coverage=1.0)
    with pytest.raises(UserError, match="the corpus is too small for a vocabulary of 16777216 tokens"):
        train_tokenizer(["some words"], greatest, seed=0)
    with pytest.raises(UserError, match="a vocabulary of 296 tokens is too small for the characters"):
        train_tokenizer(["some words"], TokenizerConfig(vocab_size=296, character_coverage=0.98), seed=0)
    with pytest.raises(UserError, match=r"max_training_bytes 1 is less than any text"):
        train_tokenizer(["some words"], TokenizerConfig(max_training_bytes=1), seed=0)
