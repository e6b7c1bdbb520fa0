import dataclasses
import gzip
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import scripted_model

from sc2jax.evaluation.config import BitsPerByteConfig
from sc2jax.evaluation.heldout import CodeFile
from sc2jax.evaluation.measures.bits_per_byte import gzip_bits, measure, summary, text_token_counts, unigram_bits
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

HELD_OUT = [
    CodeFile("one", "a.py", "Python", "def f(x):\n    return x + 1\n"),
    CodeFile("one", "b.c", "C", "int f(int x) { return x + 1; } /* é <file_sep> */\n"),
    CodeFile("two", "c.py", "Python", "x"),
]
TRAIN = [
    CodeFile("three", "d.py", "Python", "def g(y):\n    return y\n"),
    CodeFile("three", "e.py", "Python", "y = 3\n"),
]
CONFIG = BitsPerByteConfig(unigram_bytes=0)


def measured(model, heldout, train, config, seed):
    return measure(model, {"heldout": heldout, "train": train}.__getitem__, config, seed)


def constant(nats: float):
    return lambda rows: [np.full(len(row) - 1, -nats, np.float32) for row in rows]


def test_uniform_model_costs_log2_of_the_vocabulary_for_each_token(byte_tokenizer: Tokenizer) -> None:
    result = measured(
        scripted_model(byte_tokenizer, score=constant(math.log(byte_tokenizer.vocab_size))), HELD_OUT, TRAIN, CONFIG, 0
    )
    assert result["measured"] is True
    # One token a byte: the special tokens around a text are not counted, a special token that a text spells is text.
    assert result["total"]["tokens"] == result["total"]["bytes"] == sum(file.bytes for file in HELD_OUT)
    assert result["total"]["model"] == pytest.approx(math.log2(38 + 256))
    assert result["by_language"]["C"]["model"] == pytest.approx(math.log2(38 + 256))


def test_rows_are_documents_and_only_their_text_is_counted(byte_tokenizer: Tokenizer) -> None:
    seen: list[list[int]] = []

    def score(rows: list[list[int]]) -> Sequence[np.ndarray]:
        seen.extend(rows)
        return [np.where(np.array(row[1:]) == Special.END_OF_TEXT, -1000.0, -math.log(2)) for row in rows]

    result = measured(scripted_model(byte_tokenizer, score=score), HELD_OUT[2:], TRAIN, CONFIG, 0)
    assert seen == [[Special.FILE_SEP, 38 + ord("x"), Special.END_OF_TEXT]]
    assert result["measured"] is True and result["total"]["model"] == pytest.approx(1.0)


def test_every_byte_weighs_the_same(byte_tokenizer: Tokenizer) -> None:
    def score(rows: list[list[int]]) -> Sequence[np.ndarray]:
        return [np.full(len(row) - 1, -math.log(2) * len(row)) for row in rows]

    result = measured(scripted_model(byte_tokenizer, score=score), HELD_OUT, TRAIN, CONFIG, 0)
    sizes = [file.bytes for file in HELD_OUT]
    assert result["measured"] is True
    assert result["total"]["model"] == pytest.approx(sum(n * (n + 2) for n in sizes) / sum(sizes))
    assert result["by_language"]["Python"]["files"] == 2
    assert result["by_language"]["C"]["model"] == pytest.approx(sizes[1] + 2)


def test_unigram_equals_direct_computation(byte_tokenizer: Tokenizer) -> None:
    result = measured(scripted_model(byte_tokenizer, score=constant(1.0)), HELD_OUT, TRAIN, CONFIG, 0)
    counts = Counter(byte for file in TRAIN for byte in file.text.encode())
    whole = sum(counts.values()) + 256
    held_out = [byte for file in HELD_OUT for byte in file.text.encode()]
    expected = sum(-math.log2((counts[byte] + 1) / whole) for byte in held_out) / len(held_out)
    assert result["measured"] is True
    assert result["total"]["unigram"] == pytest.approx(expected)
    assert result["unigram"] == {"files": 2, "bytes": whole - 256, "tokens": whole - 256}
    assert result["ratio_to_unigram"] == pytest.approx(1 / math.log(2) / expected)


def test_unigram_probabilities_sum_to_one(byte_tokenizer: Tokenizer) -> None:
    bits = unigram_bits(text_token_counts(byte_tokenizer, TRAIN))
    assert np.sum(2.0**-bits) == pytest.approx(1.0)
    assert np.isinf(bits[: len(Special)]).all() and np.isfinite(bits[len(Special) :]).all()


@given(st.text(st.characters(codec="utf-8")))
def test_gzip_is_gzip_without_its_container(text: str) -> None:
    assert gzip_bits(text) == 8 * (len(gzip.compress(text.encode(), 9)) - 18)


def test_gzip_compresses_as_well_as_it_can() -> None:
    text = Path(gzip.__file__).read_text()
    at_nine, at_six = (8 * (len(gzip.compress(text.encode(), level)) - 18) for level in (9, 6))
    assert gzip_bits(text) == at_nine < at_six


@pytest.mark.parametrize(
    ("bounds", "files", "size"),
    [
        ({}, 3, 79),
        ({"max_files": 2}, 2, None),
        ({"max_bytes": 30}, None, 30),
        ({"max_file_bytes": 5}, 3, 5 + 5 + 1),
    ],
)
def test_no_more_is_scored_than_was_asked_for(byte_tokenizer: Tokenizer, bounds, files, size) -> None:
    model = scripted_model(byte_tokenizer, score=constant(1.0))
    result = measured(model, HELD_OUT, TRAIN, dataclasses.replace(CONFIG, **bounds, score_batch=5), 0)
    assert result["measured"] is True
    assert files in (None, result["total"]["files"]) and size in (None, result["total"]["bytes"])
    assert model.batch_sizes == [5]


def test_no_more_is_counted_than_was_asked_for(byte_tokenizer: Tokenizer) -> None:
    config = dataclasses.replace(CONFIG, unigram_bytes=11)
    result = measured(scripted_model(byte_tokenizer, score=constant(1.0)), HELD_OUT, TRAIN, config, 0)
    assert result["measured"] is True and result["unigram"]["bytes"] == result["unigram"]["tokens"] == 11


def test_order_of_files_does_not_matter(byte_tokenizer: Tokenizer) -> None:
    first, second = (
        measured(scripted_model(byte_tokenizer, score=constant(1.5)), files, train, CONFIG, 3)
        for files, train in ((HELD_OUT, TRAIN), (HELD_OUT[::-1], TRAIN[::-1]))
    )
    assert first == second


def test_nothing_is_invented_where_nothing_is_held_out(byte_tokenizer: Tokenizer) -> None:
    empty = CodeFile("one", "empty.py", "Python", "")
    for files in ([], [empty]):
        result = measured(scripted_model(byte_tokenizer, score=constant(1.0)), files, TRAIN, CONFIG, 0)
        assert result == {"measured": False, "reason": "no repository with text is held out"}
    off = measured(
        scripted_model(byte_tokenizer, score=constant(1.0)), HELD_OUT, TRAIN, BitsPerByteConfig(max_bytes=0), 0
    )
    assert off["measured"] is False and "max_bytes" in off["reason"]


def test_scorer_that_loses_a_token_is_a_defect(byte_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="tokens"):
        model = scripted_model(byte_tokenizer, score=lambda rows: [np.zeros(len(row)) for row in rows])
        measured(model, HELD_OUT, TRAIN, CONFIG, 0)


@pytest.mark.parametrize(("nats", "words"), [(1.0, "% below unigram"), (9.0, "% above unigram")])
def test_the_result_in_a_sentence(byte_tokenizer: Tokenizer, nats: float, words: str) -> None:
    result = measured(scripted_model(byte_tokenizer, score=constant(nats)), HELD_OUT, TRAIN, CONFIG, 0)
    assert f"model {nats / math.log(2):.3f}, unigram tokens" in summary(result) and words in summary(result)
    assert summary({"measured": False, "reason": "why"}) == "held-out bits per byte: not measured, why"
