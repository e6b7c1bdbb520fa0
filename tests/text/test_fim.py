import dataclasses
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
    window = np.array(ids[start : start + size], np.int32)
    transformed = transform_window(window, tokenizer, ALWAYS, generator(seed))
    # A character cut apart by the window's edge is written anew, so texts are compared, not ids.
    assert reassembled(tokenizer.pieces(transformed.ids)) == written(tokenizer.pieces(window))


def test_both_levels_take_the_same_draws(sentencepiece_tokenizer: Tokenizer) -> None:
    document = repository_document("r", [("a.py", "x = 1\n"), ("b.py", "def f():\n    return 2\n")], True) * 5
    for seed in range(20):
        in_pieces = transform_document(document, FimConfig(), generator(seed))
        window = np.array(sentencepiece_tokenizer.encode(document))
        in_window = transform_window(window, sentencepiece_tokenizer, FimConfig(), generator(seed))
        assert in_window.ids.tolist() == sentencepiece_tokenizer.encode(in_pieces)


def test_the_parts_of_a_file_in_both_orders() -> None:
    text = "x = compute(y)"
    for spm_rate, order in (
        (0.0, (P, "prefix", S, "suffix", M, "middle")),
        (1.0, (P, S, "suffix", M, "prefix", "middle")),
    ):
        rng = generator(3)
        rng.random()  # for the file itself
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
    # Two random numbers from 0..3: the smaller is k with (2(4-k)-1)/16, and both are equal in a quarter of the cases.
    np.testing.assert_allclose(np.bincount(prefix, minlength=4) / 6000, np.array([7, 5, 3, 1]) / 16, atol=0.02)
    assert abs((middle == 0).mean() - 0.25) < 0.02


def test_a_file_not_chosen_keeps_its_tokens(sentencepiece_tokenizer: Tokenizer) -> None:
    # Single letters are not how the tokenizer would encode the word: a new encoding would show.
    odd = [token for letter in "return" for token in sentencepiece_tokenizer.encode_text(letter)]
    assert odd != sentencepiece_tokenizer.encode_text("return")
    window = np.array([SEP, *odd, SEP, *odd])
    transformed = transform_window(window, sentencepiece_tokenizer, FimConfig(rate=0.0), generator(0))
    np.testing.assert_array_equal(transformed.ids, window)


def test_replaced_characters_are_counted(tokenizer: Tokenizer) -> None:
    # The second character was there before; of the first, the window holds the last bytes alone.
    whole = np.array(tokenizer.encode_text("😀\ufffd = 1"))
    cut = whole[len(tokenizer.encode_text("😀")) - 1 :]
    for window, replaced in ((whole, 0), (cut, 1)):
        for seed in range(20):
            transformed = transform_window(window, tokenizer, ALWAYS, generator(seed))
            text = reassembled(tokenizer.pieces(transformed.ids))
            assert text == tokenizer.decode(window)
            assert transformed.replaced == replaced == text.count("\ufffd") - 1
        untouched = transform_window(window, tokenizer, FimConfig(rate=0.0), generator(0))
        assert untouched.replaced == 0


def test_an_empty_window_stays_empty(sentencepiece_tokenizer: Tokenizer) -> None:
    transformed = transform_window(np.zeros(0, np.int32), sentencepiece_tokenizer, ALWAYS, generator(0))
    assert transformed.ids.tolist() == []


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


def reference(window: Sequence[int], tokenizer: Tokenizer, config: FimConfig, rng: np.random.Generator) -> list[int]:
    """What the reference implementations make of a window of tokens, before they cut or pad it.

    Written from their description alone, without the module's functions, on one string for a fragment, in which a
    character of a private plane stands for a special token.
    """

    def to_text(tokens: list[int]) -> str:
        parts: list[str] = []
        run: list[int] = []
        for token in [*tokens, -1]:
            if 0 <= token < len(Special) or token == -1:
                parts.append(tokenizer.decode(run))
                parts.append(chr(0xF0000 + token) if token >= 0 else "")
                run = []
            else:
                run.append(token)
        return "".join(parts)

    def to_tokens(text: str) -> list[int]:
        tokens: list[int] = []
        run = ""
        for character in text + chr(0xFFFFF):
            if ord(character) >= 0xF0000:
                tokens += tokenizer.encode_text(run)
                tokens += [ord(character) - 0xF0000] if character != chr(0xFFFFF) else []
                run = ""
            else:
                run += character
        return tokens

    def permute(tokens: list[int], rate: float) -> list[int]:
        if not rng.random() < rate:
            return tokens
        text = to_text(tokens)
        if config.protect_repository_name and text.startswith(chr(0xF0000 + Special.REPO_NAME)):
            return tokens
        low, high = sorted(rng.integers(0, len(text) + 1, size=2))
        before, middle, after = (to_tokens(part) for part in (text[:low], text[low:high], text[high:]))
        if rng.random() < config.spm_rate:
            return [1, 3, *after, 2, *before, *middle]
        return [1, *before, 3, *after, 2, *middle]

    def document(tokens: list[int]) -> list[int]:
        if 6 not in tokens:
            return permute(tokens, config.rate)
        if not rng.random() < config.rate:
            return tokens
        made: list[int] = []
        while 6 in tokens:
            place = tokens.index(6)
            if place > 0:
                made += [*permute(tokens[:place], config.file_rate), 6]
            tokens = tokens[place + 1 :]
        return made + permute(tokens, config.file_rate)

    made: list[int] = []
    rest = list(window)
    while 0 in rest:
        place = rest.index(0)
        if place > 0:
            made += [*document(rest[:place]), 0]
        rest = rest[place + 1 :]
    return made + document(rest)


STRUCTURE = st.sampled_from([SEP, SEP, SEP, EOT, EOT, Special.REPO_NAME, Special.JUPYTER_CODE])
PRINTED = st.text(st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(pieces=st.lists(STRUCTURE | PRINTED, min_size=1, max_size=12), protect=st.booleans(), data=st.data())
@settings(max_examples=300)
def test_windows_with_all_quirks_are_those_of_the_reference(starcoder2_tokenizer, pieces, protect, data) -> None:
    ids = starcoder2_tokenizer.encode(pieces)
    start = data.draw(st.integers(0, len(ids) - 1))
    window = ids[start : start + data.draw(st.integers(1, len(ids)))]
    config = FimConfig(
        rate=data.draw(st.sampled_from([0.5, 1.0])),
        file_rate=data.draw(st.sampled_from([0.5, 1.0])),
        drop_empty_files=True,
        drop_empty_documents=True,
        protect_repository_name=protect,
    )
    for seed in range(5):
        transformed = transform_window(np.array(window), starcoder2_tokenizer, config, generator(seed))
        assert transformed.ids.tolist() == reference(window, starcoder2_tokenizer, config, generator(seed))


def test_empty_files_and_documents_are_kept_or_dropped_as_configured() -> None:
    files = repository_document("r", [("a", "x"), ("b", ""), ("c", "y")], False)
    never = FimConfig(rate=1.0, file_rate=0.0)
    dropping = dataclasses.replace(never, drop_empty_files=True)
    assert transform_document(files, never, generator(0)) == [SEP, "x", SEP, SEP, "y", EOT]
    assert transform_document(files, dropping, generator(0)) == ["x", SEP, "y", EOT]
    # A repository that is not chosen stays as it is.
    assert transform_document(files, dataclasses.replace(dropping, rate=0.0), generator(0)) == files

    documents = [EOT, "x", EOT, EOT, "y", EOT]
    never = FimConfig(rate=0.0)
    assert transform_document(documents, never, generator(0)) == documents
    dropping = dataclasses.replace(never, drop_empty_documents=True)
    assert transform_document(documents, dropping, generator(0)) == ["x", EOT, "y", EOT]
    # Behind the last end of text lies an empty document, which takes random numbers in the reference like any other.
    always = FimConfig(rate=1.0, spm_rate=0.0, drop_empty_documents=True)
    assert transform_document([EOT], always, generator(0)) == [P, S, M]


def test_the_name_of_a_repository_is_transformed_where_it_is_not_protected() -> None:
    document = repository_document("owner/name", [("a.py", "x")], True)
    config = dataclasses.replace(ALWAYS, protect_repository_name=False)
    moved = [transform_document(document, config, generator(seed)) for seed in range(20)]
    assert all(pieces[0] == P and reassembled(pieces) == written(document) for pieces in moved)


def test_the_three_parts_are_alike_long() -> None:
    rng = generator(2)
    config = FimConfig(rate=1.0, spm_rate=0.0)
    lengths = np.zeros(3)
    for _ in range(3000):
        text = written(transform_document(["x" * 90], config, rng))
        before, rest = text[1:].split(written([S]))
        after, middle = rest.split(written([M]))
        lengths += [len(before), len(middle), len(after)]
    np.testing.assert_allclose(lengths / 3000, 30, atol=1.5)


def test_rates_in_windows(sentencepiece_tokenizer: Tokenizer) -> None:
    """Windows of several repositories: a quarter of all files; documents without files, half of them."""
    repository = repository_document("r", [(f"{index}.py", "a text") for index in range(3)], False)
    window = np.array(sentencepiece_tokenizer.encode([*repository * 3, "an issue", EOT, "another", EOT]))
    rng = generator(4)
    files = plain = 0
    for _ in range(1500):
        transformed = transform_window(window, sentencepiece_tokenizer, FimConfig(), rng).ids
        ends = np.flatnonzero(transformed == EOT)
        files += (transformed[: ends[2]] == P).sum()
        plain += (transformed[ends[2] :] == P).sum()
    assert abs(files / 1500 / 9 - 0.25) < 0.02
    assert abs(plain / 1500 / 2 - 0.5) < 0.03


@pytest.mark.parametrize(
    "bad", [{"level": "file"}, {"rate": 1.5}, {"file_rate": -1.0}, {"spm_rate": 2.0}, {"line_rate": 1.1}]
)
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(UserError, match=r"fim\."):
        FimConfig(**bad)
