"""Decoding one id at a time, and both kinds of vocabulary against the libraries that made them."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.errors import UserError
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# Any numbers, taken modulo the vocabulary: halves of characters and special tokens in the midst of them.
ANY_IDS = st.lists(st.integers(0, 2**20) | st.integers(0, 400), max_size=40)


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(token) for token in ids), stream.finish()]


def check(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@given(ids=ANY_IDS)
@settings(max_examples=300)
def test_pieces_join_to_the_text_of_any_ids_with_sentencepiece(sentencepiece_tokenizer: Tokenizer, ids) -> None:
    check(sentencepiece_tokenizer, [token % sentencepiece_tokenizer.vocab_size for token in ids])


@given(ids=ANY_IDS)
@settings(max_examples=300)
def test_pieces_join_to_the_text_of_any_ids_with_starcoder2(starcoder2_tokenizer: Tokenizer, ids) -> None:
    check(starcoder2_tokenizer, [token % starcoder2_tokenizer.vocab_size for token in ids])


@given(text=ANY_TEXT | st.text(st.sampled_from("\x10\x11\x12▁a é😀")))
@settings(max_examples=200)
def test_no_piece_of_a_text_holds_half_a_character(sentencepiece_tokenizer: Tokenizer, text) -> None:
    pieces = streamed(sentencepiece_tokenizer, sentencepiece_tokenizer.encode_text(text))
    assert "".join(pieces) == text
    place = 0
    for piece in pieces:
        assert text.startswith(piece, place)
        place += len(piece)


def test_characters_appear_with_their_last_byte(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_text("😀")
    assert len(ids) > 1
    assert streamed(tokenizer, ids) == [*[""] * (len(ids) - 1), "😀", ""]
    assert streamed(tokenizer, ids[:-1])[-1] == tokenizer.decode(ids[:-1])
    assert streamed(tokenizer, [ids[0], Special.FILE_SEP, *ids])[1] == "\ufffd" + Special.FILE_SEP.literal


def test_ids_outside_of_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="outside of the vocabulary"):
        tokenizer.stream().push(tokenizer.vocab_size)


@given(text=ANY_TEXT)
@settings(max_examples=200)
def test_sentencepiece_reads_its_ids_as_the_library_does(model_file, sentencepiece_tokenizer, text) -> None:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    plain = text.replace("▁", "").replace("\x10", "")
    ids = sentencepiece_tokenizer.encode_text(plain)
    assert ids == processor.encode(plain)
    assert sentencepiece_tokenizer.decode(ids) == processor.decode(ids) == plain


@pytest.fixture(scope="module")
def library(starcoder2_tokenizer):
    import tokenizers

    model = tokenizers.Tokenizer.from_file(os.environ["SC2JAX_TOKENIZER"])
    model.encode_special_tokens = True  # or a text such as <NAME> would become a special token
    return model


@given(text=ANY_TEXT)
@settings(max_examples=200)
def test_any_text_has_the_ids_that_the_library_gives_it(library, starcoder2_tokenizer, text) -> None:
    ids = starcoder2_tokenizer.encode_text(text)
    assert ids == library.encode(text, add_special_tokens=False).ids
    assert starcoder2_tokenizer.decode(ids) == library.decode(ids, skip_special_tokens=False)


def test_source_code_has_the_ids_that_the_library_gives_it(library, starcoder2_tokenizer, training_texts) -> None:
    for text in training_texts:
        if not any(token.literal in text for token in Special):
            assert starcoder2_tokenizer.encode_text(text) == library.encode(text).ids


@given(ids=ANY_IDS)
@settings(max_examples=200)
def test_any_ids_have_the_text_that_the_library_gives_them(library, starcoder2_tokenizer, ids) -> None:
    plain = [len(Special) + token % (starcoder2_tokenizer.vocab_size - len(Special)) for token in ids]
    assert starcoder2_tokenizer.decode(plain) == library.decode(plain, skip_special_tokens=False)


def test_a_vocabulary_that_is_not_byte_level_is_refused(tmp_path) -> None:
    import tokenizers

    vocabulary = {token.literal: int(token) for token in Special} | {"字": len(Special)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    model.add_special_tokens([token.literal for token in Special])
    model.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="no byte-level BPE: the character '字'"):
        load_tokenizer(str(tmp_path / "tokenizer.json"))
