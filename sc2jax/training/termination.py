"""SIGTERM while training: machines that are taken away send it some seconds before, time enough to save."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from sc2jax.parallel.hosts import AgreedError


class TerminatedError(AgreedError):
    """All processes end because this one was sent SIGTERM."""

    status = 128 + signal.SIGTERM


@contextlib.contextmanager
def postponed_termination(ask: Callable[[], None]) -> Iterator[None]:
    """While it lasts, the first SIGTERM only asks to end; a second one, or Ctrl-C, acts at once.

    If it came, and what it interrupts ends as if it had not, it is sent again to whoever handled it before. Signals
    reach the main thread alone: in another one nothing is changed.

    Raises:
        TerminatedError: all processes end as it was asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal asked
        asked = True
        signal.signal(signal.SIGTERM, before)
        ask()

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except AgreedError as error:
        if asked:
            raise TerminatedError(str(error)) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if asked:
        os.kill(os.getpid(), signal.SIGTERM)
