"""SantaCoder's fill-in-the-middle: single lines of Java, JavaScript and Python, exact match (arXiv 2301.03988).

Prefix before suffix, greedy, white space around both left out, as bigcode-evaluation-harness has it.
"""

from sc2jax.benchmarks import santacoder
from sc2jax.evaluation.benchmark import Benchmark, Groups, gold
from sc2jax.evaluation.judging.cases import Case, TextCase
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer
from sc2jax.text.fim import infill_prompt

PROMPT_RULE = "what stands before the line as prefix, what stands after it as suffix"


def read(folder: str, variant: str = "") -> Benchmark:  # noqa: ARG001 (it has one)
    """The benchmark.

    Raises:
        UserError: its file is not there or damaged.
    """
    read_tasks = santacoder.read(folder)
    tasks = {task.task_id: task for task in read_tasks.tasks}
    solutions = {name: task.canonical_solution for name, task in tasks.items()}

    def case(answer: Answer, _: Groups) -> Case:
        return TextCase(answer.text, solutions[answer.task_id])

    return Benchmark(
        read=read_tasks,
        prompt_rule=PROMPT_RULE,
        sampling=Sampling(temperature=0.0, top_p=1.0, samples=1, max_new_tokens=128),
        problems=tuple(Problem(name, infill_prompt(task.prompt, task.suffix), ()) for name, task in tasks.items()),
        golds={name: gold(name, solution) for name, solution in solutions.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
        exact=solutions,
        parts={"language": {name: task.language for name, task in tasks.items()}},
    )
