"""What runs a candidate inside the sandbox: it loads a program, calls what it is told to, and answers with data.

It knows no test and no expected value. Whatever the program does to this process, an answer is only data to the judge.

Frames from the judge:               Answers, a line for each call:
    P program                            + value, or + value TAB arguments where a call changed them
    C [callable, arguments, keywords]    - ["exception", "message"]
    R [object, attribute]                the same
    W [object, attribute, value]         the same
    L [object]                           the same, what it gives one after the other
    E expression                         the same
    B ["name", [arguments, ...]]         the same for each call, many lines in a frame; a large value as # digest at
                                         the end of a frame, to which the judge says Y, or N to have the value too
    S ["name", [arguments, ...]]         the same, of what each call returns the members
    G ["name", [arguments, ...]]         a frame for each, with the value unless it is too large, TAB
                                         digest TAB seconds

A callable is a name or an object.
"""

import builtins
import json
import sys
import time
import types
from collections.abc import Callable
from typing import Any

from sc2jax.evaluation.judging.values import can_be_sent, decode, digest, encode

_FLUSH_SECONDS, _FLUSH_BYTES = 0.02, 1 << 16
_MOST_MESSAGE = 500

Receive = Callable[[], bytes | None]
Send = Callable[[bytes], None]


def answer_calls(receive: Receive, send: Send) -> None:
    """Answers frames until there are no more."""
    program = _Program()
    while (frame := receive()) is not None:
        kind, content = frame[:1], frame[1:]
        if kind in (b"B", b"S"):
            program.call_many(content, receive, send, members=kind == b"S")
        elif kind == b"G":
            program.call_timed(content, send)
        else:
            send(program.guarded(program.works[kind], content))


class _Program:
    """A program, and the objects that it made and that are no data."""

    def __init__(self) -> None:
        self._module = types.ModuleType("solution")
        self._kept: list[Any] = []
        self.works = {
            b"P": self.load,
            b"C": self.call,
            b"R": self.read,
            b"W": self.write,
            b"L": self.items,
            b"E": self.evaluate,
        }
        sys.modules["solution"] = self._module  # where dataclasses and the like look for the module of a class

    def guarded(self, work: Callable[[Any], bytes], content: Any) -> bytes:
        """The answer of some work, or the exception in which it ended."""
        try:
            return b"+" + work(content)
        except BaseException as error:  # SystemExit too: nothing ends this process but its end
            return b"-" + _described(error)

    def load(self, source: bytes) -> bytes:
        text = source.decode("utf-8", "surrogatepass")
        exec(compile(text, "<solution>", "exec"), self._module.__dict__)
        return b"null"

    def call(self, content: bytes) -> bytes:
        called, arguments, keywords = decode(content, self._find)
        before = encode(arguments)
        called = self._named(called) if isinstance(called, str) else called
        value = encode(called(*arguments, **keywords), self._keep)
        after = encode(arguments)
        return value if after == before else value + b"\t" + after

    def read(self, content: bytes) -> bytes:
        return encode(getattr(*decode(content, self._find)), self._keep)

    def write(self, content: bytes) -> bytes:
        setattr(*decode(content, self._find))
        return b"null"

    def items(self, content: bytes) -> bytes:
        return encode(list(*decode(content, self._find)), self._keep)

    def call_many(self, content: bytes, receive: Receive, send: Send, *, members: bool) -> None:
        name, calls = decode(content, self._find)
        lines: list[bytes] = []
        size, flushed = 0, time.monotonic()
        for arguments in calls:
            line, value = self._call_named(name, arguments, members=members)
            lines.append(line)
            size += len(line)
            now = time.monotonic()
            if size > _FLUSH_BYTES or now - flushed > _FLUSH_SECONDS or line[:1] == b"#":
                send(b"\n".join(lines))
                lines, size, flushed = [], 0, now
            if line[:1] == b"#" and receive() == b"N":
                send(b"+" + encode(value) if can_be_sent(line[1:]) else b"-" + _described(OverflowError("too large")))
        if lines:
            send(b"\n".join(lines))

    def _call_named(self, name: str, arguments: Any, *, members: bool) -> tuple[bytes, Any]:
        """The answer of a call, and the value of one that is too large for it."""
        try:
            value = self._named(name)(*arguments)
            if members and not isinstance(value, str | list | tuple | set | frozenset | dict):
                value = list(value)
            shortened = digest(value)
            return (b"#" + shortened, value) if shortened else (b"+" + encode(value, self._keep), None)
        except BaseException as error:  # see `guarded`
            return b"-" + _described(error), None

    def call_timed(self, content: bytes, send: Send) -> None:
        name, calls = decode(content, self._find)
        for arguments in calls:
            began = time.perf_counter()
            try:
                value = self._named(name)(*arguments)
                shortened = digest(value)
                seconds = time.perf_counter() - began
                text = encode(value, self._keep) if can_be_sent(shortened) else b""
                send(b"+%s\t%s\t%.6f" % (text, shortened, seconds))
            except BaseException as error:  # see `guarded`
                send(b"-" + _described(error))

    def evaluate(self, expression: bytes) -> bytes:
        text = expression.decode("utf-8", "surrogatepass").strip()
        return encode(eval(compile(text, "<answer>", "eval"), self._module.__dict__), self._keep)

    def _named(self, name: str) -> Callable[..., Any]:
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise NameError(f"name {name!r} is not defined") from None

    def _find(self, _kind: str, number: int) -> Any:
        if number < 0:
            raise LookupError("it is an object of the tests")
        return self._kept[number]

    def _keep(self, value: Any) -> int:
        self._kept.append(value)
        return len(self._kept) - 1


def _described(error: BaseException) -> bytes:
    kind = next((base for base in type(error).__mro__ if getattr(builtins, base.__name__, None) is base), BaseException)
    try:
        message = str(error)[:_MOST_MESSAGE]
    except BaseException:
        message = ""
    return json.dumps([kind.__name__, message]).encode()
