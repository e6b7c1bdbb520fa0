"""A benchmark as evaluation uses it: what is asked, how samples are drawn, and what the judge gets of each."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from sc2jax.benchmarks.evalplus import Arguments
from sc2jax.benchmarks.files import Tasks
from sc2jax.evaluation.judging.cases import Case, Expected
from sc2jax.evaluation.pass_at_k import KS
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Answer

Groups = Mapping[str, Expected]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A program that is right, and with what its function is called to find out what is expected."""

    program: str
    entry_point: str
    groups: Mapping[str, tuple[Arguments, ...]]
    atol: float


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark, read and not yet measured.

    Attributes:
        read: its tasks, and the file that they come from.
        prompt_rule: how a prompt is made of a task, in words.
        sampling: how the paper or the reference system draws samples.
        problems: what is asked of a model, in the order of the tasks.
        golds: for each task an answer that is right.
        texts: of each task, what a corpus must not hold.
        case: from an answer and what its task's reference returns to what is judged.
        references: of each task whose expected values are computed; {} for a benchmark that states them.
        published_as: the names of its groups of tests among published scores.
        exact: for a benchmark that compares texts, what each completion should be.
        parts: for each way to part the tasks, the part of each.
        ks: of pass@k, where a task has as many samples.
    """

    read: Tasks[Any]
    prompt_rule: str
    sampling: Sampling
    problems: tuple[Problem, ...]
    golds: Mapping[str, Answer]
    case: Callable[[Answer, Groups], Case]
    texts: Mapping[str, str]
    references: Mapping[str, Reference] = dataclasses.field(default_factory=dict)
    published_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    exact: Mapping[str, str] | None = None
    parts: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    ks: tuple[int, ...] = KS


def gold(task_id: str, text: str, *, whole: bool = False) -> Answer:
    """An answer that is right: what follows the prompt, or a whole program."""
    return Answer(task_id, 0, text, whole, None, "")


def program(answer: Answer, published: str) -> str:
    """The program of an answer: its prompt as it was sent, or as it was published, and what was written after it."""
    if answer.whole:
        return answer.text
    return (published if answer.prompt is None else answer.prompt) + answer.text
