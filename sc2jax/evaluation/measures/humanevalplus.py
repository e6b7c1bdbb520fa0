"""HumanEval+: HumanEval with 80 times the tests, and its own tests as the group `base` (EvalPlus, arXiv 2305.01210).

Prompts, stops and sampling are HumanEval's. The paper's version is v0.1.9; the judge's rules are evalplus 0.3.1's.
"""

from typing import Literal

from sc2jax.benchmarks.evalplus import PlusTask, read_humaneval_plus
from sc2jax.benchmarks.files import Tasks
from sc2jax.evaluation.benchmark import Benchmark, Groups, Reference, gold, program
from sc2jax.evaluation.judging.cases import CallsCase, Case
from sc2jax.evaluation.measures.humaneval import GREEDY, PROMPT_RULE, STOPS
from sc2jax.evaluation.problems import Problem
from sc2jax.evaluation.samples import Answer


def read(folder: str, variant: Literal["0.1.9", "0.1.10"] = "0.1.9") -> Benchmark:
    """The benchmark in one of its versions.

    Raises:
        UserError: its file is not there or damaged.
    """
    published = {"base": "HumanEval", "plus": "HumanEval+"} if variant == "0.1.9" else {}
    return plus_benchmark(read_humaneval_plus(folder, variant), STOPS, published, PROMPT_RULE)


def plus_benchmark(
    read_tasks: Tasks[PlusTask], stops: tuple[str, ...], published: dict[str, str], prompt_rule: str
) -> Benchmark:
    """A benchmark of EvalPlus, whose tasks have two groups of inputs and a program that says what is expected."""
    tasks = {task.task_id: task for task in read_tasks.tasks}

    def case(answer: Answer, groups: Groups) -> Case:
        task = tasks[answer.task_id]
        return CallsCase(program(answer, task.prompt), task.entry_point, groups)

    return Benchmark(
        read=read_tasks,
        prompt_rule=prompt_rule,
        sampling=GREEDY,
        problems=tuple(Problem(name, [task.prompt.strip()], stops) for name, task in tasks.items()),
        golds={name: gold(name, task.canonical_solution) for name, task in tasks.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
        references={
            name: Reference(
                task.prompt + task.canonical_solution,
                task.entry_point,
                {"base": task.base_inputs, "plus": task.plus_inputs},
                task.atol,
            )
            for name, task in tasks.items()
        },
        published_as=published,
    )
