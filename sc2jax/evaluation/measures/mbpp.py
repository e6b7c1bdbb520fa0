"""MBPP: 500 functions to write from one sentence and a test (arXiv 2108.07732), as bigcode-evaluation-harness has it.

This is not the paper's MBPP, which is the group `base` of MBPP+. The prompt is a docstring of the description and the
first test; 15 samples at temperature 0.1.
"""

import ast
import builtins

from sc2jax.benchmarks import mbpp
from sc2jax.evaluation.benchmark import Benchmark, Groups, gold, program
from sc2jax.evaluation.judging.cases import Case, TestsCase
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer

STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
PROMPT_RULE = "a docstring of the description and the first test"


def read(folder: str, variant: str = "") -> Benchmark:  # noqa: ARG001 (it has one)
    """The benchmark.

    Raises:
        UserError: its file is not there or damaged.
    """
    read_tasks = mbpp.read(folder)
    tasks = {f"MBPP/{task.task_id}": task for task in read_tasks.tasks}
    prompts = {name: f'"""\n{task.text}\n{task.tests[0]}\n"""' for name, task in tasks.items()}

    def case(answer: Answer, _: Groups) -> Case:
        task = tasks[answer.task_id]
        tests = "\n".join(task.tests)
        return TestsCase(
            program=program(answer, prompts[answer.task_id] + "\n"),  # as it is published, it ends its line
            helpers=task.setup,
            tests=tests,
            names=undefined_names(task.setup, tests, task.code),
            check="",
        )

    return Benchmark(
        read=read_tasks,
        prompt_rule=PROMPT_RULE,
        sampling=Sampling(temperature=0.1, top_p=0.95, samples=15, max_new_tokens=512),
        problems=tuple(Problem(name, [prompt], STOPS) for name, prompt in prompts.items()),
        golds={name: gold(name, task.code, whole=True) for name, task in tasks.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
    )


def undefined_names(setup: str, tests: str, code: str) -> tuple[str, ...]:
    """The names that tests use and the candidate has to define: those that nobody else does, or the solution does."""
    trees = [ast.parse(setup), ast.parse(tests)]
    used: dict[str, None] = {}
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound: set[str] = set(dir(builtins)) - defined  # MBPP/126 is about a function `sum`
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                used[node.id] = None
            else:
                bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return tuple(name for name in used if name not in bound)
