"""Judges Python: a candidate and a judge, each in a sandbox of its own, and this process, which carries data between.

This process never decodes what a candidate answers: it compares texts, or hands them to the judge. What a hostile
answer does to the judge it does to a process that lives for one sample.
"""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from sc2jax.evaluation.judging import candidate_guest, judge_guest, oracles, values
from sc2jax.evaluation.judging.cases import (
    CALL_FACTOR,
    CALL_SECONDS,
    GROUP_SECONDS,
    LOAD_SECONDS,
    CallsCase,
    Case,
    Expected,
    ExpressionCase,
    FlawedCase,
    Judged,
    NumberCase,
    TestsCase,
    TextCase,
)
from sc2jax.evaluation.sandbox import Contained, Ended, Ending, Guest, Kind, Sandbox, TimedOut, TooLarge
from sc2jax.evaluation.verdicts import Verdict

CANDIDATE = Guest(
    modules=tuple(Path(str(module.__file__)) for module in (values, candidate_guest)),
    entry="answer_calls",
    preload=("collections", "dataclasses", "functools", "heapq", "itertools", "math", "re", "string", "typing"),
    packages=("numpy",),
)
JUDGE = Guest(
    modules=tuple(Path(str(module.__file__)) for module in (values, oracles, judge_guest)),
    entry="judge",
    preload=("numpy", "ast", "copy", "math", "random"),
    packages=("numpy",),
)

_CAPTURE = "\ndef f(*arguments, **keywords):\n    return arguments, keywords\n"
"""Behind a benchmark's own program: what its function is called with, in place of what it returns."""

_COMPARE_SECONDS = 10.0
_MOST_DETAIL = 500


class _Decided(Exception):  # noqa: N818 (no error: the way out of any depth)
    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.judged = Judged(verdict, detail[:_MOST_DETAIL])


class PythonJudge:
    """Judges cases, one after another.

    `scale` stretches every limit of time: how many times slower this machine is than the one they were made for.
    """

    def __init__(self, candidates: Sandbox, judges: Sandbox, scale: float = 1.0) -> None:
        self._candidates, self._judges, self.scale = candidates, judges, scale

    def judge(self, case: Case) -> Judged:
        """The verdict on a case."""
        try:
            match case:
                case FlawedCase():
                    return Judged(Verdict.WRONG, case.flaw)
                case TextCase():
                    right = case.text.strip() == case.reference.strip()
                    return Judged(Verdict.PASSED) if right else Judged(Verdict.WRONG, "it is another text")
                case CallsCase():
                    return self._judge_calls(case)
                case TestsCase():
                    return self._judge_tests(case)
                case NumberCase():
                    return self._judge_number(case)
                case ExpressionCase():
                    return self._judge_expression(case)
        except _Decided as decided:
            return decided.judged

    @contextlib.contextmanager
    def _loaded(self, program: str, deadline: float) -> Iterator[Contained]:
        """A candidate with its program, which has to define all that it defines by the deadline."""
        source = program.encode("utf-8", "surrogatepass")
        with _started(self._candidates) as candidate:
            _value(_asked(candidate, b"P" + source, min(deadline, self._by(LOAD_SECONDS))))
            yield candidate

    def _by(self, seconds: float) -> float:
        return time.monotonic() + seconds * self.scale

    def _judge_calls(self, case: CallsCase) -> Judged:
        verdicts: dict[str, Verdict] = {}
        detail = ""
        for name, expected in case.groups.items():
            failed = next((verdict for verdict in verdicts.values() if verdict != Verdict.PASSED), None)
            if failed is None:
                try:
                    self._call_all(case, expected)
                    failed = Verdict.PASSED
                except _Decided as decided:
                    failed, detail = decided.judged.verdict, f"{name}: {decided.judged.detail}"
            verdicts[name] = failed
        return Judged(list(verdicts.values())[-1], detail, verdicts)

    def _call_all(self, case: CallsCase, expected: Expected) -> None:
        """Makes all calls of a group; the first that fails decides."""
        oracle = case.entry_point if case.entry_point in oracles.ORACLES else ""
        limits = [max(CALL_SECONDS, CALL_FACTOR * seconds) for seconds in expected.seconds]
        whole = self._by(min(GROUP_SECONDS, sum(limits)) + 1)
        with self._loaded(case.program, whole) as candidate, contextlib.ExitStack() as stack:
            judge: Contained | None = None
            done = 0
            _send(candidate, calls_frame(case.entry_point, expected.arguments), whole)
            while done < len(limits):
                deadline = min(whole, self._by(limits[done] + 0.5))
                lines = _answered(lambda deadline=deadline: candidate.receive(deadline)).split(b"\n")
                if len(lines) > len(limits) - done:
                    raise _Decided(Verdict.WRONG, "it answered more often than it was asked")
                doubtful = [
                    (place, _value(line))
                    for place, line in enumerate(lines, start=done)
                    if line != b"+" + expected.values[place] or not is_decisive(expected.values[place])
                ]
                if doubtful:
                    judge = judge or stack.enter_context(_started(self._judges))
                    self._compare(judge, oracle, expected, doubtful)
                done += len(lines)

    def _compare(self, judge: Contained, oracle: str, expected: Expected, doubtful: list[tuple[int, bytes]]) -> None:
        by_atol: dict[float, list[tuple[int, bytes]]] = {}
        for place, answer in doubtful:
            by_atol.setdefault(expected.atols[place], []).append((place, answer))
        for atol, cases in by_atol.items():
            rows = [[_text(expected.arguments[at]), _text(expected.values[at]), _text(value)] for at, value in cases]
            said = self._ask_judge(judge, b"M" + json.dumps([oracle, atol, rows]).encode())
            if len(said) != len(cases):
                raise _Decided(Verdict.WRONG, "the judge could not compare the answers")
            for (place, answer), one in zip(cases, said.decode("ascii", "replace"), strict=True):
                if one != "1":
                    raise _Decided(Verdict.WRONG, _differs(place, expected, answer))

    def _ask_judge(self, judge: Contained, frame: bytes) -> bytes:
        try:
            deadline = self._by(_COMPARE_SECONDS)
            judge.send(frame, deadline)
            return judge.receive(deadline)
        except (TimedOut, Ended, TooLarge) as stopped:
            _judge_stopped(stopped)

    def _judge_tests(self, case: TestsCase) -> Judged:
        deadline = self._by(case.seconds)
        with self._loaded(case.program, deadline) as candidate, _started(self._judges) as judge:
            tests = {"helpers": case.helpers, "tests": case.tests, "names": case.names, "check": case.check}
            frame = b"T" + json.dumps(tests).encode()
            while True:
                try:
                    judge.send(frame, deadline)
                    said = judge.receive(deadline)
                except (TimedOut, Ended, TooLarge) as stopped:
                    _judge_stopped(stopped)
                if said[:1] != b"C":
                    break
                frame = _asked(candidate, said, deadline)
                if frame[:1] == b"-":
                    _exhausted(frame)
        if said == b"1":
            return Judged(Verdict.PASSED)
        return Judged(*_by_exception(said[1:].decode("utf-8", "replace")))

    def _judge_number(self, case: NumberCase) -> Judged:
        deadline = self._by(case.seconds)
        with self._loaded(case.program, deadline) as candidate:
            answer = _value(_asked(candidate, b"C" + values.encode(["solution", [], {}]), deadline))
        with _started(self._judges) as judge:
            right = self._ask_judge(judge, b"N" + json.dumps([_text(answer), case.reference]).encode()) == b"1"
        return Judged(Verdict.PASSED) if right else Judged(Verdict.WRONG, f"it returned {_text(answer)[:200]}")

    def _judge_expression(self, case: ExpressionCase) -> Judged:
        deadline = self._by(case.seconds)
        with self._loaded(case.function + _CAPTURE if case.function else "", deadline) as candidate:
            expression = case.expression.encode("utf-8", "surrogatepass")
            answer = _value(_asked(candidate, b"E" + expression, deadline))
        with _started(self._judges) as judge:
            frame = b"F" + json.dumps([case.function, _text(answer), case.expected]).encode()
            right = self._ask_judge(judge, frame) == b"1"
        return Judged(Verdict.PASSED) if right else Judged(Verdict.WRONG, f"its value is {_text(answer)[:200]}")


def calls_frame(name: str, arguments: tuple[bytes, ...], *, timed: bool = False) -> bytes:
    """What asks a candidate for many calls of a function, and how long each takes if `timed`."""
    return (b"G[" if timed else b"B[") + json.dumps(name).encode() + b",[" + b",".join(arguments) + b"]]"


def is_decisive(expected: bytes) -> bool:
    """Whether an equal text is an equal value: not where it holds what differs from itself, or is no data."""
    return b"NaN" not in expected and b'{"o":' not in expected


@contextlib.contextmanager
def _started(sandbox: Sandbox) -> Iterator[Contained]:
    contained = sandbox.start()
    try:
        yield contained
    finally:
        contained.close()


def _asked(candidate: Contained, frame: bytes, deadline: float) -> bytes:
    _send(candidate, frame, deadline)
    return _answered(lambda: candidate.receive(deadline))


def _send(candidate: Contained, frame: bytes, deadline: float) -> None:
    _answered(lambda: candidate.send(frame, deadline) or b"")


def _answered(work: Callable[[], bytes]) -> bytes:
    """What a candidate answers; that it does not decides."""
    try:
        return work()
    except TimedOut as stopped:
        raise _Decided(Verdict.TIMEOUT, "it took too long") from stopped
    except TooLarge as stopped:
        raise _Decided(Verdict.WRONG, "it answered too much") from stopped
    except Ended as stopped:
        raise _Decided(*_by_ending(stopped.ending)) from stopped


def _by_ending(ending: Ending) -> tuple[Verdict, str]:
    match ending.kind:
        case Kind.MEMORY:
            return Verdict.MEMORY, "it took more memory than it may"
        case Kind.SIGNAL if ending.status == signal.SIGSYS:
            return Verdict.REFUSED, "it called what the sandbox forbids"
        case Kind.SIGNAL:
            return Verdict.CRASHED, f"signal {ending.status} ended it"
        case Kind.EXITED:
            return Verdict.CRASHED, f"it ended before it answered, with status {ending.status}"
        case Kind.KILLED:
            return Verdict.CRASHED, "it closed its pipe"
    return Verdict.INFRASTRUCTURE, f"the sandbox was lost: {ending.detail}"


def _judge_stopped(stopped: Exception) -> NoReturn:
    """A judge that a candidate's answer stops says no; one that the sandbox loses says nothing."""
    if isinstance(stopped, Ended) and stopped.ending.kind == Kind.LOST:
        raise _Decided(Verdict.INFRASTRUCTURE, "the judge's sandbox was lost") from stopped
    if isinstance(stopped, TimedOut):
        raise _Decided(Verdict.TIMEOUT, "its tests took too long") from stopped
    raise _Decided(Verdict.WRONG, "the judge could not read the answer") from stopped


def _value(line: bytes) -> bytes:
    """The text of the value in an answer; an exception decides."""
    if line[:1] == b"+":
        return line[1:]
    _exhausted(line)
    raise _Decided(*_by_exception(": ".join(_exception(line))))


def _exhausted(line: bytes) -> None:
    """What a candidate ends in for want of memory or leave decides, whatever its tests make of the exception."""
    kind, message = _exception(line)
    verdict, _ = _by_exception(f"{kind}: {message}")
    if verdict != Verdict.WRONG:
        raise _Decided(verdict, f"{kind}: {message}")


def _exception(line: bytes) -> tuple[str, str]:
    try:
        kind, message = json.loads(line[1:])
    except (ValueError, TypeError, RecursionError):
        raise _Decided(Verdict.WRONG, "its answer is none") from None
    return str(kind)[:100], str(message)[:_MOST_DETAIL]


def _by_exception(text: str) -> tuple[Verdict, str]:
    kind = text.partition(":")[0]
    verdicts: Mapping[str, Verdict] = {"MemoryError": Verdict.MEMORY, "PermissionError": Verdict.REFUSED}
    return verdicts.get(kind, Verdict.WRONG), text


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _differs(place: int, expected: Expected, answer: bytes) -> str:
    arguments, value = expected.arguments[place], expected.values[place]
    return f"call {place} with {_text(arguments)[:150]}: {_text(answer)[:100]} in place of {_text(value)[:100]}"
