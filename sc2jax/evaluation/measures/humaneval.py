"""HumanEval: functions to complete from their signature and docstring (Codex paper, arXiv 2107.03374).

The prompt is the task's without white space around it: StarCoder2 was trained on newlines and indentations as single
tokens, and a prompt that ends in a newline costs nearly all of the score. Stops are those of evalplus for base models,
which StarCoder2's scores were made with (paper, section 7.1.1): greedy, one sample.
"""

import dataclasses

from sc2jax.benchmarks import humaneval
from sc2jax.evaluation.benchmark import Benchmark, Groups, gold, program
from sc2jax.evaluation.judging.cases import Case, TestsCase
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer
from sc2jax.text.fim import infill_prompt

STOPS = (
    "\nif __name__", "\ndef main(", "\nprint(", "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ",
)  # fmt: skip
PROMPT_RULE = "the task's prompt without white space around it"
INFILLED = "the task's prompt without white space around it, as what stands before a gap that nothing follows"
GREEDY = Sampling(temperature=0.0, top_p=1.0, samples=1, max_new_tokens=512)


def read(folder: str, variant: str = "") -> Benchmark:
    """The benchmark; with the variant `infilled` prompts ask to fill a gap (evalplus until March 2024).

    Raises:
        UserError: its file is not there or damaged.
    """
    read_tasks = humaneval.read(folder)
    tasks = {task.task_id: task for task in read_tasks.tasks}
    prompts = {name: task.prompt.strip() for name, task in tasks.items()}

    def case(answer: Answer, _: Groups) -> Case:
        task = tasks[answer.task_id]
        # A prompt that asks to fill a gap has special tokens, which are no part of the program.
        gap = answer.prompt == gaps[answer.task_id].prompt
        written_after = dataclasses.replace(answer, prompt=prompts[answer.task_id]) if gap else answer
        return TestsCase(
            program=program(written_after, task.prompt),
            helpers=task.prompt + task.canonical_solution,
            tests=task.test,
            names=(task.entry_point,),
            check="check",
        )

    infilled = variant == "infilled"
    gaps = {name: Problem(name, infill_prompt(prompt, ""), STOPS) for name, prompt in prompts.items()}
    plain = {name: Problem(name, [prompt], STOPS) for name, prompt in prompts.items()}
    return Benchmark(
        read=read_tasks,
        prompt_rule=INFILLED if infilled else PROMPT_RULE,
        sampling=GREEDY,
        problems=tuple((gaps if infilled else plain).values()),
        golds={name: gold(name, task.canonical_solution) for name, task in tasks.items()},
        case=case,
        texts={name: "".join(task.texts()) for name, task in tasks.items()},
        published_as={} if infilled else {"all": "HumanEval"},
    )
