"""HumanEval: 164 Python functions to be completed from their signature and docstring (arXiv 2107.03374)."""

import dataclasses

from sc2jax.benchmarks.files import Source, Tasks, read_tasks, unchanged

SOURCE = Source(
    path="humaneval/HumanEval.jsonl.gz",
    content_sha256="1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2",
    records=164,
    url="https://github.com/openai/human-eval/raw/6d43fb980f9fee3c892a914eda09951f772ad10d/data/HumanEval.jsonl.gz",
    licence="MIT",
)


@dataclasses.dataclass(frozen=True)
class HumanEvalTask:
    """A function to complete.

    Attributes:
        task_id: such as HumanEval/0.
        prompt: the program up to the body of the function.
        entry_point: the name of the function.
        canonical_solution: the body.
        test: a program that defines `check`, which takes the function.
    """

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return self.prompt, self.canonical_solution


def read(folder: str) -> Tasks[HumanEvalTask]:
    """The tasks below the folder of benchmarks.

    Raises:
        UserError: the file is not there, or damaged.
    """
    return read_tasks(folder, SOURCE, HumanEvalTask, unchanged)
