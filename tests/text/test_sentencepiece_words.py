"""SentencePiece by words, against the library's encoding of the whole text."""

import io
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.text.config import TokenizerConfig
from sc2jax.text.sentencepiece_words import word_encoder
from sc2jax.text.train_tokenizer import train_tokenizer

TEXTS = [
    "def total(items, start=0):\n    for item in items:\n        start += item.price\n    return start\n",
    "class Écluse:\n    '''Voilà: la clé, à côté.'''\n    x_1 = [\"a\"] * 22\n\n\n\treturn  _x  # 中文注释 ok\n",
]
WORDS = [
    "total",
    " items",
    "\n",
    "    ",
    "_",
    "x_1",
    "é",
    "É",
    "a",
    "中文",
    "😀",
    "(",
    "):",
    " ",
    "\t",
    "1",
    "\u0300",
    "\x10\x11",
]


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    """As `sc2jax tokenizer` trains it."""
    config = TokenizerConfig(vocab_size=420)
    return sentencepiece.SentencePieceProcessor(model_proto=train_tokenizer(TEXTS * 5, config, seed=0))


def train_other(**options: Any) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=model,
        vocab_size=380,
        model_type="bpe",
        minloglevel=2,
        hard_vocab_limit=False,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def test_words_are_encoded_one_by_one(processor: sentencepiece.SentencePieceProcessor) -> None:
    encode = word_encoder(processor)
    assert encode != processor.encode
    for text in (*TEXTS, "", " ", "a" * 1000 + "(" * 1000 + " " * 1000 + "é" * 1000):
        assert encode(text) == processor.encode(text)


@settings(max_examples=400)
@given(text=st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=30).map("".join))
def test_ids_are_those_of_the_whole_text(processor: sentencepiece.SentencePieceProcessor, text: str) -> None:
    encode = word_encoder(processor)
    assert encode(text) == processor.encode(text)
    assert encode(text) == processor.encode(text)  # from what is remembered


@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": True},  # adds a space before a text and leaves others out
        {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False},
        {
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "split_by_whitespace": False,
            "split_by_unicode_script": False,
        },
    ],
    ids=["as it is", "a space before", "unknown characters", "tokens across words"],
)
def test_other_models_encode_texts_as_a_whole(options: dict[str, Any]) -> None:
    processor = train_other(**options)
    assert word_encoder(processor) == processor.encode
