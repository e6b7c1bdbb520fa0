"""Whether the judge can be believed here and now: right answers pass, an empty and a forged one do not."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.evaluation.benchmark import Benchmark, Groups
from sc2jax.evaluation.heldout import rank
from sc2jax.evaluation.judging.cases import (
    CallsCase,
    Case,
    ExpressionCase,
    FlawedCase,
    Judged,
    NumberCase,
    TestsCase,
    TextCase,
)
from sc2jax.evaluation.verdicts import Verdict
from sc2jax.json_files import read_json

CANARIES = 10
"""Right answers that are judged before any run's samples."""

_ALWAYS_EQUAL = """
import builtins, sys

class Always:
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda *_: True
    __ne__ = lambda *_: False
    __bool__ = lambda _: True
    __hash__ = lambda _: 0
    __sub__ = __rsub__ = __abs__ = __round__ = __getitem__ = __call__ = lambda *_, **__: Always()
    __len__ = lambda _: 1
    __iter__ = lambda _: iter(())
    __getattr__ = lambda *_: Always()

builtins.all = builtins.any = builtins.isinstance = lambda *_: True
builtins.abs = builtins.round = lambda *_: 0
sys.settrace(None)
"""

JudgeCase = Callable[[Case], Judged]


def known_failures(name: str) -> Mapping[str, str]:
    """The tasks of a benchmark whose own solution is known not to pass, and why."""
    path = asset_path("data", "benchmarks", "known_gold_failures.json")
    return read_json(str(path), dict[str, dict[str, str]], "install sc2jax again").get(name, {})


def refuse_unknown_failures(name: str, verdicts: Iterable[tuple[str, Judged]]) -> None:
    """Makes sure that of all right answers just those fail that are known to.

    Raises:
        UserError: others do, so that no verdict of this judge means anything.
    """
    known = known_failures(name)
    wrong = [
        f"{task}: {judged.verdict}, {judged.detail or 'no detail'}"
        for task, judged in verdicts
        if judged.verdict != Verdict.PASSED and task not in known
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{name}: right answers of the benchmark itself do not pass here ({'; '.join(wrong[:3])}{more}), so no "
            "sample was judged; mend the machine or the benchmark's file, and run the same command again"
        )


def check_judge(name: str, benchmark: Benchmark, expected: Mapping[str, Groups], judge: JudgeCase, seed: int) -> None:
    """Judges some right answers, an empty and a forged one before anybody's samples.

    Raises:
        UserError: a right answer does not pass, or one of the others does.
    """
    known = known_failures(name)
    tasks = sorted((task for task in benchmark.golds if task not in known), key=lambda task: rank(seed, task))
    cases = {task: benchmark.case(benchmark.golds[task], expected.get(task, {})) for task in tasks[: CANARIES + 2]}
    refuse_unknown_failures(name, ((task, judge(case)) for task, case in list(cases.items())[:CANARIES]))
    for kind, make in (("an empty", empty), ("a forged", forged)):
        task, case = next(
            (task, case) for task, case in reversed(list(cases.items())) if _takes_nothing_for_right(case)
        )
        if judge(make(case)).verdict == Verdict.PASSED:
            raise UserError(
                f"{name}: {kind} answer to {task} passes here, so no verdict means anything and no sample was judged"
            )


def _takes_nothing_for_right(case: Case) -> bool:
    """Not Mbpp/164, where any answer counts."""
    return not (isinstance(case, CallsCase) and case.entry_point == "are_equivalent")


def empty(case: Case) -> Case:
    """The case of an answer without a text."""
    match case:
        case CallsCase() | TestsCase() | NumberCase():
            return dataclasses.replace(case, program="")
        case ExpressionCase():
            return dataclasses.replace(case, expression="")
        case TextCase():
            return dataclasses.replace(case, text="")
    return case


def forged(case: Case) -> Case:
    """The case of an answer that equals whatever it is compared with, in a process whose builtins it has changed."""
    match case:
        case CallsCase():
            return dataclasses.replace(case, program=_forgery(case.entry_point))
        case TestsCase():
            return dataclasses.replace(case, program=_forgery(case.names[0]))
        case NumberCase():
            return dataclasses.replace(case, program=_forgery("solution"))
        case ExpressionCase():
            always = "type('A', (), {'__eq__': lambda *_: True, '__hash__': lambda _: 0})()"
            return dataclasses.replace(case, expression=f"f({always})" if case.function else always)
        case TextCase():
            return dataclasses.replace(case, text=case.text + "\0")
    return FlawedCase("there is nothing to forge")


def _forgery(name: str) -> str:
    return f"{_ALWAYS_EQUAL}\ndef {name}(*arguments, **keywords):\n    return Always()\n"
