"""The process around a verb: its streams, the signals that end it, and what it says of an error and exits with."""

import contextlib
import errno
import io
import os
import resource
import select
import signal
import sys
import threading
from types import FrameType

from sc2jax.display import terminal_text
from sc2jax.errors import UserError, os_error_text

USER_ERROR = UserError.status


def open_streams() -> None:
    """Gives the process the three streams that it was started without, and two outputs that can show any text.

    Otherwise the first file that is opened takes a closed stream's number, and what a library prints goes into it.
    Tracebacks, logs and warnings of any library hold names and texts that others wrote, and go to the standard error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        # What we draw ourselves goes to the stream beneath, which stays `sys.__stderr__`.
        sys.stderr = _FilteredText(sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True)
    os.environ["PYTHON_COLORS"] = "0"  # Python colours tracebacks from 3.13 on, by what the filter takes out


class _FilteredText(io.TextIOWrapper):
    """A stream on which no text commands a terminal."""

    def write(self, text: str) -> int:
        super().write(terminal_text(text))
        return len(text)


def refuse_few_addresses() -> None:
    """Makes sure that the process may have the address space that the libraries reserve, which is more than they use.

    With less they crash, abort, or take what they cannot read for damaged; OpenBLAS tries for ever to get its buffers.

    Raises:
        UserError: the limit that the shell set (`ulimit -v`) is lower.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = _LEAST_BYTES + _LEAST_BYTES_A_CORE * (os.cpu_count() or 1)
    if limit != resource.RLIM_INFINITY and limit < least:
        raise UserError(
            f"the address space is limited to {limit / 2**20:,.0f} MiB, and the libraries reserve up to "
            f"{least / 2**20:,.0f} MiB here; raise the limit, as with `ulimit -v {least >> 10}`"
        )


# Daft's and JAX's threads reserved up to 3.7 GiB on two cores at toy scale; there are some threads for each core.
_LEAST_BYTES = 7 << 29
_LEAST_BYTES_A_CORE = 1 << 28


def complain(message: str) -> None:
    """Writes to the standard error, if that can be written."""
    with contextlib.suppress(OSError):
        print(terminal_text(message), file=sys.stderr, flush=True)  # noqa: T201


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM: it ends as with Ctrl-C."""


interruptions: list[KeyboardInterrupt] = []
"""What signals have asked for so far."""


def watch_signals() -> None:
    """Makes Ctrl-C and SIGTERM exceptions that no library can lose."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _report_unraisable


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    interruptions.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
    raise interruptions[-1]


def describe(error: BaseException) -> tuple[str, int] | None:
    """The message and exit status of what a user or the machine caused; None for a defect of this program."""
    if isinstance(error, KeyboardInterrupt):
        what, number = _as_signal(error)
        return f"{what}; nothing half-written counts: the same command goes on where it was", 128 + number
    if _is_out_of_memory(error):
        return "out of memory; give it more, or ask for less at a time, and run the same command again", USER_ERROR
    if isinstance(error, RecursionError):
        return "something that was read is nested too deeply; --debug shows where", USER_ERROR
    if isinstance(error, BrokenPipeError) and _has_no_reader():
        return "", 128 + signal.SIGPIPE
    if isinstance(error, OSError):
        what = os_error_text(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what += "; nothing half-written counts: make room and run the same command again"
        return what, USER_ERROR
    return (str(error), error.status) if isinstance(error, UserError) else None


def _as_signal(interruption: KeyboardInterrupt) -> tuple[str, signal.Signals]:
    return ("terminated", signal.SIGTERM) if isinstance(interruption, Terminated) else ("interrupted", signal.SIGINT)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused, whoever says so: allocators, the loader of libraries, threads, XLA's devices."""
    return isinstance(error, MemoryError) or (
        isinstance(error, ImportError | RuntimeError | OSError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
    )


_OUT_OF_MEMORY = (
    "failed to map segment",
    "annot allocate memory",
    "can't start new thread",
    "RESOURCE_EXHAUSTED",
)


def _has_no_reader() -> bool:
    """Whether nobody reads the standard output any more: `sc2jax ... | head`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors alone
    return bool(poll.poll(0))


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        # The signal met a callback that cannot raise, and would be lost: it comes again when the callback is over.
        number = _as_signal(unraisable.exc_value)[1]
        again = threading.Timer(0.05, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
    # When one array of a checkpoint cannot be written, the others' native writes report to a loop that is gone by then.
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
