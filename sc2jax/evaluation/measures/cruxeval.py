"""CRUXEval: the output of a function for an input, or an input for an output (arXiv 2401.03065).

The authors' direct prompts, ten samples at temperature 0.2. What was written is an expression: it is evaluated where
the expected value is not, and the judge looks at what comes out, data alone, and calls the function with it. So of a
predicted input the arguments count: a model that writes the expected output beside a call, which the authors' harness
counts, gets nothing for it.
"""

from typing import Literal

from sc2jax.benchmarks import cruxeval
from sc2jax.evaluation.benchmark import Benchmark, Groups, gold
from sc2jax.evaluation.judging.cases import Case, ExpressionCase, FlawedCase
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer

STOPS = ("[/ANSWER]",)
PROMPT_RULE = "the authors' direct prompt: two examples, the function and the assertion"


def read(folder: str, variant: Literal["input", "output"] = "output") -> Benchmark:
    """The benchmark, with what is to be predicted.

    Raises:
        UserError: its file is not there or damaged.
    """
    read_tasks = cruxeval.read(folder)
    tasks = {task.task_id: task for task in read_tasks.tasks}

    def case(answer: Answer, _: Groups) -> Case:
        task = tasks[answer.task_id]
        if variant == "output":
            return ExpressionCase(predicted_output(answer.text), "", task.output)
        written = predicted_input(answer.text)
        return ExpressionCase(written, task.code, task.output) if "f(" in written else FlawedCase("it calls no f")

    return Benchmark(
        read=read_tasks,
        prompt_rule=PROMPT_RULE,
        sampling=Sampling(temperature=0.2, top_p=0.95, samples=10, max_new_tokens=256),
        problems=tuple(
            Problem(name, [cruxeval.direct_prompt(task, variant).rstrip()], STOPS) for name, task in tasks.items()
        ),
        golds={name: gold(name, f"\nassert f({task.input}) == {task.output}\n") for name, task in tasks.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
        published_as={"all": "CRUXEval-I"} if variant == "input" else {},
        ks=(1, 5),
    )


def predicted_output(written: str) -> str:
    """What stands behind the first `==` (cruxeval, inference/tasks/output_prediction.py)."""
    return written.split("==")[1].strip() if "==" in written else written.strip()


def predicted_input(written: str) -> str:
    """The call before the first `==` (cruxeval, inference/tasks/input_prediction.py)."""
    call = written.split("==")[0].strip()
    return ("f" + call.split("assert f")[1].strip()) if "assert f" in call else call
