import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.text.byte_pairs import fast_encoder
from sc2jax.text.tokenizer import Tokenizer
from sc2jax.text.tokenizer_files import TokenizerFile

Encode = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def reference(starcoder2_tokenizer: Tokenizer) -> Encode:
    """The library that the file is written for."""
    model = tokenizers.Tokenizer.from_file(os.environ["SC2JAX_TOKENIZER"])
    model.encode_special_tokens = True
    return lambda text: model.encode(text, add_special_tokens=False).ids


def test_source_code_has_the_ids_of_the_library(starcoder2_tokenizer: Tokenizer, reference: Encode) -> None:
    files = sorted(Path(os.__file__).parent.glob("*.py"))[:40]
    for file in files:
        text = file.read_text()
        assert starcoder2_tokenizer.encode_text(text) == reference(text), file
    assert len(files) == 40


@given(
    text=st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cn"])) | st.text("a1' \n\t\xa0é中_s")
)
@settings(max_examples=400)
def test_any_text_has_the_ids_of_the_library(starcoder2_tokenizer: Tokenizer, reference: Encode, text: str) -> None:
    assert starcoder2_tokenizer.encode_text(text) == reference(text)


@pytest.mark.parametrize("text", ["\U00040000", "a \U0007ffff1 b", "<|endoftext|> <fim_prefix>", " " * 100_000 + "1"])
def test_odd_texts_have_the_ids_of_the_library(starcoder2_tokenizer: Tokenizer, reference: Encode, text: str) -> None:
    assert starcoder2_tokenizer.encode_text(text) == reference(text)


def tiny() -> TokenizerFile:
    """A tokenizer.json of all bytes but those that the fast way knows to be absent, and two merges."""
    present = [byte for byte in range(256) if byte not in (0xC0, 0xC1, 0xF1, *range(0xF5, 0x100))]
    vocab = {chr(0x100 + byte): index for index, byte in enumerate(present)} | {
        "\u0161\u0162": 300,
        "\u0162\u0163": 301,
    }
    return {
        "normalizer": None,
        "added_tokens": [{"id": 400, "content": "<x>", "special": True}],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "model": {"type": "BPE", "vocab": vocab, "merges": [("\u0161", "\u0162"), "\u0162 \u0163"]},
    }


def bytes_of(token: str) -> bytes:
    return bytes(ord(character) - 0x100 for character in token)


def slow(text: str) -> list[int]:
    return [-1] * len(text)


def test_pairs_are_merged_in_order() -> None:
    encode = fast_encoder(tiny(), bytes_of, slow)
    assert encode("abc") == [300, ord("c")]
    assert encode("bc") == [301]
    assert encode("\U00050000") == [-1]
    with pytest.raises(UnicodeEncodeError):
        encode("\ud800")


def changed(path: str, value: Any) -> TokenizerFile:
    fields = json.loads(json.dumps(tiny()))
    *parents, last = path.split(".")
    node = fields
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node[name]
    node[int(last) if isinstance(node, list) else last] = value
    return fields


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("normalizer", {"type": "NFC"}),
        ("pre_tokenizer", None),
        ("pre_tokenizer.pretokenizers.0.individual_digits", False),
        ("pre_tokenizer.pretokenizers.1.add_prefix_space", True),
        ("added_tokens.0.special", False),
        ("model.type", "Unigram"),
        ("model.dropout", 0.1),
        ("model.merges", [["\u0162", "\u0163"], ["\u0161", "\u0162"]]),
        ("model.merges", [["\u0161", "\u0162"], ["\u0161", "\u0162"]]),
        ("model.vocab", {"\u0161": 1, "\u0162": 2, "\u0163": 3, "\u0161\u0162": 300, "\u0162\u0163": 301}),
    ],
)
def test_what_would_be_encoded_otherwise_goes_the_slow_way(path: str, value: Any) -> None:
    assert fast_encoder(changed(path, value), bytes_of, slow) is slow
