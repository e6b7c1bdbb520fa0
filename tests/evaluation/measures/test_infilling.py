import difflib

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import scripted_model

from sc2jax.evaluation.config import InfillingConfig
from sc2jax.evaluation.heldout import CodeFile
from sc2jax.evaluation.measures.infilling import (
    choose_lines,
    cut_context,
    edit_similarity,
    measure,
    summary,
    wilson_interval,
)
from sc2jax.inference.generate import Completion
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

CONFIG = InfillingConfig()
TEXT = """import os


def double(values):
    result = []
    for value in values:
        result.append(2 * value)
    # ----------------------------
    return result

}
last = double([1, 2])
"""
FILES = [
    CodeFile("one", "a.py", "Python", TEXT),
    CodeFile("two", "b.c", "C", "int x;\r\nint yyy;\r\nint yyy;\r\nint z;\r\n"),
]


def measured(model, heldout, config, seed):
    return measure(model, lambda _: heldout, config, seed)


class Oracle:
    """Knows the held-out lines by the text around them; what it does with one is the test's."""

    def __init__(self, tokenizer: Tokenizer, answer, finished: bool = True) -> None:
        self.tokenizer, self.answer, self.finished = tokenizer, answer, finished
        self.prompts: list[str] = []
        self.answers = {
            self.rendered(*cut_context(line.prefix, line.suffix, CONFIG)): line.line
            for line in choose_lines(FILES, CONFIG, 0)
        }

    @staticmethod
    def rendered(prefix: str, suffix: str) -> str:
        return f"<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>"

    def __call__(
        self,
        prompts: list[list[int]],
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int],
        batch_size: int,
    ) -> list[Completion]:
        assert (max_new_tokens, batch_size) == (CONFIG.infill_tokens, CONFIG.infill_batch)
        assert {Special.END_OF_TEXT, Special.FILE_SEP, Special.REPO_NAME, Special.FIM_PREFIX} <= stop_ids
        self.prompts = [self.tokenizer.decode(prompt) for prompt in prompts]
        return [
            Completion(self.tokenizer.encode_text(self.answer(self.answers[prompt])), self.finished)
            for prompt in self.prompts
        ]


def test_lines_that_can_be_asked_for() -> None:
    lines = choose_lines(FILES[:1], CONFIG, 0)
    # Neither the first nor the last line, no blank one, no bracket, no rule of dashes.
    assert sorted(line.number for line in lines) == [4, 5, 6, 7, 9]
    for line in lines:
        assert line.prefix + line.line + line.suffix == TEXT
        assert line.line == TEXT.split("\n")[line.number - 1]


def test_lines_are_drawn_one_a_file_and_the_same_in_any_order() -> None:
    lines = choose_lines(FILES, CONFIG, 1)
    assert {line.file.path for line in lines[:2]} == {"a.py", "b.c"}
    assert lines == choose_lines(FILES[::-1], CONFIG, 1)
    assert len(choose_lines(FILES, InfillingConfig(infill_samples=3), 1)) == 3
    assert len({tuple(line.number for line in choose_lines(FILES, CONFIG, seed)) for seed in range(9)}) > 1


def test_lines_come_from_no_more_text_than_was_asked_for() -> None:
    assert len({line.file.path for line in choose_lines(FILES, InfillingConfig(max_files=1), 0)}) == 1
    assert {line.file.text for line in choose_lines(FILES[:1], InfillingConfig(max_bytes=60), 0)} == {TEXT[:60]}


def test_a_line_of_just_the_length_may_be_asked_for() -> None:
    longest = len("result.append(2 * value)")
    numbers = [line.number for line in choose_lines(FILES[:1], InfillingConfig(max_line_characters=longest), 0)]
    assert sorted(numbers) == [4, 5, 6, 7, 9]
    numbers = [line.number for line in choose_lines(FILES[:1], InfillingConfig(max_line_characters=longest - 1), 0)]
    assert sorted(numbers) == [4, 5, 6, 9]


def test_long_lines_and_few_letters_are_left_out() -> None:
    assert choose_lines(FILES[:1], InfillingConfig(max_line_characters=12), 0)[0].line.strip() == "result = []"
    numbers = [line.number for line in choose_lines(FILES[:1], InfillingConfig(min_line_letters=13), 0)]
    assert sorted(numbers) == [4, 6, 7]


def test_a_generator_that_knows_the_lines_is_right(byte_tokenizer: Tokenizer) -> None:
    oracle = Oracle(byte_tokenizer, lambda line: f"{line}  ")
    result = measured(scripted_model(byte_tokenizer, complete=oracle), FILES, CONFIG, 0)
    assert result["measured"] is True
    assert result["model"] == {"samples": 7, "exact": 7, "exact_match": 1.0, "edit_similarity": 1.0}
    assert result["stopped"] == result["first_line_match"] == 1.0
    assert result["by_language"]["C"]["samples"] == 2
    # Of all the lines, only the second `int yyy;` repeats the one before it.
    assert result["copy_previous"]["exact"] == 1
    assert [item["prompt"] for item in result["items"]] == oracle.prompts
    for item in result["items"]:
        assert item["exact"] and item["finish"] == "stop" and item["completion"].strip() == item["reference"].strip()
        source = next(file.text for file in FILES if file.path == item["path"])
        assert item["before"] + item["reference"] + item["after"] in source


def test_a_generator_that_does_not_is_wrong(byte_tokenizer: Tokenizer) -> None:
    result = measured(
        scripted_model(byte_tokenizer, complete=Oracle(byte_tokenizer, lambda _: "", False)), FILES, CONFIG, 0
    )
    assert result["measured"] is True
    assert result["model"] == {"samples": 7, "exact": 0, "exact_match": 0.0, "edit_similarity": 0.0}
    assert result["stopped"] == 0.0 and {item["finish"] for item in result["items"]} == {"length"}


def test_going_on_after_the_line_is_wrong_but_its_first_line_is_not(byte_tokenizer: Tokenizer) -> None:
    result = measured(
        scripted_model(byte_tokenizer, complete=Oracle(byte_tokenizer, lambda line: f"{line}\nmore")), FILES, CONFIG, 0
    )
    assert result["measured"] is True
    assert result["model"]["exact"] == 0 and result["first_line_match"] == 1.0
    assert 0 < result["model"]["edit_similarity"] < 1


def test_blank_lines_before_the_right_one_are_no_first_line(byte_tokenizer: Tokenizer) -> None:
    oracle = Oracle(byte_tokenizer, lambda line: f"\n\n{line}\nmore")
    result = measured(scripted_model(byte_tokenizer, complete=oracle), FILES, CONFIG, 0)
    assert result["measured"] is True and result["first_line_match"] == 1.0


def test_a_sample_shows_four_lines_on_each_side(byte_tokenizer: Tokenizer) -> None:
    text = "".join(f"line {number}\n" for number in range(1, 20))
    model = scripted_model(byte_tokenizer, complete=lambda prompts, **_: [Completion([], True)] * len(prompts))
    result = measured(model, [CodeFile("r", "p", "Python", text)], CONFIG, 0)
    assert result["measured"] is True
    item = next(item for item in result["items"] if item["line"] == 9)
    assert item["before"] == "line 5\nline 6\nline 7\nline 8\n"
    assert item["after"] == "\nline 10\nline 11\nline 12\nline 13"


def test_special_tokens_spelt_by_a_file_stay_text(byte_tokenizer: Tokenizer) -> None:
    prompts: list[list[int]] = []

    def generate(rows: list[list[int]], **_: object) -> list[Completion]:
        prompts.extend(rows)
        return [Completion([], True) for _ in rows]

    hostile = CodeFile("r", "p", "Python", "a = '<fim_middle>'\nbbb = 1\nc = '<file_sep>'\n")
    measured(scripted_model(byte_tokenizer, complete=generate), [hostile], CONFIG, 0)
    assert [[token for token in row if token < len(Special)] for row in prompts] == [
        [Special.FIM_PREFIX, Special.FIM_SUFFIX, Special.FIM_MIDDLE]
    ]


def test_no_line_no_figure(byte_tokenizer: Tokenizer) -> None:
    model = scripted_model(byte_tokenizer)
    for text in ("", "x", "only_line = 1\n", "\n\n\n", "a1\n{\n}\nb1\n"):
        result = measured(model, [CodeFile("r", "p", "Python", text)], CONFIG, 0)
        assert result["measured"] is False and "line" in result["reason"]
    for name in ("infill_samples", "max_bytes"):
        off = measured(model, FILES, InfillingConfig(**{name: 0}), 0)
        assert off["measured"] is False and name in off["reason"]


@given(st.lists(st.text("ab ", max_size=9), max_size=9), st.lists(st.text("ab ", max_size=9), max_size=9))
def test_context_keeps_to_its_budget_in_whole_lines(before: list[str], after: list[str]) -> None:
    config = InfillingConfig(prefix_characters=20, suffix_characters=15)
    whole_prefix, whole_suffix = "".join(f"{line}\n" for line in before), "".join(f"\n{line}" for line in after)
    prefix, suffix = cut_context(whole_prefix, whole_suffix, config)
    assert len(prefix) <= 20 and whole_prefix.endswith(prefix)
    assert len(suffix) <= 15 and whole_suffix.startswith(suffix)
    # As many lines as fit: none is longer than 9 characters.
    kept = prefix.count("\n")
    assert prefix == "".join(f"{line}\n" for line in before[len(before) - kept :])
    assert kept == len(before) or len(prefix) + len(before[-kept - 1]) + 1 > 20
    assert suffix == "".join(f"\n{line}" for line in after[: suffix.count("\n")])


def test_a_line_longer_than_the_budget_is_cut() -> None:
    config = InfillingConfig(prefix_characters=5, suffix_characters=4)
    assert cut_context("x" * 50 + "end\n", "\nstart" + "y" * 50, config) == ("xend\n", "\nsta")


@pytest.mark.parametrize(("exact", "samples"), [(0, 7), (17, 128), (5, 5)])
def test_interval_is_wilsons(exact: int, samples: int) -> None:
    interval = scipy.stats.binomtest(exact, samples).proportion_ci(0.95, method="wilson")
    assert wilson_interval(exact, samples) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_the_interval_lies_within_all_proportions() -> None:
    for samples in range(1, 300):
        assert wilson_interval(0, samples)[0] >= 0.0 and wilson_interval(samples, samples)[1] <= 1.0


def test_edit_similarity_is_difflibs() -> None:
    assert edit_similarity("  abcd\n", "bcde") == difflib.SequenceMatcher(None, "abcd", "bcde").ratio() == 0.75
    long = "abc" * 100  # in which difflib would call every character junk
    assert edit_similarity("-" + long[:150], long) == pytest.approx(2 * 150 / 451)


def test_the_result_in_a_sentence(byte_tokenizer: Tokenizer) -> None:
    oracle = Oracle(byte_tokenizer, lambda line: line if "int" in line else "")
    result = measured(scripted_model(byte_tokenizer, complete=oracle), FILES, CONFIG, 0)
    assert summary(result) == (
        "infilling: 2 of 7 lines exact (28.6%), edit similarity 0.29; copying the line before: 14.3%"
    )
    assert summary({"measured": False, "reason": "why"}) == "infilling: not measured, why"
