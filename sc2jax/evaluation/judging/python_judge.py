"""Judges Python: a candidate and a judge, each in a sandbox of its own, and this process, which carries data between.

This process decodes nothing of what a candidate answers but short exceptions: it compares texts, or hands them to the
judge. What a hostile answer does to the judge it does to a process that lives for one sample.
"""

import contextlib
import dataclasses
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
    GROUP_FACTOR,
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
from sc2jax.evaluation.sandbox import Contained, Ended, Ending, Guest, Kind, Limits, Sandbox, TimedOut, TooLarge
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

_COMPARE_SECONDS = 10.0
_MOST_DETAIL = 500
_MOST_SHORT = 1 << 20  # of a number or the value of an expression
_MOST_EXCEPTION = 1 << 14  # it is the one thing from inside that is decoded here
_CAPTURE = "def f(*arguments, **keywords):\n    return arguments, keywords\n"
"""Behind a benchmark's own program: what its function is called with, in place of what it returns."""


def judging_limits(memory_bytes: int) -> Limits:
    """What a candidate, and a judge, may use."""
    return Limits(
        memory_bytes,
        disk_bytes=64 << 20,
        processes=16,
        open_files=64,
        frame_bytes=values.MOST_BYTES + (8 << 20),  # a value, and what stands around it
        output_bytes=4 << 30,
    )


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
        limits = [max(CALL_SECONDS, CALL_FACTOR * seconds) for seconds in expected.seconds]
        at_least = GROUP_FACTOR * sum(expected.seconds)
        whole = self._by(max(at_least, min(GROUP_SECONDS, sum(limits))) + 1)
        with self._loaded(case.program, whole) as candidate, contextlib.ExitStack() as stack:
            judge: Contained | None = None
            for first, end in _batches(limits):
                _send(candidate, calls_frame(case.entry_point, expected.arguments[first:end]), whole)
                while first < end:
                    answers = self._next_answers(
                        candidate, expected, first, end, min(whole, self._by(limits[first] + 0.5))
                    )
                    doubtful = [answer for answer in answers if not answer.exact]
                    if doubtful:
                        judge = judge or stack.enter_context(_started(self._judges))
                        self._compare(judge, case.entry_point, expected, doubtful)
                    first += len(answers)

    def _next_answers(
        self, candidate: Contained, expected: Expected, first: int, end: int, deadline: float
    ) -> list["_Answer"]:
        """The answers in the next frame, which are those of the calls from the first on."""
        frame = _answered(lambda: candidate.receive(deadline))
        if frame.count(b"\n") >= end - first:  # counted first: a list of as many lines would be many times as large
            raise _Decided(Verdict.WRONG, "it answered more often than it was asked")
        lines = frame.split(b"\n")
        last = first + len(lines) - 1
        answers = [self._answer(expected, first + at, line) for at, line in enumerate(lines[:-1])]
        if lines[-1][:1] == b"#":
            return [*answers, self._large_answer(candidate, expected, last, lines[-1][1:], deadline)]
        return [*answers, self._answer(expected, last, lines[-1])]

    @staticmethod
    def _answer(expected: Expected, place: int, line: bytes) -> "_Answer":
        value, wanted = _value(line), expected.values[place]
        if not wanted:
            raise _Decided(Verdict.WRONG, _other_than_large(place))
        return _Answer(place, value, exact=value == wanted and is_decisive(wanted))

    @staticmethod
    def _large_answer(
        candidate: Contained, expected: Expected, place: int, digest: bytes, deadline: float
    ) -> "_Answer":
        """That of which there is a digest: the value is asked for where it is not the expected one.

        By that the candidate learns that it is not. So the value has to be the one of the digest, which the judge looks
        at: or it could try another one.
        """
        if digest and digest == expected.digests[place]:
            _send(candidate, b"Y", deadline)
            return _Answer(place, b"", exact=True)
        if not expected.values[place]:
            raise _Decided(Verdict.WRONG, _other_than_large(place))
        return _Answer(place, _value(_asked(candidate, b"N", deadline)), exact=False, digest=digest or b"none")

    def _compare(self, judge: Contained, entry_point: str, expected: Expected, answers: list["_Answer"]) -> None:
        oracle = entry_point if entry_point in oracles.ORACLES else ""
        by_atol: dict[float, list[_Answer]] = {}
        for answer in answers:
            by_atol.setdefault(expected.atols[answer.place], []).append(answer)
        for atol, some in by_atol.items():
            rows = [
                [
                    _text(each)
                    for each in (expected.arguments[one.place], expected.values[one.place], one.value, one.digest)
                ]
                for one in some
            ]
            said = self._ask_judge(judge, b"M" + json.dumps([oracle, atol, rows]).encode())
            if len(said) != len(some):
                raise _Decided(Verdict.WRONG, "the judge could not compare the answers")
            for answer, one in zip(some, said.decode("ascii", "replace"), strict=True):
                if one != "1":
                    raise _Decided(Verdict.WRONG, _differs(expected, answer))

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
            said = _converse(candidate, judge, b"T" + json.dumps(tests).encode(), deadline)
        if said == b"1":
            return Judged(Verdict.PASSED)
        return Judged(*_by_exception(said[1:].decode("utf-8", "replace")))

    def _judge_number(self, case: NumberCase) -> Judged:
        deadline = self._by(case.seconds)
        with self._loaded(case.program, deadline) as candidate:
            answer = _short(_value(_asked(candidate, b"C" + values.encode(["solution", [], {}]), deadline)))
        with _started(self._judges) as judge:
            right = self._ask_judge(judge, b"N" + json.dumps([_text(answer), case.reference]).encode()) == b"1"
        return Judged(Verdict.PASSED) if right else Judged(Verdict.WRONG, f"it returned {_text(answer[:200])}")

    def _judge_expression(self, case: ExpressionCase) -> Judged:
        deadline = self._by(case.seconds)
        captured = f"{case.function}\n{_CAPTURE}" if case.function else ""
        with self._loaded(captured, deadline) as candidate:
            expression = case.expression.encode("utf-8", "surrogatepass")
            answer = _short(_value(_asked(candidate, b"E" + expression, deadline)))
            with _started(self._judges) as judge:
                frame = b"F" + json.dumps([case.function, _text(answer), case.expected]).encode()
                right = _converse(candidate, judge, frame, deadline) == b"1"
        return Judged(Verdict.PASSED) if right else Judged(Verdict.WRONG, f"its value is {_text(answer[:200])}")


@dataclasses.dataclass(frozen=True)
class _Answer:
    """To a call by its place in its group: a value, whether it is just what is expected, and a digest it must have."""

    place: int
    value: bytes
    exact: bool
    digest: bytes = b""


def _batches(limits: list[float]) -> Iterator[tuple[int, int]]:
    """The first and the end of calls that are made in a row: those that may take longer than most alone.

    Answers arrive some at a time, and so are waited for as long as the first of them may take.
    """
    first = 0
    for place, limit in enumerate(limits):
        if limit > CALL_SECONDS:
            if first < place:
                yield first, place
            yield place, place + 1
            first = place + 1
    if first < len(limits):
        yield first, len(limits)


def calls_frame(name: str, arguments: tuple[bytes, ...], *, timed: bool = False) -> bytes:
    """What asks a candidate for many calls of a function, and how long each takes if `timed`."""
    kind = b"G[" if timed else b"S[" if name in oracles.UNORDERED else b"B["
    return kind + json.dumps(name).encode() + b",[" + b",".join(arguments) + b"]]"


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


def _converse(candidate: Contained, judge: Contained, frame: bytes, deadline: float) -> bytes:
    """Carries what the judge asks to the candidate and back; gives back the judge's last word."""
    while True:
        try:
            judge.send(frame, deadline)
            said = judge.receive(deadline)
        except (TimedOut, Ended, TooLarge) as stopped:
            _judge_stopped(stopped)
        if said[:1] not in (b"C", b"R", b"W", b"L"):
            return said
        frame = _asked(candidate, said, deadline)
        if frame[:1] == b"-":
            _exhausted(frame)


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


def _short(value: bytes) -> bytes:
    if len(value) > _MOST_SHORT:
        raise _Decided(Verdict.WRONG, "it answered too much")
    return value


def _exhausted(line: bytes) -> None:
    """What a candidate ends in for want of memory or leave decides, whatever its tests make of the exception."""
    kind, message = _exception(line)
    verdict, _ = _by_exception(f"{kind}: {message}")
    if verdict != Verdict.WRONG:
        raise _Decided(verdict, f"{kind}: {message}")


def _exception(line: bytes) -> tuple[str, str]:
    if len(line) > _MOST_EXCEPTION:
        raise _Decided(Verdict.WRONG, "its answer is none")
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


def _other_than_large(place: int) -> str:
    return f"call {place}: another value than what is expected, which is very large"


def _differs(expected: Expected, answer: _Answer) -> str:
    arguments, value = expected.arguments[answer.place][:150], expected.values[answer.place][:100]
    return f"call {answer.place} with {_text(arguments)}: {_text(answer.value[:100])} in place of {_text(value)}"
