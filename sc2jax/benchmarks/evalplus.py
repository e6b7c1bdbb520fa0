"""HumanEval+ and MBPP+: HumanEval and MBPP with many more inputs (EvalPlus, arXiv 2305.01210).

An answer is right if the function returns what the canonical solution returns, for the inputs of the original tests
("base") and for those that EvalPlus added ("plus"). StarCoder2's paper (arXiv 2402.19173, table 9) used HumanEval+
v0.1.9 and the 399 tasks of MBPP+ v0.1.0: its scores are multiples of 1/399, of which v0.2.0 dropped 21.

The files are JSON, which knows neither tuples nor sets nor complex numbers: of some tasks of MBPP+ the arguments are
restored by the task's number, as evalplus 0.3.1 does it. HumanEval+ is used as it stands.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

import msgspec

from sc2jax.benchmarks.files import Source, Tasks, read_tasks

HumanEvalPlusVersion = Literal["0.1.9", "0.1.10"]
MbppPlusVersion = Literal["0.1.0", "0.2.0"]

_RELEASES = "https://github.com/evalplus/{}_release/releases/download/v{}/{}.jsonl.gz"

HUMANEVAL_PLUS: dict[HumanEvalPlusVersion, Source] = {
    "0.1.9": Source(
        path="humanevalplus/v0.1.9/HumanEvalPlus.jsonl.gz",
        content_sha256="50d50fda1ecf4c9168d762456ae29c1d8b8b922e68c66964f7891c98d93a04b7",
        records=164,
        url=_RELEASES.format("humanevalplus", "0.1.9", "HumanEvalPlus"),
        licence="Apache-2.0, and MIT for what is HumanEval's",
    ),
    "0.1.10": Source(
        path="humanevalplus/HumanEvalPlus.jsonl.gz",
        content_sha256="42526ec0e7d5f3ee0b06d6ced98f8c8bae3d76519151bfb3d36f79010645bd7f",
        records=164,
        url=_RELEASES.format("humanevalplus", "0.1.10", "HumanEvalPlus"),
        licence="Apache-2.0, and MIT for what is HumanEval's",
    ),
}

MBPP_PLUS: dict[MbppPlusVersion, Source] = {
    "0.1.0": Source(
        path="mbppplus/MbppPlus-v0.1.0.jsonl.gz",
        content_sha256="a855b9de667baea8e2f8aa61f898767a7336872208a85222b35622545e819fe9",
        records=399,
        url=_RELEASES.format("mbppplus", "0.1.0", "MbppPlus"),
        licence="Apache-2.0, and CC-BY-4.0 for what is MBPP's",
    ),
    "0.2.0": Source(
        path="mbppplus/MbppPlus.jsonl.gz",
        content_sha256="b54e762755248ca411b523c917fa9f93c07b5ff2966bf60b3917b853926a3dad",
        records=378,
        url=_RELEASES.format("mbppplus", "0.2.0", "MbppPlus"),
        licence="Apache-2.0, and CC-BY-4.0 for what is MBPP's",
    ),
}

Arguments = tuple[Any, ...]
"""Of one call of the function: what JSON holds, and tuples, sets and complex numbers."""


@dataclasses.dataclass(frozen=True)
class PlusTask:
    """A function to write.

    Attributes:
        task_id: such as HumanEval/0 or Mbpp/2.
        prompt: of HumanEval+ the program up to the body of the function, of MBPP+ a docstring.
        entry_point: the name of the function.
        canonical_solution: what follows the prompt in a program that is right.
        base_inputs: of the original tests. They are mutable: who calls a function with them copies them first.
        plus_inputs: those that EvalPlus added.
        atol: by how much a float may differ; 0 leaves that to the judge.
        assertion: of MBPP+, the original tests as Python; "" of HumanEval+.
    """

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    base_inputs: tuple[Arguments, ...]
    plus_inputs: tuple[Arguments, ...]
    atol: float
    assertion: str

    def texts(self) -> tuple[str, ...]:
        """What a corpus must not hold."""
        return self.prompt, self.canonical_solution


_Inputs = list[list[Any]] | Annotated[dict[str, Any], msgspec.Meta(max_length=0)]
"""Mbpp/793 has {} where there are none."""


class _Record(TypedDict):
    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    base_input: list[list[Any]]
    plus_input: _Inputs
    atol: Annotated[float, msgspec.Meta(ge=0)]


class _MbppRecord(_Record):
    assertion: str


def read_humaneval_plus(folder: str, version: HumanEvalPlusVersion) -> Tasks[PlusTask]:
    """The tasks of HumanEval+ below the folder of benchmarks.

    Raises:
        UserError: the file is not there, or damaged.
    """
    return read_tasks(folder, HUMANEVAL_PLUS[version], _Record, lambda record, _: _task(record, tuple, ""))


def read_mbpp_plus(folder: str, version: MbppPlusVersion) -> Tasks[PlusTask]:
    """The tasks of MBPP+ below the folder of benchmarks.

    Raises:
        UserError: the file is not there, or damaged.
    """

    def make(record: _MbppRecord, _number: int) -> PlusTask:
        return _task(record, _RESTORE.get(record["task_id"], tuple), record["assertion"])

    return read_tasks(folder, MBPP_PLUS[version], _MbppRecord, make)


def _task(record: _Record, restore: Callable[[list[Any]], Sequence[Any]], assertion: str) -> PlusTask:
    plus = record["plus_input"]
    return PlusTask(
        task_id=record["task_id"],
        prompt=record["prompt"],
        entry_point=record["entry_point"],
        canonical_solution=record["canonical_solution"],
        base_inputs=tuple(tuple(restore(given)) for given in record["base_input"]),
        plus_inputs=tuple(tuple(restore(given)) for given in (plus if isinstance(plus, list) else ())),
        atol=record["atol"],
        assertion=assertion,
    )


def _each(restore: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda values: [restore(value) for value in values]


def _at(place: int, restore: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda given: [restore(value) if place == number else value for number, value in enumerate(given)]


def _tuple_of_each(restore: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda values: tuple(restore(value) for value in values)


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tuples_throughout(value: Any) -> Any:
    return tuple(_tuples_throughout(part) for part in value) if isinstance(value, list) else value


def _set(value: Any) -> Any:
    """An empty one became a dict in evalplus, whose canonical outputs rest on it."""
    return set(value) if isinstance(value, list) and value else {}


def _tuples_by_key(value: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(part) for key, part in value.items()}


def _real_and_complex(given: list[Any]) -> list[Any]:
    return [float(given[0]), complex(given[1])]


_GROUPS: list[tuple[Callable[[list[Any]], Sequence[Any]], tuple[int, ...]]] = [
    (
        _each(tuple),
        (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
    ),
    (_each(_each(tuple)), (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780)),
    (_each(_tuple_of_each(tuple)), (259, 401, 445)),
    (_each(_tuple_of_each(_tuple_if_list)), (278,)),
    (_at(0, _each(tuple)), (75, 413, 444, 753)),
    (_at(0, tuple), (250, 307, 405, 446, 617, 720, 763, 808)),
    (_at(1, tuple), (106, 750)),
    (_at(0, _each(_set)), (115,)),
    (_at(0, _tuples_by_key), (722,)),
    (_at(0, complex), (252,)),
    (_real_and_complex, (124,)),
    (_each(_tuples_throughout), (580, 615, 791)),
]
"""How the arguments of one call are restored, and of which tasks of MBPP+."""

_RESTORE = {f"Mbpp/{number}": restore for restore, numbers in _GROUPS for number in numbers}
