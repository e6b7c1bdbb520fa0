"""SantaCoder's fill-in-the-middle: single lines of Java, JavaScript and Python programs (arXiv 2301.03988).

The programs are samples of models for MultiPL-E, whose licence forbids training on it. The newlines beside the hidden
line are in neither part: a program is prompt, newline, solution, newline, suffix.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from sc2jax.benchmarks.files import Source, Tasks, read_tasks

SOURCE = Source(
    path="santacoder-fim/train.parquet",
    content_sha256="54d62b5a4f1554ca3f7ab65f901fe1fecdb3eaebac28ebd52a90397c9239c6d9",
    records=4792,
    url="https://huggingface.co/datasets/bigcode/santacoder-fim-task",
    licence="OpenRAIL, and BSD-3-Clause with a clause against training for what is MultiPL-E's",
    shown=False,
)

_COLUMNS = ["name", "language", "prompt", "suffix", "canonical_solution"]


@dataclasses.dataclass(frozen=True)
class FimTask:
    """A line to fill in.

    Attributes:
        task_id: the language and the name of the record, which is unique within a language alone.
        language: short, as the file has it.
        prompt: the program before the line, without the newline before it.
        suffix: the program after the line, without the newline after it.
        canonical_solution: the line.
    """

    task_id: str
    language: Literal["java", "js", "py"]
    prompt: str
    suffix: str
    canonical_solution: str

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return ("\n".join([self.prompt, self.canonical_solution, self.suffix]),)


class _Record(TypedDict):
    name: str
    language: Literal["java", "js", "py"]
    prompt: str
    suffix: str
    canonical_solution: str


def read(folder: str) -> Tasks[FimTask]:
    """The tasks below the folder of benchmarks.

    Raises:
        UserError: the file is not there, or damaged.
    """
    return read_tasks(folder, SOURCE, _Record, _task, _rows)


def _rows(content: bytes) -> Iterable[Any]:
    try:
        return pq.ParquetFile(pa.BufferReader(content)).read(columns=_COLUMNS).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is no such Parquet file ({error})") from error


def _task(record: _Record, _number: int) -> FimTask:
    return FimTask(
        task_id=f"{record['language']}/{record['name']}",
        language=record["language"],
        prompt=record["prompt"],
        suffix=record["suffix"],
        canonical_solution=record["canonical_solution"],
    )
