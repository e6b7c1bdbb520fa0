"""Infilling of windows with middles that stand whole in them."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from sc2jax.text.config import FimConfig
from sc2jax.text.fim import transform_document, transform_window
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

P, M, S = Special.FIM_PREFIX, Special.FIM_MIDDLE, Special.FIM_SUFFIX
SEP, EOT = Special.FILE_SEP, Special.END_OF_TEXT
LINES = FimConfig(rate=1.0, file_rate=1.0, spm_rate=0.0, line_rate=1.0)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


FILES = [
    ("a.py", "def f():\n    return 1\n"),
    ("b.py", ""),
    ("c.py", "x = {'key': 'value'}\nfor name in x:\n    print(name, x[name])\n" * 3),
    ("d.py", "y = 2"),
]


def windows(tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Of all lengths and from all over some repositories and a text without files."""
    documents = [*repository_document("o/r", FILES, True), "a text\nof lines\n" * 5, EOT]
    documents += repository_document("o/s", FILES[::-1], False)
    ids = np.array(tokenizer.encode(documents), np.int32)
    rng = generator(5)
    for _ in range(600):
        start, size = rng.integers(0, len(ids) - 20), rng.integers(1, 90)
        yield ids[start : start + size]
    for size in range(8):
        yield ids[20 : 20 + size]
    for count in range(1, 20):  # letter by letter words take more tokens than they do when they are encoded anew
        yield np.array(
            [token for letter in "return self\n" * count for token in tokenizer.encode_text(letter)], np.int32
        )


def fragments(ids: np.ndarray) -> list[list[int]]:
    """Tokens up to and with each separator or end of text; the last fragment has none."""
    made: list[list[int]] = [[]]
    for token in ids.tolist():
        made[-1].append(token)
        if token in (SEP, EOT):
            made.append([])
    return made


def fitted(moved: list[int], plain: list[int], room: int, suffix_first: bool) -> tuple[list[int], str]:
    """By trial, what becomes of a transformed fragment with the separator after it, and why.

    Args:
        moved: transformed, in the order of prefix, suffix and middle.
        plain: before that.
        room: tokens that the window has left.
        suffix_first: whether the suffix is to be the first.
    """
    stop = moved[-1:] if moved[-1] in (SEP, EOT) else []
    body = moved[: len(moved) - len(stop)]
    prefix, rest = body[1 : body.index(S)], body[body.index(S) + 1 :]
    suffix, middle = rest[: rest.index(M)], rest[rest.index(M) + 1 :]
    if not stop and not suffix:
        return plain, "without end"
    candidates = [(prefix, suffix, "whole")]
    candidates += [(prefix, suffix[:size], "suffix") for size in range(len(suffix) - 1, 0, -1)]
    candidates += [(prefix[start:], suffix, "prefix") for start in range(1, len(prefix) + 1)]
    for before, after, why in candidates:
        made = [P, S, *after, M, *before, *middle] if suffix_first else [P, *before, S, *after, M, *middle]
        made += stop or [EOT]
        if len(made) <= room:
            return made, why + (", closed" if stop else ", open")
    return plain, "too long"


@pytest.mark.parametrize("spm_rate", [0.0, 1.0])
@pytest.mark.parametrize("line_rate", [0.0, 0.8])
def test_windows_are_those_of_a_search_by_trial(
    sentencepiece_tokenizer: Tokenizer, line_rate: float, spm_rate: float
) -> None:
    """Of the transformed file without the option, the longest piece that fits; whatever else is in the window."""
    tokenizer, seen = sentencepiece_tokenizer, Counter()
    off = FimConfig(rate=1.0, file_rate=0.8, spm_rate=0.0, line_rate=line_rate)
    config = dataclasses.replace(off, spm_rate=spm_rate, whole_middles=True)
    for seed, window in enumerate(windows(tokenizer)):
        moved = transform_window(window, tokenizer, off, generator(seed)).ids
        expected: list[int] = []
        given_up = 0
        for after, before in zip(fragments(moved), fragments(window), strict=True):
            if P not in after:
                expected += before
                continue
            made, why = fitted(after, before, len(window) - len(expected), suffix_first=bool(spm_rate))
            seen[why] += 1
            if why.startswith(("suffix", "prefix")):
                given_up += len(after) + ("open" in why) - len(made)
            expected += made
        found = transform_window(window, tokenizer, config, generator(seed))
        assert found.ids.tolist() == expected
        assert found.given_up == given_up
    assert set(seen) == {
        "without end",
        "too long",
        *(f"{part}, {end}" for part in ("whole", "suffix", "prefix") for end in ("closed", "open")),
    }
    assert min(seen.values()) >= 3, seen


def test_every_middle_is_whole_and_followed_by_a_stop(sentencepiece_tokenizer: Tokenizer) -> None:
    tokenizer = sentencepiece_tokenizer
    lines = {line for _, text in FILES for line in text.split("\n")} | {"a text", "of lines"}
    paths = {path for path, _ in FILES}
    config = dataclasses.replace(LINES, whole_middles=True)
    found = 0
    for seed, window in enumerate(windows(tokenizer)):
        if len(window) == 0 or window[0] not in (SEP, EOT, Special.REPO_NAME):
            continue  # the first line may have lost its head
        ids = transform_window(window, tokenizer, config, generator(seed)).ids[: len(window)].tolist()
        for start in (at for at, token in enumerate(ids) if token == M):
            stop = next(at for at in range(start, len(ids)) if ids[at] in (SEP, EOT))
            assert tokenizer.decode(ids[start + 1 : stop]) in lines | paths
            found += 1
    assert found > 20


def test_characters_of_a_file_that_is_left_as_it_is_are_not_replaced(tokenizer: Tokenizer) -> None:
    """Without a suffix the file's end lies beyond the window."""
    whole = np.array(tokenizer.encode_text("\U0001f600 = 1"), np.int32)
    cut = whole[len(tokenizer.encode_text("\U0001f600")) - 1 :]
    config = dataclasses.replace(LINES, whole_middles=True)
    found = transform_window(cut, tokenizer, config, generator(0))
    assert (found.ids.tolist(), found.replaced, found.given_up) == (cut.tolist(), 0, 0)
    more = np.array(tokenizer.encode(["\nreturn None" * 4, EOT]), np.int32)
    assert transform_window(np.concatenate([cut, more]), tokenizer, config, generator(0)).replaced == 1


def test_at_document_level_it_does_nothing() -> None:
    document = repository_document("o/r", FILES, True)
    for seed in range(10):
        assert transform_document(document, LINES, generator(seed)) == transform_document(
            document, dataclasses.replace(LINES, whole_middles=True), generator(seed)
        )
