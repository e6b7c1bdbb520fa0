"""What of a text occurs in documents, beside a search that tries every span in every document."""

import itertools
import random
import tracemalloc

import pytest

from sc2jax.benchmarks import occurrences as module
from sc2jax.benchmarks.occurrences import SPAN, Occurrence, Spans, occurrences


def by_trying(text: str, documents: list[str]) -> Occurrence:
    packed, others = "".join(text.split()), ["".join(document.split()) for document in documents]
    covered = set()
    for start in range(len(packed) - SPAN + 1):
        if any(packed[start : start + SPAN] in other for other in others):
            covered.update(range(start, start + SPAN))
    return Occurrence(len(packed), len(covered))


def letters(count: int, chance: random.Random, alphabet: str) -> str:
    return "".join(chance.choices(alphabet, k=count))


def spaced(text: str, chance: random.Random) -> str:
    return "".join(letter + chance.choice(["", "", "", " ", "\n", "\t\u2003"]) for letter in text)


@pytest.mark.parametrize("seed", range(60))
def test_the_same_as_by_trying_all(seed, monkeypatch):
    chance = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(module, "_SEARCHED", chance.choice([1, 7, 60]))
    alphabet = chance.choice(["a", "ab", "abcdefgh", "aé漢😀"])
    texts = [letters(chance.choice([0, 49, 50, 51, 74, 75, 99, 250]), chance, alphabet) for _ in range(8)]
    texts += [texts[0], texts[3] + texts[7]]
    documents = []
    for _ in range(12):
        text = chance.choice(texts)
        start = chance.randrange(max(len(text) - SPAN, 0) + 1)
        shared = text[start : start + chance.choice([48, 49, 50, 51, 60, 74, 80, 200])]
        around = [
            letters(chance.choice([0, 0, 1, 30, 300]), chance, chance.choice([alphabet, "xyz"])) for _ in range(2)
        ]
        documents.append(spaced(around[0] + shared + around[1], chance))
    keyed = {f"text {number}": spaced(text, chance) for number, text in enumerate(texts)}
    expected = {key: by_trying(text, documents) for key, text in keyed.items()}
    assert occurrences(keyed, documents) == expected
    assert any(one.found for one in expected.values())


@pytest.mark.parametrize("start", range(60))
@pytest.mark.parametrize("length", [49, 50, 51])
def test_fifty_characters_anywhere_in_a_text(start, length):
    text = "".join(chr(0x4E00 + number) for number in range(130))
    (found,) = occurrences({"a": text}, ["x" + text[start : start + length] + "y"]).values()
    assert found == Occurrence(130, length if length >= 50 else 0)
    assert found.found == (length >= 50)
    assert found.share == found.covered / 130


def test_nothing_to_look_for_and_nowhere_to_look():
    assert occurrences({}, ["a" * 100]) == {}
    assert occurrences({1: "", 2: " a" * 49, 3: "b" * 50}, []) == {
        1: Occurrence(0, 0),
        2: Occurrence(49, 0),
        3: Occurrence(50, 0),
    }
    assert occurrences({1: "", 2: " a" * 49}, ["", "a" * 1000]) == {1: Occurrence(0, 0), 2: Occurrence(49, 0)}
    assert Occurrence(0, 0).share == 0


def test_half_a_surrogate_pair_is_no_reason_to_fail():
    text = "\ud800" + "a" * 49
    assert occurrences({1: text, 2: "\udfff" + "b" * 60}, [text])[2] == Occurrence(61, 0)


def test_a_document_of_one_character_is_looked_at_once():
    """Each of its places has a piece of the text: only what is beside them tells that nothing new is there."""
    text = "-" * 500 + "end"
    spans = Spans([text] * 10)
    most = 80 * 10 * 20
    found = list(itertools.islice(spans.find("- " * 200_000 + "end"), most))
    assert len(found) < most
    assert {number for number, _, _ in found} == set(range(10))
    assert occurrences({1: text}, ["-" * 1000 + "end"]) == {1: Occurrence(503, 503)}


def test_memory_does_not_grow_with_the_documents():
    texts = {number: letters(300, random.Random(number), "abcdef") for number in range(20)}

    def peak(count: int) -> int:
        tracemalloc.start()
        occurrences(texts, (texts[number % 20] + "x" * 20_000 for number in range(count)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(400) < 1.2 * peak(40)


def test_each_document_is_looked_at_for_itself():
    text = letters(120, random.Random(0), "abcdef")
    spans = Spans(["x" * 60, text])
    found = list(spans.find(text))
    assert found == list(spans.find(f" {text[:60]} {text[60:]}\n"))
    assert {number for number, _, _ in found} == {1}
    assert (min(start for _, start, _ in found), max(end for _, _, end in found)) == (0, 120)
