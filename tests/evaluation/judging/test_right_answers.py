"""What right answers return, where they do not."""

import dataclasses
from typing import Any

import pytest

from sc2jax.errors import UserError
from sc2jax.evaluation.benchmark import Benchmark, Reference, gold
from sc2jax.evaluation.judging import gold as right_answers
from sc2jax.evaluation.judging.cases import CallsCase
from sc2jax.evaluation.problems import Problem, Sampling


def benchmark(program: str) -> Benchmark:
    """One task, whose own solution it is."""
    read: Any = None  # its file, at which nothing looks where nothing is remembered
    return Benchmark(
        read=read,
        prompt_rule="",
        sampling=Sampling(temperature=0.0, top_p=1.0, samples=1, max_new_tokens=1),
        problems=(Problem("T/0", ["def f():"], ()),),
        golds={"T/0": gold("T/0", program, whole=True)},
        case=lambda answer, groups: CallsCase(answer.text, "f", groups),
        texts={"T/0": program},
        references={"T/0": Reference(program, "f", {"base": ((),)}, 0.0)},
    )


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("def f():\n    while True: pass", "T/0: timeout, what it returns is not known in time"),
        ("def f():\n    return 1 / 0", "T/0: wrong, the canonical solution of f fails"),
        ("import os\ndef f():\n    os._exit(3)", "T/0: wrong"),
    ],
)
def test_a_solution_that_gives_nothing_is_told_by_its_task(judge, candidates, monkeypatch, program, told):
    monkeypatch.setattr(right_answers, "_SECONDS", 1.0)
    with pytest.raises(UserError, match=told):
        right_answers.remembered_expected("none", benchmark(program), judge, candidates, {}, "", lambda _: None)


def test_what_a_solution_returns_is_expected(judge, candidates):
    known = benchmark("def f():\n    return [1, 2.5]")
    found = right_answers.remembered_expected("none", known, judge, candidates, {}, "", lambda _: None)
    assert dataclasses.asdict(found["T/0"]["base"])["values"] == (b"[1,2.5]",)
