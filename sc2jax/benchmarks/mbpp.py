"""MBPP: Python functions to be written from one sentence, each with three tests (arXiv 2108.07732).

The test split is the 500 tasks of the numbers 11 to 510. The sanitized version holds 427 tasks of all splits, of which
the authors made text and tests agree.
"""

import dataclasses
from typing import TypedDict

from sc2jax.benchmarks.files import Source, Tasks, json_array, read_tasks
from sc2jax.errors import UserError

SOURCE = Source(
    path="mbpp/mbpp.jsonl.gz",
    content_sha256="ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
    records=974,
    url="https://github.com/google-research/google-research/raw/master/mbpp/mbpp.jsonl",
    licence="CC-BY-4.0",
)

SANITIZED = Source(
    path="mbpp/sanitized-mbpp.json.gz",
    content_sha256="8ac32b2799150228e2d745aed09c870b7e4444246d4727d1004576207ef40769",
    records=427,
    url="https://github.com/google-research/google-research/raw/master/mbpp/sanitized-mbpp.json",
    licence="CC-BY-4.0",
)

_TEST_SPLIT = range(11, 511)


@dataclasses.dataclass(frozen=True)
class MbppTask:
    """A function to write.

    Attributes:
        task_id: its number.
        text: what the function shall do.
        code: a program that is right.
        tests: assertions.
        setup: a program that the tests need before them; "" for nearly all.
        challenge_tests: further assertions, of few tasks.
    """

    task_id: int
    text: str
    code: str
    tests: tuple[str, ...]
    setup: str
    challenge_tests: tuple[str, ...]

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return self.text, self.code


class _Record(TypedDict):
    task_id: int
    text: str
    code: str
    test_list: list[str]
    test_setup_code: str
    challenge_test_list: list[str]


class _SanitizedRecord(TypedDict):
    task_id: int
    prompt: str
    code: str
    test_imports: list[str]
    test_list: list[str]


def read(folder: str) -> Tasks[MbppTask]:
    """The tasks of the test split.

    Raises:
        UserError: the file is not there, or damaged, or has no task of the test split.
    """
    splits = read_tasks(folder, SOURCE, _Record, _task)
    test = tuple(task for task in splits.tasks if task.task_id in _TEST_SPLIT)
    if not test:
        raise UserError(f"{SOURCE.path} has no task of MBPP's test split (11 to 510); {SOURCE.remedy(folder)}")
    return dataclasses.replace(splits, tasks=test)


def read_sanitized(folder: str) -> Tasks[MbppTask]:
    """The tasks of the sanitized version, of all splits.

    Raises:
        UserError: the file is not there, or damaged.
    """
    return read_tasks(folder, SANITIZED, _SanitizedRecord, _sanitized_task, json_array)


def _task(record: _Record, _number: int) -> MbppTask:
    return MbppTask(
        task_id=record["task_id"],
        text=record["text"],
        code=record["code"],
        tests=tuple(record["test_list"]),
        setup=record["test_setup_code"],
        challenge_tests=tuple(record["challenge_test_list"]),
    )


def _sanitized_task(record: _SanitizedRecord, _number: int) -> MbppTask:
    return MbppTask(
        task_id=record["task_id"],
        text=record["prompt"],
        code=record["code"],
        tests=tuple(record["test_list"]),
        setup="\n".join(record["test_imports"]),
        challenge_tests=(),
    )
