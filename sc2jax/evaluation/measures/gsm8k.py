"""GSM8K by PAL: word problems whose answer a program computes (arXiv 2110.14168, 2211.10435).

Eight examples, greedy, one sample, as bigcode-evaluation-harness has it. Its prompt ends in three newlines, which here
the model writes: so what it writes is cut at three newlines after its first line of text, and generation ends at four,
more than the examples have anywhere within one, or at the next question.
"""

from sc2jax.benchmarks import gsm8k
from sc2jax.evaluation.benchmark import Benchmark, Groups, gold
from sc2jax.evaluation.judging.cases import Case, NumberCase
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer

STOPS = ("\n\n\n\n", "\nQ:")
PROMPT_RULE = "PAL's eight examples, the question, and '# solution in Python:'"
_HEADING = "# solution in Python:"


def read(folder: str, variant: str = "") -> Benchmark:  # noqa: ARG001 (it has one)
    """The benchmark.

    Raises:
        UserError: its file is not there or damaged.
    """
    read_tasks = gsm8k.read(folder)
    tasks = {task.task_id: task for task in read_tasks.tasks}
    shots = "".join(
        f'Q: {example.question}\n\n{_HEADING}\n\n\ndef solution():\n    """{example.question}"""\n'
        f"{example.solution}\n\n\n\n\n\n"
        for example in gsm8k.pal_examples()
    )

    def case(answer: Answer, _: Groups) -> Case:
        return NumberCase(cut(answer.text), tasks[answer.task_id].reference)

    return Benchmark(
        read=read_tasks,
        prompt_rule=PROMPT_RULE,
        sampling=Sampling(temperature=0.0, top_p=1.0, samples=1, max_new_tokens=512),
        problems=tuple(
            Problem(name, [f"{shots}Q: {task.question}\n\n{_HEADING}"], STOPS) for name, task in tasks.items()
        ),
        golds={name: gold(name, f"\n\n\ndef solution():\n    return {task.reference}") for name, task in tasks.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
        published_as={"all": "GSM8K (PAL)"},
    )


def cut(written: str) -> str:
    """The program in what was written, after a heading or without: up to three newlines, another one, or a question."""
    program = written.strip().removeprefix(_HEADING).split(_HEADING)[0]
    return program.strip().split("\n\n\n")[0].split("Q:")[0]
