"""The benchmarks' own solutions pass, but for those that are known not to."""

import json
import os
from collections.abc import Callable, Mapping

import pytest

from sc2jax.assets import asset_path
from sc2jax.benchmarks import gsm8k as gsm8k_files
from sc2jax.errors import UserError
from sc2jax.evaluation.benchmark import Benchmark
from sc2jax.evaluation.config import JudgingConfig
from sc2jax.evaluation.heldout import rank
from sc2jax.evaluation.judging import checks
from sc2jax.evaluation.judging.calibration import time_scale
from sc2jax.evaluation.judging.cases import Judged, NumberCase
from sc2jax.evaluation.judging.gold import expected_of
from sc2jax.evaluation.judging.python_judge import CANDIDATE, JUDGE, PythonJudge, judging_limits
from sc2jax.evaluation.measures import (
    cruxeval,
    gsm8k,
    humaneval,
    humaneval_infilling,
    humanevalplus,
    mbpp,
    mbppplus,
)
from sc2jax.evaluation.sandbox import open_sandbox
from sc2jax.evaluation.verdicts import Verdict

FOLDER = os.environ.get("SC2JAX_BENCHMARKS", "")
LIMITS = judging_limits(JudgingConfig.judge_memory)
BENCHMARKS: Mapping[str, tuple[Callable[[], Benchmark], int, int]] = {
    "humaneval": (lambda: humaneval.read(FOLDER), 164, 164),
    "humaneval-infilling": (lambda: humaneval_infilling.read(FOLDER), 1033, 150),
    "humanevalplus": (lambda: humanevalplus.read(FOLDER, "0.1.9"), 164, 150),
    "humanevalplus-0.1.10": (lambda: humanevalplus.read(FOLDER, "0.1.10"), 164, 60),
    "mbpp": (lambda: mbpp.read(FOLDER), 500, 200),
    "mbppplus": (lambda: mbppplus.read(FOLDER, "0.1.0"), 399, 150),
    "mbppplus-0.2.0": (lambda: mbppplus.read(FOLDER, "0.2.0"), 378, 100),
    "gsm8k": (lambda: gsm8k.read(FOLDER), 1319, 200),
    "cruxeval-input": (lambda: cruxeval.read(FOLDER, "input"), 800, 200),
    "cruxeval-output": (lambda: cruxeval.read(FOLDER, "output"), 800, 200),
}
"""Of each: how many tasks it has, and how many of them are judged here. All were, by hand; that takes some minutes."""

HEAVY = {
    *(f"HumanEval/{number}" for number in (15, 36, 59, 83, 94, 100, 130, 139)),
    *(f"Mbpp/{number}" for number in (138, 255, 599)),
}
"""Their solutions take seconds for the inputs of EvalPlus."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="SC2JAX_BENCHMARKS names no folder with the benchmarks' files"),
]


@pytest.fixture(scope="module")
def sandboxes():
    """For candidates and judges."""
    try:
        with open_sandbox(CANDIDATE, LIMITS) as candidates, open_sandbox(JUDGE, LIMITS) as judges:
            yield candidates, judges
    except UserError as error:
        pytest.skip(f"no sandbox can be reached here: {error}")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_right_answers_pass_but_for_the_known(sandboxes, name):
    read, count, sampled = BENCHMARKS[name]
    benchmark = read()
    assert len(benchmark.golds) == len(benchmark.problems) == count
    candidates, judges = sandboxes
    scale = time_scale(candidates)
    judge = PythonJudge(candidates, judges, scale)
    tasks = sorted(benchmark.golds, key=lambda task: rank(0, task))
    verdicts: list[tuple[str, Judged]] = []
    for task in [task for task in tasks if not (benchmark.references and task in HEAVY)][:sampled]:
        reference = benchmark.references.get(task)
        expected = expected_of(reference, candidates, scale) if reference else {}
        verdicts.append((task, judge.judge(benchmark.case(benchmark.golds[task], expected))))
    checks.refuse_unknown_failures(name, verdicts)
    assert sum(judged.verdict == Verdict.PASSED for _, judged in verdicts) >= len(verdicts) - 1


def test_the_example_programs_of_gsm8k_pass(sandboxes):
    candidates, judges = sandboxes
    judge = PythonJudge(candidates, judges, 1.0)
    answers = [8, 33, 29, 9, 8, 39, 5, 6]  # of the eight questions, worked by hand
    examples = gsm8k_files.pal_examples()
    assert len(examples) == 8
    for example, answer in zip(examples, answers, strict=True):
        program = gsm8k.cut(f'\n\n\ndef solution():\n    """{example.question}"""\n{example.solution}\n\n\n\nQ: ')
        for reference, verdict in ((answer, Verdict.PASSED), (answer + 1, Verdict.WRONG)):
            assert judge.judge(NumberCase(program, float(reference))).verdict == verdict


def test_known_failures_name_tasks_that_there_are():
    known = json.loads(asset_path("data", "benchmarks", "known_gold_failures.json").read_text())
    for name, tasks in known.items():
        assert set(tasks) <= set(BENCHMARKS[name][0]().golds), name
