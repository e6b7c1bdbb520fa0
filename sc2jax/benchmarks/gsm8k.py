"""GSM8K: 1,319 word problems of primary school (arXiv 2110.14168), and PAL's examples of solving them by programs."""

import dataclasses
import re
from typing import TypedDict

from sc2jax.assets import asset_path
from sc2jax.benchmarks.files import Source, Tasks, read_tasks
from sc2jax.json_files import read_json

SOURCE = Source(
    path="gsm8k/test.jsonl.gz",
    content_sha256="3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    records=1319,
    url="https://github.com/openai/grade-school-math/raw/master/grade_school_math/data/test.jsonl",
    licence="MIT",
)

_BEFORE_REFERENCE = "#### "


@dataclasses.dataclass(frozen=True)
class GsmTask:
    """A word problem.

    Attributes:
        task_id: GSM8K/ and the number of its line, from 0 on; the file names none.
        question: the problem.
        answer: how it is solved, in words, and the result.
        reference: the result.
    """

    task_id: str
    question: str
    answer: str
    reference: int | float

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return self.question, self.answer


@dataclasses.dataclass(frozen=True)
class PalExample:
    """A word problem, and the body of a Python function that solves it."""

    question: str
    solution: str


class _Record(TypedDict):
    question: str
    answer: str


def read(folder: str) -> Tasks[GsmTask]:
    """The tasks of the test split.

    Raises:
        UserError: the file is not there, or damaged.
    """
    return read_tasks(folder, SOURCE, _Record, _task)


def pal_examples() -> tuple[PalExample, ...]:
    """The eight examples of PAL (arXiv 2211.10435), in the order in which bigcode-evaluation-harness gives them."""
    path = asset_path("data", "benchmarks", "gsm8k_pal.json")
    return read_json(str(path), tuple[PalExample, ...], "install sc2jax again")


def _task(record: _Record, number: int) -> GsmTask:
    _, mark, result = record["answer"].rpartition(_BEFORE_REFERENCE)
    digits = result.strip().replace(",", "")
    if not mark or not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", digits):
        raise ValueError(f"its answer does not end in {_BEFORE_REFERENCE!r} and a number")
    reference = float(digits) if "." in digits else int(digits)
    return GsmTask(f"GSM8K/{number}", record["question"], record["answer"], reference)
