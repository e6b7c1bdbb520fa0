import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from sc2jax.errors import UserError
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer, escape, load_tokenizer, unescape

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# StarCoder2's released vocabulary has no token for the lead byte of these code points, all unassigned.
LOSSY = range(0x40000, 0x80000)
AWKWARD = [
    "a\tb\t\n", "a\r\nb\r", "\x00", "\x00\x00a", "😀👩‍👩‍👧", "\ufeffx = 1", "▁", "▁▁ ▁a ", "▅", "⁇", " ⁇ ", "\x10",
    "\x10\x11▁\x10\x12",
    "  x  ", " ", "", "\n\n\n", "\u2028\x85\u00a0", "\ufffd", "\ufdd0\uffff", "\U0010ffff",
    "é e\u0301", "ﬁ ℡ Å", "x" * 5000, " " * 5000,
]  # fmt: skip


def assert_lossless(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode_text(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.pieces(ids) == ([text] if text else [])
    assert all(len(Special) <= token < tokenizer.vocab_size for token in ids)


@given(text=ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_from_sentencepiece(sentencepiece_tokenizer: Tokenizer, text: str) -> None:
    assert_lossless(sentencepiece_tokenizer, text)


@given(text=ANY_TEXT.filter(lambda text: not any(ord(character) in LOSSY for character in text)))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_from_starcoder2(starcoder2_tokenizer: Tokenizer, text: str) -> None:
    assert_lossless(starcoder2_tokenizer, text)


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_come_back(tokenizer: Tokenizer, text: str) -> None:
    assert_lossless(tokenizer, text)


def test_every_plane_comes_back(sentencepiece_tokenizer: Tokenizer) -> None:
    for start in range(0, 0x110000, 0x1000):
        if not 0xD800 <= start < 0xE000:
            assert_lossless(sentencepiece_tokenizer, "".join(map(chr, range(start, start + 64))))


@given(text=ANY_TEXT | st.text(st.sampled_from("\x10\x11\x12▁a ")))
def test_escaping_is_reversible_and_removes_the_space_symbol(text: str) -> None:
    assert "▁" not in escape(text)
    assert unescape(escape(text)) == text


@pytest.mark.parametrize("token", list(Special))
def test_special_tokens_have_their_ids_and_cannot_be_forged(tokenizer: Tokenizer, token: Special) -> None:
    assert tokenizer.encode([token]) == [int(token)]
    assert tokenizer.decode([int(token)]) == token.literal
    for text in (token.literal, f"x = '{token.literal}'\n", token.literal * 3, f" {token.literal} "):
        assert_lossless(tokenizer, text)
        assert tokenizer.pieces(tokenizer.encode([token, text, token])) == [token, text, token]


@pytest.mark.parametrize("text", ["<unk>", "<s>", "</s>", "<0x41>", "<pad>"])
def test_names_of_sentencepiece_symbols_are_text(tokenizer: Tokenizer, text: str) -> None:
    assert_lossless(tokenizer, text)


@given(
    pieces=st.lists(
        st.sampled_from(list(Special)) | st.text(st.characters(codec="utf-8", max_codepoint=0x2FFFF), min_size=1)
    )
)
@settings(max_examples=200, deadline=None)
def test_pieces_invert_encoding(sentencepiece_tokenizer: Tokenizer, pieces: list[Piece]) -> None:
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, str) and not isinstance(piece, Special) and isinstance(last, str):
            joined[-1] = last + piece
        else:
            joined.append(piece)
    ids = sentencepiece_tokenizer.encode(pieces)
    assert sentencepiece_tokenizer.pieces(ids) == joined
    assert sentencepiece_tokenizer.decode(ids) == "".join(
        piece.literal if isinstance(piece, Special) else piece for piece in pieces
    )


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_text("1234567890")
    assert [tokenizer.decode([token]) for token in ids] == list("1234567890")


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="character 1 is half of a surrogate pair"):
        tokenizer.encode_text("a\ud800")


def test_ids_outside_of_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match="outside of the vocabulary"):
            tokenizer.decode([token])


def test_starcoder2_vocabulary(starcoder2_tokenizer: Tokenizer) -> None:
    assert starcoder2_tokenizer.vocab_size == 49152
    # Newline and indentation are one token: the pre-tokenizer is that of GPT-2.
    ids = starcoder2_tokenizer.encode_text("def f():\n    return 1")
    assert [starcoder2_tokenizer.decode([token]) for token in ids] == ["def", " f", "():", "\n   ", " return", " ", "1"]


def test_missing_damaged_and_foreign_files(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(UserError, match="there is no tokenizer at"):
        load_tokenizer(str(tmp_path / "none.model"))
    content = model_file.read_bytes()
    for name, damaged in (
        ("empty.model", b""),
        ("cut.model", content[:1000]),
        ("junk.json", b"{"),
        ("bin.json", b"\xff"),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            load_tokenizer(str(tmp_path / name))
    (tmp_path / "tokenizer.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"should end in \.model"):
        load_tokenizer(str(tmp_path / "tokenizer.txt"))
    foreign = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    (tmp_path / "foreign.json").write_text(json.dumps(foreign))
    with pytest.raises(UserError, match="its id 0 is not"):
        load_tokenizer(str(tmp_path / "foreign.json"))


def byte_level(forgeable: Sequence[Special] = ()) -> tokenizers.Tokenizer:
    """A tokenizer of the special tokens and one token for each byte."""
    # The 256 characters that stand for bytes (GPT-2), behind the special tokens.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(code) for code in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]
    words = [token.literal for token in Special] + characters
    tokenizer = tokenizers.Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for token in Special:
        added = tokenizers.AddedToken(token.literal, normalized=False, special=token not in forgeable)
        (tokenizer.add_tokens if token in forgeable else tokenizer.add_special_tokens)([added])
    return tokenizer


def test_a_byte_level_file_whose_special_tokens_text_can_forge_is_refused(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "right.json"))
    tokenizer = load_tokenizer(str(tmp_path / "right.json"))
    for token in Special:
        assert_lossless(tokenizer, f"é {token.literal}\n")
    byte_level([Special.FILE_SEP]).save(str(tmp_path / "wrong.json"))
    with pytest.raises(UserError, match="makes a special token of text that spells <file_sep>"):
        load_tokenizer(str(tmp_path / "wrong.json"))


def test_what_a_byte_level_file_adds_or_cuts_off_is_left_alone(tmp_path: Path) -> None:
    """A file may ask for special tokens around each text, and for one length of all texts."""
    tokenizer = byte_level()
    end = Special.END_OF_TEXT.literal
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{end} $A", special_tokens=[(end, 0)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8, pad_id=int(Special.FIM_PAD), pad_token=Special.FIM_PAD.literal)
    tokenizer.save(str(tmp_path / "adding.json"))
    loaded = load_tokenizer(str(tmp_path / "adding.json"))
    for text in ("abc", "abcdefghijkl"):
        assert_lossless(loaded, text)
        assert len(loaded.encode_text(text)) == len(text)


SWALLOWING = tokenizers.AddedToken("return", lstrip=True, special=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: setattr(it, "normalizer", normalizers.NFKC()), "it has a normalizer, NFKC"),
        (lambda it: setattr(it, "normalizer", normalizers.Replace("foo", "bar")), "it has a normalizer, Replace"),
        (lambda it: setattr(it, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)), "back as ' a'"),
        (
            lambda it: setattr(
                it, "pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), it.pre_tokenizer])
            ),
            "' a' comes back as",
        ),
        (lambda it: it.add_tokens([SWALLOWING]), "its token 'return' swallows the spaces"),
    ],
)
def test_a_byte_level_file_that_changes_text_is_refused(
    tmp_path: Path, change: Callable[[tokenizers.Tokenizer], object], message: str
) -> None:
    tokenizer = byte_level()
    change(tokenizer)
    tokenizer.save(str(tmp_path / "lossy.json"))
    with pytest.raises(UserError, match=message):
        load_tokenizer(str(tmp_path / "lossy.json"))


def test_a_sentencepiece_model_that_changes_text_is_refused(tmp_path: Path, training_texts: list[str]) -> None:
    # All as `train_tokenizer` has it, but for the library's own defaults on spaces.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("".join(training_texts).split("\n")),
        model_prefix=str(tmp_path / "lossy"),
        model_type="bpe",
        vocab_size=1024,
        control_symbols=[token.literal for token in Special],
        unk_id=len(Special),
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        byte_fallback=True,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    with pytest.raises(UserError, match=r"lossy\.model changes text: 'a' comes back as ' a'"):
        load_tokenizer(str(tmp_path / "lossy.model"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control_symbols": [], "user_defined_symbols": [token.literal for token in Special]}, "its id 0 is not"),
        ({"control_symbols": [token.literal for token in Special][::-1]}, "its id 0 is not"),
        ({"control_symbols": [token.literal for token in Special][:-1], "unk_id": 37}, "its id 37 is not <PASSWORD>"),
    ],
)
def test_a_sentencepiece_model_of_other_special_tokens_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Text forges symbols that users define; control symbols it cannot."""
    options = {"control_symbols": [token.literal for token in Special], "unk_id": len(Special), **change}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f"]),
        model_prefix=str(tmp_path / "foreign"),
        model_type="bpe",
        vocab_size=310,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        byte_fallback=True,
        minloglevel=2,
        **options,
    )
    with pytest.raises(UserError, match=message):
        load_tokenizer(str(tmp_path / "foreign.model"))


def test_the_digest_is_that_of_the_file(model_file: Path) -> None:
    import hashlib

    assert load_tokenizer(str(model_file)).digest == hashlib.sha256(model_file.read_bytes()).hexdigest()


SPACED = st.lists(
    st.sampled_from([" ", "  ", "\t ", " \n", "\u00a0", "\u3000 ", "a", "word", "▁", "é", "😀", "1", "_x", "'s"]),
    max_size=60,
)


@given(parts=SPACED, stretch=st.integers(1, 12))
@settings(max_examples=300)
def test_texts_are_encoded_in_stretches_to_the_ids_of_the_whole(
    sentencepiece_tokenizer: Tokenizer, starcoder2_tokenizer: Tokenizer, parts: list[str], stretch: int
) -> None:
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sc2jax.text.tokenizer._STRETCH", stretch)
        for tokenizer in (sentencepiece_tokenizer, starcoder2_tokenizer):
            assert "".join(tokenizer._stretches(text)) == text
            found = tokenizer.encode_array([Special.FILE_SEP, text, Special.END_OF_TEXT])
            assert found.dtype == np.int32
            assert found.tolist() == tokenizer.encode([Special.FILE_SEP, text, Special.END_OF_TEXT])
    assert sentencepiece_tokenizer.encode_array([]).tolist() == []


def test_source_code_is_encoded_in_stretches_to_the_ids_of_the_whole(
    tokenizer: Tokenizer, training_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(training_texts)[:200_000]
    expected = tokenizer.encode_text(text)
    for stretch in (7, 1000, 65_536):
        monkeypatch.setattr("sc2jax.text.tokenizer._STRETCH", stretch)
        stretches = list(tokenizer._stretches(text))
        assert len(stretches) > 0.5 * len(text) / (stretch + 20)
        assert tokenizer.encode_array([text]).tolist() == expected


def test_a_text_without_a_place_to_cut_is_one_stretch(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sc2jax.text.tokenizer._STRETCH", 10)
    for text in ("x" * 100, " " * 100, "x  y  " * 20, "x\n" * 50):
        assert list(tokenizer._stretches(text)) == [text]


def test_a_tokenizer_goes_to_another_process(tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert (again.vocab_size, again.digest) == (tokenizer.vocab_size, tokenizer.digest)
    for text in AWKWARD:
        assert again.encode_text(text) == tokenizer.encode_text(text)
