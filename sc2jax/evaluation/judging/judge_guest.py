"""The judge: it holds tests, gold solutions and expected values, in a process and a file system of its own.

A candidate's answers reach it as data. It compares them, or runs a test program in which the names under test are
stand-ins whose calls the candidate answers.

Frames to it:                                       Its answers:
    M [oracle, atol, [[arguments, expected, answer, digest], ...]]   a 1 or a 0 for each
    T {"helpers", "tests", "names", "check"}        frames for the candidate, to be answered; at the end 1, or 0 reason
    N [answer, reference]                           a 1 or a 0
    F [program, answer, expected]                   frames for the candidate, to be answered; at the end 1, or 0
"""

import ast
import builtins
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sc2jax.evaluation.judging.oracles import matches
from sc2jax.evaluation.judging.values import NotDataError, Remote, decode, digest, encode, unwrapped

_MOST_REASON = 500

Receive = Callable[[], bytes | None]
Send = Callable[[bytes], None]


def judge(receive: Receive, send: Send) -> None:
    """Judges frame after frame until there are no more."""
    while (frame := receive()) is not None:
        kind, content = frame[:1], frame[1:]
        if kind == b"T":
            send(_run_tests(json.loads(content), _Candidate(receive, send)))
        elif kind == b"F":
            send(_maps_to(content, _Candidate(receive, send)))
        else:
            send({b"M": _compare, b"N": _is_number}[kind](content))


def _compare(content: bytes) -> bytes:
    oracle, atol, cases = json.loads(content)
    return b"".join(b"01"[place : place + 1] for place in (_matches(oracle, atol, *case) for case in cases))


def _matches(oracle: str, atol: float, arguments: str, expected: str, answer: str, claimed: str) -> bool:
    try:
        value = decode(answer.encode())
        if claimed and digest(value).decode() != claimed:
            return False  # it would be a second try, made when it was known that the first was wrong
        return matches(oracle, atol, decode(arguments.encode()), decode(expected.encode()), value)
    except Exception:  # an answer may be of any type, and comparing it fail in any way
        return False


def _is_number(content: bytes) -> bytes:
    """GSM8K by PAL: what the program prints last is, as a number, within 0.001 of the reference."""
    answer, reference = json.loads(content)
    try:
        printed = str(unwrapped(decode(answer.encode()))).strip().splitlines()[-1]
        return b"1" if abs(float(printed) - reference) < 1e-3 else b"0"
    except (NotDataError, ValueError, IndexError, OverflowError):
        return b"0"


def _maps_to(content: bytes, candidate: "_Candidate") -> bytes:
    """CRUXEval: a function, which is the benchmark's own, maps what was answered to a literal."""
    program, answer, expected = json.loads(content)
    try:
        value = unwrapped(decode(answer.encode(), candidate.find_function))
        if program:
            namespace: dict[str, Any] = {"__name__": "tests"}
            exec(compile(program, "<benchmark>", "exec"), namespace)
            arguments, keywords = value
            value = namespace["f"](*arguments, **keywords)
        return b"1" if value == ast.literal_eval(expected) else b"0"
    except Exception:  # the function may fail in any way on what was answered
        return b"0"


def _run_tests(case: Mapping[str, Any], candidate: "_Candidate") -> bytes:
    """Runs the tests of a case with stand-ins for the names under test."""
    namespace: dict[str, Any] = {"__name__": "tests"}
    stand_ins = {name: candidate.stand_in(name) for name in case["names"]}
    try:
        for title in ("helpers", "tests"):
            namespace |= stand_ins  # anew each time, since what is run may define the names too
            exec(compile(case[title], f"<{title}>", "exec"), namespace)
        namespace |= stand_ins
        if case["check"]:
            namespace[case["check"]](stand_ins[case["names"][0]])
    except BaseException as error:  # a test that says no says so by any exception
        return b"0" + f"{type(error).__name__}: {error}"[:_MOST_REASON].encode("utf-8", "backslashreplace")
    return b"1"


class _Candidate:
    """The process under test, which answers what tests ask of it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send

    def stand_in(self, name: str) -> Callable[..., Any]:
        """A function that the candidate performs."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            return self.ask(b"C", name, list(arguments), keywords, changeable=arguments)

        call.__name__ = name
        return call

    def find_function(self, kind: str, number: int) -> "_RemoteFunction":
        """What stands for an object that stays with the candidate, of which no more is wanted than to call it."""
        return _RemoteFunction(self, kind, number)

    def find(self, kind: str, number: int) -> "_RemoteObject":
        """What stands for an object that stays with the candidate."""
        return _RemoteObject(self, kind, number)

    def ask(self, kind: bytes, *question: Any, changeable: tuple[Any, ...] = ()) -> Any:
        """The value that it answers with; the exception that it ends in is raised, changes to arguments are made."""
        self._send(kind + encode(list(question)))
        reply = self._receive()
        if reply is None:
            raise EOFError("there is no candidate any more")
        if reply[:1] != b"+":
            kind_of, message = json.loads(reply[1:])
            raise _exception(str(kind_of), str(message))
        value, _, changed = reply[1:].partition(b"\t")
        if changed:
            for argument, new in zip(changeable, decode(changed, self.find), strict=True):
                _make_equal(argument, new)
        return unwrapped(decode(value, self.find))


class _RemoteFunction(Remote):
    """An object that the candidate made and can be called; it never says what it is equal to."""

    _candidate: _Candidate

    def __init__(self, candidate: _Candidate, kind: str, number: int) -> None:
        super().__init__(kind, number)
        vars(self).update(_candidate=candidate)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._candidate.ask(b"C", self, list(arguments), keywords, changeable=arguments)


class _RemoteObject(_RemoteFunction):
    """One that has attributes too, and may give values one after the other, as generators do."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copying and comparing look for
            raise AttributeError(name)
        return self._candidate.ask(b"R", self, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._candidate.ask(b"L", self))

    def __setattr__(self, name: str, value: Any) -> None:
        self._candidate.ask(b"W", self, name, value)


def _exception(kind: str, message: str) -> BaseException:
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(message)
        except TypeError:  # UnicodeDecodeError and the like want more
            return Exception(f"{kind}: {message}")
    return Exception(f"{kind}: {message}")


def _make_equal(old: Any, new: Any) -> None:
    """Does to an argument what the candidate did to its own."""
    if isinstance(old, list) and isinstance(new, list):
        old[:] = new
    elif (isinstance(old, dict) and isinstance(new, dict)) or (isinstance(old, set) and isinstance(new, set)):
        old.clear()
        old.update(new)
