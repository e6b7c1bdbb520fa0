"""HumanEval infilling: single lines of HumanEval's solutions, judged by its tests (arXiv 2207.14255)."""

from sc2jax.benchmarks import infilling
from sc2jax.evaluation.benchmark import Benchmark, Groups, gold
from sc2jax.evaluation.judging.cases import Case, TestsCase
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer
from sc2jax.text.fim import infill_prompt

PROMPT_RULE = "what stands before the line as prefix, what stands after it as suffix"


def read(folder: str, variant: str = "") -> Benchmark:  # noqa: ARG001 (it has one)
    """The benchmark.

    Raises:
        UserError: its file is not there or damaged.
    """
    read_tasks = infilling.read(folder)
    tasks = {task.task_id: task for task in read_tasks.tasks}

    def case(answer: Answer, _: Groups) -> Case:
        task = tasks[answer.task_id]
        return TestsCase(
            program=answer.text if answer.whole else task.prompt + answer.text + task.suffix,
            helpers=task.prompt + task.canonical_solution + task.suffix,
            tests=task.test,
            names=(task.entry_point,),
            check="check",
        )

    return Benchmark(
        read=read_tasks,
        prompt_rule=PROMPT_RULE,
        sampling=Sampling(temperature=0.0, top_p=1.0, samples=1, max_new_tokens=128),
        problems=tuple(Problem(name, infill_prompt(task.prompt, task.suffix), ()) for name, task in tasks.items()),
        golds={name: gold(name, task.canonical_solution) for name, task in tasks.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
    )
