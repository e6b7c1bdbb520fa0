"""What runs a candidate inside the sandbox: it loads a program, calls what it is told to, and answers with data.

It knows no test and no expected value. Whatever the program does to this process, an answer is only data to the judge.

Frames from the judge:           Answers, a line for each call:
    P program                        + value, or + value TAB arguments where a call changed them
    C ["name", arguments, keywords]  - ["exception", "message"]
    B ["name", [arguments, ...]]     the same for each call, many lines in a frame
    G ["name", [arguments, ...]]     the same, and TAB seconds in each line
    E expression
"""

import builtins
import json
import sys
import time
import types
from collections.abc import Callable
from typing import Any

from sc2jax.evaluation.judging.values import decode, encode

_FLUSH_SECONDS, _FLUSH_BYTES = 0.02, 1 << 16
_MOST_MESSAGE = 500

Send = Callable[[bytes], None]


def answer_calls(receive: Callable[[], bytes | None], send: Send) -> None:
    """Answers frames until there are no more."""
    program = _Program()
    while (frame := receive()) is not None:
        kind, content = frame[:1], frame[1:]
        if kind in (b"B", b"G"):
            program.call_many(content, send, timed=kind == b"G")
        else:
            send(program.guarded({b"P": program.load, b"C": program.call, b"E": program.evaluate}[kind], content))


class _Program:
    """A program, and the objects that it made and that are no data."""

    def __init__(self) -> None:
        self._module = types.ModuleType("solution")
        self._kept: list[Any] = []
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
        name, arguments, keywords = decode(content, self._find)
        before = encode(arguments)
        value = encode(self._named(name)(*arguments, **keywords), self._keep)
        after = encode(arguments)
        return value if after == before else value + b"\t" + after

    def call_many(self, content: bytes, send: Send, *, timed: bool) -> None:
        name, calls = decode(content, self._find)
        lines, size, flushed = [], 0, time.monotonic()
        for arguments in calls:
            began = time.perf_counter()
            line = self.guarded(self._call_named, (name, arguments))
            if timed:
                line += b"\t%.6f" % (time.perf_counter() - began)
            lines.append(line)
            size += len(line)
            now = time.monotonic()
            if size > _FLUSH_BYTES or now - flushed > _FLUSH_SECONDS:
                send(b"\n".join(lines))
                lines, size, flushed = [], 0, now
        if lines:
            send(b"\n".join(lines))

    def _call_named(self, call: tuple[str, Any]) -> bytes:
        name, arguments = call
        return encode(self._named(name)(*arguments), self._keep)

    def evaluate(self, expression: bytes) -> bytes:
        text = expression.decode("utf-8", "surrogatepass").strip()
        return encode(eval(compile(text, "<answer>", "eval"), self._module.__dict__), self._keep)

    def _named(self, name: str) -> Callable[..., Any]:
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise NameError(f"name {name!r} is not defined") from None

    def _find(self, _kind: str, number: int) -> Any:
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
