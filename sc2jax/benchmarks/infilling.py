"""HumanEval infilling: 1,033 single lines left out of HumanEval's solutions (arXiv 2207.14255)."""

import dataclasses

from sc2jax.benchmarks.files import Source, Tasks, read_tasks, unchanged

SOURCE = Source(
    path="humaneval-infilling/HumanEval-SingleLineInfilling.jsonl.gz",
    content_sha256="6fffc71ec2f1674372fcc177511f92312f1a27a9eacd8e43255c9f5ee9eca8c8",
    records=1033,
    url="https://github.com/openai/human-eval-infilling/raw/master/data/HumanEval-SingleLineInfilling.jsonl.gz",
    licence="MIT",
)


@dataclasses.dataclass(frozen=True)
class InfillingTask:
    """A line to fill in.

    Attributes:
        task_id: such as SingleLineInfilling/HumanEval/0/L0.
        entry_point: the name of the function.
        prompt: the program before the line.
        suffix: the program after it.
        canonical_solution: the line, with its newline.
        test: a program that defines `check`, which takes the function.
    """

    task_id: str
    entry_point: str
    prompt: str
    suffix: str
    canonical_solution: str
    test: str

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return (self.prompt + self.canonical_solution + self.suffix,)


def read(folder: str) -> Tasks[InfillingTask]:
    """The tasks below the folder of benchmarks.

    Raises:
        UserError: the file is not there, or damaged.
    """
    return read_tasks(folder, SOURCE, InfillingTask, unchanged)
