"""Right answers as other tools store them: with the prompt that their authors publish, without it, and as programs."""

import ast
import os
from typing import Any

import pytest

from sc2jax.evaluation.measures import gsm8k, load, read_benchmark
from sc2jax.evaluation.samples import Answer

FOLDER = os.environ.get("SC2JAX_BENCHMARKS", "")


def published(name: str, task: Any) -> tuple[str, str]:
    """The prompt with all its white space, and what is right after it."""
    if name == "mbpp":  # bigcode-evaluation-harness, tasks/mbpp.py
        return f'"""\n{task.text}\n{task.tests[0]}\n"""\n', task.code
    return task.prompt, task.canonical_solution


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.skipif(not FOLDER, reason="SC2JAX_BENCHMARKS does not name a folder of real files")
@pytest.mark.parametrize("name", ["humaneval", "humaneval-infilled", "humanevalplus", "mbpp", "mbppplus"])
def test_what_is_right_stays_a_program(name: str) -> None:
    benchmark = read_benchmark(name, FOLDER)
    for task, problem in zip(benchmark.read.tasks, benchmark.problems, strict=True):
        prompt, completion = published(name, task)
        for answer in (
            Answer(problem.task_id, 0, completion, False, None, ""),
            Answer(problem.task_id, 0, completion, False, prompt, ""),
            Answer(problem.task_id, 0, "\n" + completion, False, problem.prompt, ""),
            Answer(problem.task_id, 0, prompt + completion, True, None, ""),
            Answer(problem.task_id, 0, prompt + completion, True, problem.prompt, ""),
        ):
            case: Any = benchmark.case(answer, {})
            defined = {node.name for node in ast.parse(case.program).body if isinstance(node, ast.FunctionDef)}
            expected = {node.name for node in ast.parse(prompt + completion).body if isinstance(node, ast.FunctionDef)}
            assert defined == expected


def test_the_first_program_counts_with_its_heading_or_without() -> None:
    heading = "# solution in Python:"
    first, second = ("def solution():\n    return 5", "def solution():\n    return 7")
    for written in (
        f"\n\n\n{first}\n\n\n\n\n\nQ: next\n\n{heading}\n\n\n{second}",
        f"{heading}\n\n\n{first}\n\n\n{heading}\n{second}",
        f"\n{first}\n{heading}\n{second}",
        f"\n{first}\nQ: next",
    ):
        assert gsm8k.cut(written).strip() == first
    assert load("gsm8k") is gsm8k
