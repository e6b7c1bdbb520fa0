"""CRUXEval: 800 small Python functions with an input and its output, to predict one from the other (arXiv 2401.03065).

An input is the text between the brackets of a call, an output the text of a literal: both stay text here.
"""

import dataclasses
from typing import Literal, TypedDict

from sc2jax.assets import asset_path
from sc2jax.benchmarks.files import Source, Tasks, read_tasks

SOURCE = Source(
    path="cruxeval/cruxeval.jsonl.gz",
    content_sha256="8368b81047dc5014e4caf5a2f97604eff7644e0ecd7415e3ceeb184bbc2e0c96",
    records=800,
    url="https://github.com/facebookresearch/cruxeval/raw/main/data/cruxeval.jsonl",
    licence="MIT",
)


@dataclasses.dataclass(frozen=True)
class CruxTask:
    """A function `f`, the arguments of a call of it, and what it returns.

    Attributes:
        task_id: such as sample_0.
        code: the program that defines `f`.
        input: the arguments, as Python.
        output: what `f` returns, as a Python literal.
    """

    task_id: str
    code: str
    input: str
    output: str

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return (self.code,)


class _Record(TypedDict):
    id: str
    code: str
    input: str
    output: str


def read(folder: str) -> Tasks[CruxTask]:
    """The tasks below the folder of benchmarks.

    Raises:
        UserError: the file is not there, or damaged.
    """

    def make(record: _Record, _number: int) -> CruxTask:
        return CruxTask(record["id"], record["code"], record["input"], record["output"])

    return read_tasks(folder, SOURCE, _Record, make)


def direct_prompt(task: CruxTask, asked: Literal["input", "output"]) -> str:
    """The prompt of the authors without a chain of thought, as they publish it: it ends in a newline."""
    template = asset_path("data", "benchmarks", f"cruxeval_{asked}.txt").read_text(encoding="utf-8")
    return template.format(code=task.code, input=task.input, output=task.output)
