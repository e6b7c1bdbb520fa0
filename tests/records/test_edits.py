"""Edits: made, joined, undone, and traced back to the source."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.records.edits import Edit, Replacement, decoded_source, edit_text, edited_source, inconsistent, source_span

TEXT = st.text(alphabet="ab\né€😀\u0301", max_size=12)


def draw_replacements(text: str, seed: int, rule: str) -> list[Replacement]:
    """Some replacements that do not overlap: deletions, insertions, redactions; some touch."""
    rng = random.Random(seed)
    bounds = sorted(rng.choices(range(len(text) + 1), k=2 * rng.randint(0, 3)))
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    return [Replacement(*pair, rng.choice(["", "x", "<KEY>", "😀é"]), rule) for pair in pairs]


def replace_by_hand(text: str, replacements: list[Replacement]) -> str:
    for change in sorted(replacements, reverse=True):
        text = text[: change.start] + change.text + text[change.end :]
    return text


def are_consistent(text: str, edits: list[Edit]) -> bool:
    spans = np.array([dataclasses.astuple(edit)[:4] for edit in edits], np.int64).reshape(-1, 4)
    return not inconsistent(spans, np.zeros(len(edits), np.int64), np.array([len(text)])).any()


@given(TEXT, st.lists(st.integers(0, 10**6), max_size=4))
def test_any_edits_can_be_undone(source: str, seeds: list[int]) -> None:
    text, edits = source, []
    for number, seed in enumerate(seeds):
        replacements = draw_replacements(text, seed, f"rule{number}")
        expected = replace_by_hand(text, replacements)
        text, edits = edit_text(text, edits, replacements)
        assert text == expected
        assert are_consistent(text, edits)
        replaced = [source[edit.source_start : edit.source_end] for edit in edits]
        assert decoded_source(text, edits, replaced) == source
        written = [text[edit.start : edit.end] for edit in edits]
        assert edited_source(source, edits, written) == text


@given(TEXT, st.lists(st.integers(0, 10**6), max_size=3), st.integers(0, 12), st.integers(0, 12))
def test_a_span_stands_for_its_own_characters_and_whole_edits(
    source: str, seeds: list[int], one: int, other: int
) -> None:
    text, edits = source, []
    for seed in seeds:
        text, edits = edit_text(text, edits, draw_replacements(text, seed, "rule"))
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    low, high = source_span(edits, start, end)
    assert 0 <= low <= high <= len(source)
    assert source_span(edits, 0, len(text)) == (0, len(source))
    inside = [edit for edit in edits if edit.start < end and edit.end > start]
    assert all(low <= edit.source_start and edit.source_end <= high for edit in inside)
    if not any(edit.start <= end and edit.end >= start for edit in edits):
        assert source[low:high] == text[start:end]


@given(TEXT, st.integers(0, 10**6))
def test_characters_outside_of_edits_are_those_of_the_source(source: str, seed: int) -> None:
    text, edits = edit_text(source, [], draw_replacements(source, seed, "rule"))
    for place, character in enumerate(text):
        if not any(edit.start <= place < edit.end for edit in edits):
            # What was deleted beside a character belongs to its span.
            low, high = source_span(edits, place, place + 1)
            assert character in source[low:high]
            if not any(edit.start <= place + 1 and edit.end >= place for edit in edits):
                assert source[low:high] == character


def test_a_redacted_line_traces_back_to_its_source_line() -> None:
    source = "user = 'é😀'\nkey = 'SECRET'\nmail = 'ada@example.org'\n"
    at, mail = source.index("SECRET"), source.index("ada@")
    text, edits = edit_text(source, [], [Replacement(at, at + 6, "<KEY>", "secrets")])
    text, edits = edit_text(text, edits, [Replacement(mail - 1, mail + 14, "<EMAIL>", "pii")])
    assert text == "user = 'é😀'\nkey = '<KEY>'\nmail = '<EMAIL>'\n"
    assert edits == [Edit(at, at + 5, at, at + 6, "secrets"), Edit(mail - 1, mail + 6, mail, mail + 15, "pii")]
    line = text.index("mail")
    low, high = source_span(edits, line, text.index("\n", line))
    assert source[low:high] == "mail = 'ada@example.org'"


def test_what_touches_or_overlaps_is_joined_and_names_all_rules() -> None:
    text, edits = edit_text("0123456789", [], [Replacement(2, 4, "XYZ", "b"), Replacement(4, 5, "", "a")])
    assert (text, edits) == ("01XYZ56789", [Edit(2, 5, 2, 5, "b+a")])
    assert edit_text(text, edits, [Replacement(4, 6, "!", "c")]) == ("01XY!6789", [Edit(2, 5, 2, 6, "b+a+c")])
    assert edit_text(text, edits, [Replacement(5, 5, "!", "a")])[1] == [Edit(2, 6, 2, 5, "b+a")]
    assert edit_text(text, edits, [Replacement(0, 2, "", "c")]) == ("XYZ56789", [Edit(0, 3, 0, 5, "b+a+c")])
    assert len(edit_text(text, edits, [Replacement(6, 7, "", "c")])[1]) == 2, "one character between them"


def test_what_is_undone_leaves_no_edit() -> None:
    text, edits = edit_text("abc", [], [Replacement(1, 1, "inserted", "a")])
    assert edit_text(text, edits, [Replacement(1, 9, "", "b")]) == ("abc", [])
    assert edit_text("abc", [], [Replacement(1, 1, "", "a")]) == ("abc", [])
    text, edits = edit_text("abc", [], [Replacement(1, 2, "B", "a")])
    assert edit_text(text, edits, [Replacement(2, 2, "", "b")]) == (text, edits)


@pytest.mark.parametrize(
    "replacements",
    [
        [Replacement(0, 2, "", "a"), Replacement(1, 3, "", "a")],
        [Replacement(2, 1, "x", "a")],
        [Replacement(0, 4, "", "a")],
        [Replacement(-1, 1, "", "a")],
    ],
)
def test_replacements_that_cannot_be_made(replacements: list[Replacement]) -> None:
    with pytest.raises(ValueError, match="overlaps another replacement or leaves the text of 3 characters"):
        edit_text("abc", [], replacements)


@pytest.mark.parametrize(
    ("spans", "fine"),
    [
        ([(1, 3, 1, 2), (4, 4, 3, 9)], True),
        ([(0, 0, 0, 1)], True),
        ([(9, 10, 9, 10)], True),
        ([(9, 11, 9, 10)], False),  # beyond the text
        ([(1, 3, 2, 3)], False),  # the text before it is not the source's
        ([(3, 1, 3, 4)], False),
        ([(1, 3, 1, 0)], False),
        ([(2, 2, 2, 2)], False),  # nothing at all
        ([(1, 3, 1, 2), (3, 4, 2, 3)], False),  # touches
        ([(1, 3, 1, 2), (2, 4, 1, 3)], False),  # overlaps
        ([(1, 3, 1, 2), (5, 6, 5, 6)], False),  # other distances
        ([(-1, 2, -1, 2)], False),
    ],
)
def test_edits_that_cannot_be(spans: list[tuple[int, int, int, int]], fine: bool) -> None:
    assert are_consistent("0123456789", [Edit(*span, "rule") for span in spans]) == fine


def test_the_edits_of_one_text_say_nothing_of_the_next() -> None:
    spans = np.array([(0, 3, 0, 1), (0, 3, 0, 1), (1, 1, 1, 2)])
    assert inconsistent(spans, np.array([0, 2, 3]), np.array([3, 0, 2, 9])).tolist() == [False, True, False]
