"""Runs compared: figures by hand, tasks gained and lost, and runs that cannot be compared."""

import dataclasses
import re

import pytest
from judged_runs import compared, facts

from sc2jax.errors import UserError
from sc2jax.evaluation.comparison import compared_metrics, in_lines, render_comparison, signed
from sc2jax.evaluation.pass_at_k import mean_over_tasks

BASE = compared("base", {"a": ["wrong"], "b": ["passed"], "c": ["wrong"], "d": ["timeout"], "e": ["passed"]})
TUNED = compared("tuned", {"a": ["passed"], "b": ["passed"], "c": ["passed"], "d": ["wrong"], "e": ["crashed"]})


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]).split())


def test_differences_are_paired_with_the_first_run():
    (metric,) = compared_metrics([BASE, TUNED])
    assert (metric.group, metric.name) == ("all", "pass@1")
    first, second = metric.figures
    assert (first.run, first.value["value"], first.difference) == ("base", 0.4, None)
    assert (second.run, second.value["value"]) == ("tuned", 0.6)
    assert second.difference == mean_over_tasks([1, 0, 1, 0, -1], seed=3)
    assert list(in_lines([BASE, TUNED])) == [
        "base: pass@1 40.0%",
        "tuned: pass@1 60.0%, +20.0 points to base (−40.0 to +80.0)",
    ]


def test_the_page_names_tasks_gained_and_lost():
    text = text_of(render_comparison([BASE, TUNED]))
    assert "Gained 2 tasks a wrong → passed c wrong → passed" in text
    assert "Lost 1 task e passed → crashed 2 tasks alike." in text
    assert "tuned 5 60.0 % 20.0 % to 100.0 % +20.0 −40.0 to +80.0" in text
    assert "by chance" not in text
    assert 'class="caveat"' not in render_comparison([BASE, TUNED])


def test_bold_is_what_leaves_out_zero():
    tasks = [f"t{number}" for number in range(40)]
    none = compared("none", {task: ["wrong"] for task in tasks})
    half = compared("half", {task: ["passed" if number % 2 else "wrong"] for number, task in enumerate(tasks)})
    assert "<strong>+50.0</strong>" in render_comparison([none, half])
    assert "<strong>+20.0</strong>" not in render_comparison([BASE, TUNED])


def test_many_samples_are_compared_by_how_many_passed_the_largest_change_first():
    one = compared("one", {"a": ["passed", "wrong"], "b": ["wrong", "wrong"], "c": ["wrong", "wrong"]})
    two = compared("two", {"a": ["wrong", "wrong"], "b": ["passed", "wrong"], "c": ["passed", "passed"]})
    text = text_of(render_comparison([one, two]))
    assert "Gained 2 tasks c 0/2 → 2/2 b 0/2 → 1/2" in text
    assert "Lost 1 task a 1/2 → 0/2" in text


def test_groups_and_metrics_each_have_their_figures():
    one = compared("one", {"a": ["passed/wrong"], "b": ["passed/passed"]})
    two = compared("two", {"a": ["passed/passed"], "b": ["wrong/wrong"]})
    found = {metric.group: metric.figures[1].difference for metric in compared_metrics([one, two])}
    assert found["base"] == mean_over_tasks([0, -1], seed=3)
    assert found["plus"] == mean_over_tasks([1, -1], seed=3)


def test_tasks_that_both_have_are_compared_and_the_page_says_so():
    fewer = compared("fewer", {"a": ["passed"], "b": ["wrong"], "z": ["passed"]})
    (metric,) = compared_metrics([BASE, fewer])
    assert metric.figures[1].value["tasks"] == 2
    assert metric.figures[1].difference == mean_over_tasks([1, -1], seed=3)
    assert "fewer has 3 tasks and base 5; compared are the 2 that both have." in text_of(
        render_comparison([BASE, fewer])
    )


def test_what_else_differs_is_said():
    greedy = {"temperature": 0.0, "top_p": 1.0, "samples": 1, "max_new_tokens": 512}
    other = compared(
        "other <i>", {"a": ["wrong"]}, sampling=greedy, tools={"python": "3.12.1", "numpy": "2"}, prompt_rule=""
    )
    text = text_of(render_comparison([BASE, other]))
    for said in (
        "drawn otherwise (1 sample a task, greedy) than base (2 samples a task, temperature 0.2",
        "How the prompts of other &lt;i&gt; were made is not known",
        "judged with python 3.12.1, base with 3.11.9",
        "judged with numpy 2, base with none",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmark": "mbpp_plus"}, "the benchmark of one is mbpp_plus, of the other humaneval_plus"),
        ({"file": facts()["file"] | {"content_sha256": "d" * 64}}, "content_sha256 of one is ddd"),
        ({"prompt_rule": "with a newline"}, "the prompt rule of one is with a newline, of the other without"),
    ],
)
def test_runs_that_measured_something_else_are_refused(changes, said):
    other = compared("other", {"a": ["passed"]}, **changes)
    with pytest.raises(UserError, match=f"other and base cannot be compared: .*{said}"):
        render_comparison([BASE, other])


def test_runs_that_measured_files_compressed_otherwise_are_compared():
    other = compared("other", {"a": ["passed"]}, file=facts()["file"] | {"sha256": "d" * 64})
    assert render_comparison([BASE, other])


def test_runs_that_are_none_are_refused():
    with pytest.raises(UserError, match="1 runs cannot be compared"):
        render_comparison([BASE])
    with pytest.raises(UserError, match="two runs are called base"):
        render_comparison([BASE, TUNED, BASE])
    with pytest.raises(UserError, match="no task in common"):
        render_comparison([BASE, compared("other", {"z": ["passed"]})])
    with pytest.raises(UserError, match="the tests' groups of one is base, plus, of the other all"):
        render_comparison([BASE, compared("other", {"a": ["passed/passed"]})])


def test_scores_of_other_verdicts_are_refused():
    other = dataclasses.replace(TUNED, judged=BASE.judged)
    with pytest.raises(UserError, match="tuned: its scores are not those of its verdicts; judge it again"):
        render_comparison([BASE, other])
    # As many of each verdict, but of other tasks.
    one = compared("one", {"a": ["passed"], "b": ["wrong"]})
    two = compared("two", {"a": ["wrong"], "b": ["passed"]})
    assert one.scores["verdicts"] == two.scores["verdicts"]
    with pytest.raises(UserError, match="one: its scores are not"):
        render_comparison([dataclasses.replace(one, judged=two.judged), two])
    right = one.scores["metrics"]["all"]["pass@1"]
    for metrics in ({"pass@2": right}, {"pass@many": right}, {"pass@1": right | {"value": 0.75}}):
        edited = dataclasses.replace(one, scores=one.scores | {"metrics": {"all": metrics}})
        with pytest.raises(UserError, match="one: its scores are not"):
            render_comparison([edited, two])
    with pytest.raises(UserError, match="one: its scores are not"):
        render_comparison([dataclasses.replace(one, scores=one.scores | {"metrics": {}}), two])


@pytest.mark.parametrize(
    ("share", "written"), [(0.0004, "0.0"), (-0.0004, "0.0"), (0.015, "+1.5"), (-0.2, "−20.0"), (0, "0.0")]
)
def test_a_difference_has_its_sign(share, written):
    assert signed(share) == written
