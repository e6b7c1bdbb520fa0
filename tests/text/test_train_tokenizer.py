import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.errors import UserError
from sc2jax.text.config import TokenizerConfig
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer
from sc2jax.text.train_tokenizer import sample_texts, train_tokenizer


def test_training_is_deterministic_to_the_bit_and_independent_of_order(training_texts: list[str]) -> None:
    config = TokenizerConfig(vocab_size=600, max_training_bytes=200_000)
    texts = training_texts[:4]
    first = train_tokenizer(iter(texts), config, seed=0)
    assert train_tokenizer(iter(texts[::-1]), config, seed=0) == first


def test_it_compresses(sentencepiece_tokenizer: Tokenizer, training_texts: list[str]) -> None:
    assert sentencepiece_tokenizer.vocab_size == 1024
    text = "".join(training_texts)
    assert len(text) / len(sentencepiece_tokenizer.encode_text(text)) > 2.3


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_text(texts: list[str]) -> None:
    with pytest.raises(UserError, match="no text to train"):
        train_tokenizer(texts, TokenizerConfig(), seed=0)


def test_too_little_text_names_the_greatest_vocabulary() -> None:
    with pytest.raises(UserError, match=r"(\d+) is the greatest possible") as caught:
        train_tokenizer(["hello world\n"], TokenizerConfig(vocab_size=4096), seed=0)
    greatest = int(str(caught.value).split(" is the greatest")[0].split()[-1])
    train_tokenizer(["hello world\n"], TokenizerConfig(vocab_size=greatest), seed=0)


def test_too_many_characters_for_the_vocabulary() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4F00)))
    with pytest.raises(UserError, match="too small for the characters of the corpus"):
        train_tokenizer([text], TokenizerConfig(vocab_size=400, character_coverage=1.0), seed=0)


@given(texts=st.lists(st.text(max_size=20), max_size=30), limit=st.integers(20, 100), seed=st.integers(0, 3))
def test_the_sample_is_bounded_and_independent_of_order(texts: list[str], limit: int, seed: int) -> None:
    texts = [text for text in texts if len(text.encode(errors="replace")) <= limit]
    sample = sample_texts(texts, limit, seed)
    assert sum(len(text.encode()) for text in sample) <= limit
    shuffled = random.Random(seed).sample(texts, len(texts))
    assert sample_texts(shuffled, limit, seed) == sample


def test_duplicates_count_once() -> None:
    texts = [f"text {index}" for index in range(10)]
    assert sorted(sample_texts(texts * 3, 60, seed=0)) == texts
    # Also where the sample has no room for every text, and one that was dropped comes again.
    assert sample_texts(texts * 3, 30, seed=0) == sample_texts(texts, 30, seed=0)
    assert len(set(sample_texts(texts, 30, seed=0))) == 5


def test_half_a_character_is_replaced() -> None:
    assert sample_texts(["a\ud800"], 60, seed=0) == ["a?"]


def test_another_seed_draws_another_sample() -> None:
    texts = [f"text {index:04d}" for index in range(1000)]
    drawn = sample_texts(texts, 900, seed=0)
    assert len(drawn) == 100
    assert set(drawn) != set(sample_texts(texts, 900, seed=1))
    # A choice by content is fair: about half comes from each half of the corpus.
    assert 30 < sum(text < "text 0500" for text in drawn) < 70


def test_a_text_longer_than_the_limit_is_left_out() -> None:
    assert sample_texts(["a" * 50], 50, seed=0) == ["a" * 50]
    assert sample_texts(["a" * 100, "b"], 50, seed=0) == ["b"]
    with pytest.raises(UserError, match="less than any text"):
        sample_texts(["a" * 100], 50, seed=0)


@pytest.mark.parametrize(
    "bad",
    [
        {"vocab_size": 295},
        {"max_training_bytes": 0},
        {"character_coverage": 0.979},
        {"vocab_size": 10**20},
        {"max_training_bytes": 2**40},
    ],
)
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(UserError):
        TokenizerConfig(**bad)


def test_the_smallest_vocabulary_has_one_token_beside_those_that_must_be_there() -> None:
    assert TokenizerConfig(vocab_size=38 + 1 + 256 + 1).vocab_size == 296


ODD = [
    "a",
    "\n",
    "\n\n",
    " ",
    "\x00",
    "\t",
    "1",
    "é",
    "\U0001f600",
    "\u2581",
    "\x10",
    "<unk>",
    "<file_sep>",
    "\r\n",
    "中文",
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def trained(texts: list[str], folder: Path) -> Tokenizer:
    """A tokenizer of the greatest vocabulary that a corpus allows, in which every character has a token."""
    with pytest.raises(UserError, match="the corpus is too small") as caught:
        train_tokenizer(texts, TokenizerConfig(vocab_size=4096, character_coverage=1.0), seed=0)
    greatest = int(re.findall(r"at most (\d+)", str(caught.value))[0])
    path = folder / "tokenizer.model"
    path.write_bytes(train_tokenizer(texts, TokenizerConfig(greatest, character_coverage=1.0), seed=0))
    return load_tokenizer(str(path))


@given(texts=st.lists(st.sampled_from(ODD) | ANY_TEXT.filter(bool), min_size=1, max_size=3), other=ANY_TEXT)
@settings(max_examples=25)
def test_any_corpus_of_a_character_trains_a_tokenizer_that_can_be_opened(
    texts: list[str], other: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = trained(texts, tmp_path_factory.mktemp("any"))
    for text in (*texts, other, f" {other} a  b\n"):
        assert tokenizer.decode(tokenizer.encode_text(text)) == text


@pytest.mark.parametrize("text", ODD)
def test_a_corpus_of_one_short_text(text: str, tmp_path: Path) -> None:
    tokenizer = trained([text], tmp_path)
    assert len(tokenizer.encode_text(" ")) == 1, "a space has a token of its own"


def test_a_space_has_a_token_however_rare_it_is(tmp_path: Path) -> None:
    """By its share of the characters it would be among those that have none."""
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train_tokenizer(["ab" * 10_000 + " "], TokenizerConfig(300, character_coverage=0.98), seed=0))
    assert len(load_tokenizer(str(path)).encode_text(" ")) == 1
