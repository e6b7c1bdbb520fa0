"""The tokenizer.json of a SentencePiece model, opened by the library `tokenizers`, against SentencePiece itself."""

import json
import random
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.errors import UserError
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer
from sc2jax.text.tokenizer_json import tokenizer_config_json, tokenizer_json


@pytest.fixture(scope="module")
def written(model_file: Path) -> tokenizers.Tokenizer:
    content = tokenizer_json(str(model_file), model_file.read_bytes())
    tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    tokenizer.encode_special_tokens = True  # as of ours, in which no text can spell a special token
    return tokenizer


def assert_same(ours: Tokenizer, written: tokenizers.Tokenizer, text: str) -> None:
    ids = written.encode(text).ids
    assert ids == ours.encode_text(text)
    assert written.decode(ids, skip_special_tokens=False) == text


@given(
    text=st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from("\x10\x11\x12\u2581<0x41> a\n="))
)
@settings(max_examples=300, deadline=None)
def test_any_text(sentencepiece_tokenizer: Tokenizer, written: tokenizers.Tokenizer, text: str) -> None:
    assert_same(sentencepiece_tokenizer, written, text)


def test_source_code(
    sentencepiece_tokenizer: Tokenizer, written: tokenizers.Tokenizer, training_texts: list[str]
) -> None:
    unseen = [Path(module.__file__).read_text() for module in (random, tokenizers) if module.__file__]
    for text in [training_texts[0], training_texts[5], *unseen, Path(__file__).read_text()]:
        assert_same(sentencepiece_tokenizer, written, text)


def test_pieces_in_every_company(sentencepiece_tokenizer: Tokenizer, written: tokenizers.Tokenizer) -> None:
    ours = sentencepiece_tokenizer
    pieces = [ours.decode([token]) for token in range(len(Special) + 1 + 256, ours.vocab_size)]
    generator = random.Random(0)
    for _ in range(2000):
        assert_same(ours, written, "".join(generator.choices(pieces, k=generator.randint(2, 8))))
    # Runs, where the cuts of one piece overlap.
    for character in {character for piece in pieces for character in piece}:
        for length in range(2, 40):
            assert_same(ours, written, f"x{character * length}\n")


def test_special_tokens_have_their_ids(written: tokenizers.Tokenizer) -> None:
    assert [written.token_to_id(token.literal) for token in Special] == [int(token) for token in Special]
    again = tokenizers.Tokenizer.from_str(written.to_str())
    again.encode_special_tokens = False
    assert again.encode(f"a{Special.FIM_PREFIX.literal}").ids[-1] == Special.FIM_PREFIX


def test_a_model_of_another_kind_is_refused(tmp_path: Path, training_texts: list[str]) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("".join(training_texts).split("\n")),
        model_prefix=str(tmp_path / "unigram"),
        model_type="unigram",
        vocab_size=1024,
        control_symbols=[token.literal for token in Special],
        unk_id=len(Special),
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    path = tmp_path / "unigram.model"
    assert load_tokenizer(str(path)).vocab_size == 1024
    with pytest.raises(UserError, match=r"cannot be written as tokenizer\.json"):
        tokenizer_json(str(path), path.read_bytes())


def test_transformers_is_told_to_leave_spaces_as_they_are() -> None:
    assert json.loads(tokenizer_config_json()) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }
