from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax.errors import UserError
from sc2jax.text.config import FimConfig
from sc2jax.text.fim import infill_prompt, transform_document, transform_window
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer import Tokenizer

P, M, S = Special.FIM_PREFIX, Special.FIM_MIDDLE, Special.FIM_SUFFIX
SEP, EOT = Special.FILE_SEP, Special.END_OF_TEXT
ALWAYS = FimConfig(rate=1.0, file_rate=1.0)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FILES = st.lists(st.tuples(TEXT, TEXT), max_size=5)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def written(pieces: Sequence[Piece]) -> str:
    """Pieces as one string in which special tokens cannot be mistaken for text: private use characters."""
    return "".join(chr(0xF0000 + piece) if isinstance(piece, Special) else piece for piece in pieces)


def reassembled(pieces: Sequence[Piece]) -> str:
    """An independent inverse: puts every middle back, working on the written string."""
    prefix, middle, suffix, separator, end = (chr(0xF0000 + token) for token in (P, M, S, SEP, EOT))

    def restore(fragment: str) -> str:
        if not fragment.startswith(prefix):
            return fragment
        head, tail = fragment[1:].split(middle)
        before, after = head.split(suffix)
        # Suffix first: nothing stands before the suffix, and what follows it is prefix and middle in one.
        return before + tail + after

    documents = written(pieces).split(end)
    return end.join(separator.join(map(restore, document.split(separator))) for document in documents)


@given(files=FILES, name=TEXT, metadata=st.booleans(), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_reassembling_a_document_gives_it_back(
    files: list[tuple[str, str]], name: str, metadata: bool, seed: int
) -> None:
    document = repository_document(name, files, metadata)
    for config in (ALWAYS, FimConfig(), FimConfig(rate=1.0, file_rate=1.0, spm_rate=1.0)):
        assert reassembled(transform_document(document, config, generator(seed))) == written(document)


@given(files=FILES, seed=st.integers(0, 10**6), start=st.integers(0, 30), size=st.integers(0, 80))
@settings(deadline=None)
def test_reassembling_a_window_gives_it_back(
    sentencepiece_tokenizer: Tokenizer, files: list[tuple[str, str]], seed: int, start: int, size: int
) -> None:
    tokenizer = sentencepiece_tokenizer
    ids = tokenizer.encode(repository_document("r", files, True) + repository_document("s", files, False))
    window = ids[start : start + size]
    transformed = transform_window(window, tokenizer, ALWAYS, generator(seed))
    # A character cut apart by the window's edge is written anew, so texts are compared, not ids.
    assert reassembled(tokenizer.pieces(transformed)) == written(tokenizer.pieces(window))


def test_both_levels_take_the_same_draws(sentencepiece_tokenizer: Tokenizer) -> None:
    document = repository_document("r", [("a.py", "x = 1\n"), ("b.py", "def f():\n    return 2\n")], True) * 5
    for seed in range(20):
        in_pieces = transform_document(document, FimConfig(), generator(seed))
        in_window = transform_window(
            sentencepiece_tokenizer.encode(document), sentencepiece_tokenizer, FimConfig(), generator(seed)
        )
        assert in_window == sentencepiece_tokenizer.encode(in_pieces)


def test_the_parts_of_a_file_in_both_orders() -> None:
    text = "x = compute(y)"
    for spm_rate, order in (
        (0.0, (P, "prefix", S, "suffix", M, "middle")),
        (1.0, (P, S, "suffix", M, "prefix", "middle")),
    ):
        rng = generator(3)
        rng.random()  # the file's own draw
        start, stop = sorted(rng.integers(0, len(text), size=2, endpoint=True).tolist())
        parts = {"prefix": text[:start], "middle": text[start:stop], "suffix": text[stop:]}
        assert all(parts.values()), "the seed should cut three parts that are not empty"
        expected = [parts[item] if isinstance(item, str) and not isinstance(item, Special) else item for item in order]
        config = FimConfig(rate=1.0, spm_rate=spm_rate)
        assert transform_document([text], config, generator(3)) == expected


def test_the_name_of_a_repository_is_protected() -> None:
    document = repository_document("owner/name", [("a.py", "x")], True)
    for seed in range(50):
        transformed = transform_document(document, ALWAYS, generator(seed))
        assert transformed[:4] == [Special.REPO_NAME, "owner/name", SEP, P]


def test_a_document_without_metadata_keeps_its_first_separator() -> None:
    document = repository_document("r", [("a.py", "x = 1"), ("b.py", "")], False)
    for seed in range(50):
        transformed = transform_document(document, ALWAYS, generator(seed))
        assert transformed[:2] == [SEP, P]
        assert transformed[-2:] == [SEP, EOT]


def test_rates_are_those_of_the_paper() -> None:
    document = repository_document("r", [(f"{index}.py", "text") for index in range(4)], True)
    rng = generator(0)
    trials = 4000
    chosen = files = suffix_first = 0
    for _ in range(trials):
        transformed = transform_document(document, FimConfig(), rng)
        starts = [index for index, piece in enumerate(transformed) if piece == P]
        chosen += bool(starts)
        files += len(starts)
        suffix_first += sum(transformed[index + 1] == S for index in starts)
    assert abs(files / trials / 4 - 0.25) < 0.015
    assert abs(chosen / trials - 0.5 * (1 - 0.5**4)) < 0.03
    # Prefix first looks the same where the prefix is empty: 19 of 100 cuts of the nine characters.
    assert abs(suffix_first / files - (0.5 + 0.5 * 0.19)) < 0.03


def test_cuts_are_uniform_over_characters_with_both_ends() -> None:
    rng = generator(1)
    config = FimConfig(rate=1.0, spm_rate=0.0)
    lengths = []
    for _ in range(6000):
        transformed = transform_document(["aé😀"], config, rng)
        parts = "".join(piece.literal[5] if isinstance(piece, Special) else "x" * len(piece) for piece in transformed)
        assert parts.startswith("p")
        lengths.append([len(part) for part in parts[1:].replace("m", "s").split("s")])
    prefix, _, middle = np.array(lengths).T
    # Two draws from 0..3: the smaller is k with (2(4-k)-1)/16, and both are equal in a quarter of the cases.
    np.testing.assert_allclose(np.bincount(prefix, minlength=4) / 6000, np.array([7, 5, 3, 1]) / 16, atol=0.02)
    assert abs((middle == 0).mean() - 0.25) < 0.02


def test_a_file_not_chosen_keeps_its_tokens(sentencepiece_tokenizer: Tokenizer) -> None:
    # Single letters are not how the tokenizer would encode the word: a new encoding would show.
    odd = [token for letter in "return" for token in sentencepiece_tokenizer.encode_text(letter)]
    assert odd != sentencepiece_tokenizer.encode_text("return")
    window = [int(SEP), *odd, int(SEP), *odd]
    assert transform_window(window, sentencepiece_tokenizer, FimConfig(rate=0.0), generator(0)) == window


def test_a_window_cut_inside_a_character(sentencepiece_tokenizer: Tokenizer) -> None:
    ids = sentencepiece_tokenizer.encode_text("😀 = 1")[2:]
    transformed = transform_window(ids, sentencepiece_tokenizer, ALWAYS, generator(0))
    assert reassembled(sentencepiece_tokenizer.pieces(transformed)).endswith(" = 1")


@pytest.mark.parametrize("suffix_first", [False, True])
def test_the_prompt_is_a_transformed_file_without_its_middle(suffix_first: bool) -> None:
    config = FimConfig(rate=1.0, spm_rate=float(suffix_first))
    for seed in range(30):
        transformed = transform_document(["x = compute(y)\n"], config, generator(seed))
        rng = generator(seed)
        rng.random()
        start, stop = sorted(rng.integers(0, 15, size=2, endpoint=True).tolist())
        prompt = infill_prompt("x = compute(y)\n"[:start], "x = compute(y)\n"[stop:], suffix_first=suffix_first)
        assert written(transformed) == written(prompt) + "x = compute(y)\n"[start:stop]


@pytest.mark.parametrize("bad", [{"level": "file"}, {"rate": 1.5}, {"file_rate": -1.0}, {"spm_rate": 2.0}])
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(UserError, match=r"fim\."):
        FimConfig(**bad)
