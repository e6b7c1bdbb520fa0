"""The host's side of an open sandbox: starts contained processes in it, talks to them, and ends them."""

import collections
import contextlib
import os
import select
import signal
import threading
from pathlib import Path

from sc2jax.evaluation.sandbox.channels import Channels
from sc2jax.evaluation.sandbox.frames import Frames
from sc2jax.evaluation.sandbox.limits import Ended, Ending, Kind, Limits

_SECONDS_TO_END = 30.0
_SECONDS_AFTER_LAST_WORD = 1.0

_ENDED_FROM_OUTSIDE = ("", f"signal {signal.SIGKILL:d}")
"""What is said of a process that was killed with its namespace, and of one that has none."""


class Contained:
    """A contained process: frames to it and from it, and its end."""

    def __init__(self, sandbox: "Sandbox", frames: Frames, handle: int, ending_pipe: int, number: int) -> None:
        self._sandbox = sandbox
        self._frames = frames
        self._handle = handle
        self._ending_pipe = ending_pipe
        self._number = number
        self._ending: Ending | None = None
        self._greeted = False
        self._in_use = threading.RLock()  # no descriptor is closed, and its number taken again, under another thread

    def greet(self, deadline: float) -> None:
        """Waits until the process has given up what it must not have, and the guest starts.

        Raises:
            TimedOut: it does not come so far up to the deadline (of `time.monotonic`).
            Ended: it is no more.
        """
        if not self._greeted:
            if self._frames.receive(deadline) is None:
                raise Ended(self._after_last_word())
            self._greeted = True

    def send(self, frame: bytes, deadline: float) -> None:
        """Sends a frame; what arrives meanwhile is kept.

        Raises:
            TimedOut: the process does not read it up to the deadline (of `time.monotonic`).
            TooLarge: it writes more than allowed meanwhile.
            Ended: it is no more.
        """
        with self._in_use:
            self._check_running()
            try:
                self._frames.send(frame, deadline)
            except BrokenPipeError:
                raise Ended(self._after_last_word()) from None

    def receive(self, deadline: float) -> bytes:
        """The next frame from inside.

        Raises:
            TimedOut: there is none up to the deadline (of `time.monotonic`).
            TooLarge: it is larger than allowed, or all frames together are.
            Ended: there will be none.
        """
        with self._in_use:
            self._check_running()
            self.greet(deadline)
            frame = self._frames.receive(deadline)
            if frame is None:
                raise Ended(self._after_last_word())
            return frame

    def close(self) -> Ending:
        """Ends the process and all that it started, if they have not ended, and says how it ended."""
        with self._in_use:
            return self._end(wait=0.0)

    def _after_last_word(self) -> Ending:
        """The ending of a process that closed a pipe: most end then, a moment later."""
        return self._end(wait=_SECONDS_AFTER_LAST_WORD)

    def _check_running(self) -> None:
        if self._ending is not None:
            raise Ended(self._ending)

    def _end(self, wait: float) -> Ending:
        if self._ending is None:
            said = _text_within(self._ending_pipe, wait)
            if said is None and _readable_within(self._handle, 0):
                said = _text_within(self._ending_pipe, _SECONDS_TO_END)  # it has ended, and how is still to be said
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self._ending = self._understand(said)
            self._frames.close()
            os.close(self._ending_pipe)
            self._sandbox.bury(self, self._handle)
        return self._ending

    def _understand(self, said: str | None) -> Ending:
        if said is None:
            return Ending(Kind.KILLED)
        kind, _, rest = said.partition(" ")
        if said in _ENDED_FROM_OUTSIDE and self._sandbox.ended_for_memory(self._number):
            return Ending(Kind.MEMORY)
        if not said or kind == Kind.LOST:
            return Ending(Kind.LOST, detail=rest or "something outside ended it")
        return Ending(Kind(kind), int(rest))


class Sandbox:
    """An open sandbox, in which contained processes are started."""

    def __init__(self, channels: Channels, limits: Limits, facts: dict[str, str | int]) -> None:
        self._channels = channels
        self.limits = limits
        self._facts = facts
        self._lock = threading.Lock()
        self._running: set[Contained] = set()
        self._dying: collections.deque[int] = collections.deque()
        self._over_memory: set[int] = set()

    @property
    def rung(self) -> int:
        """How strong it is: 1 is the strongest."""
        return int(self._facts["rung"])

    def facts(self) -> dict[str, str | int]:
        """What a result should say of it."""
        return dict(self._facts)

    def start(self) -> Contained:
        """Starts a contained process; several may run at a time, started by any thread.

        Raises:
            Ended: the sandbox failed; its ending is `lost`.
        """
        with self._lock:
            writing, reading, ending, handle = self._channels.start()
            number = _number_of(handle)
            self._over_memory.discard(number)
            contained = Contained(self, Frames(writing, reading, self.limits), handle, ending, number)
            self._running.add(contained)
        return contained

    def close(self) -> None:
        """Ends all that runs in it, and the sandbox."""
        try:
            self._channels.close()
        finally:
            for contained in list(self._running):
                contained.close()
            while self._dying:
                _wait_until_gone(self._dying.popleft())

    def ended_for_memory(self, number: int) -> bool:
        """Whether the process of this number was ended since it and what it started held too much memory."""
        with self._lock:
            self._over_memory.update(self._channels.over_memory())
            found = number in self._over_memory
            self._over_memory.discard(number)
        return found

    def bury(self, contained: Contained, handle: int) -> None:
        """Takes over one that was killed, and waits until the one before it is gone.

        The kernel needs some milliseconds to take its namespaces apart, in which the host can go on.
        """
        with self._lock:
            self._running.discard(contained)
            self._dying.append(handle)
            oldest = self._dying.popleft() if len(self._dying) > 1 else None
        if oldest is not None:
            _wait_until_gone(oldest)


def _wait_until_gone(handle: int) -> None:
    try:
        if not _readable_within(handle, _SECONDS_TO_END):
            raise Ended(Ending(Kind.LOST, detail="a process that was killed does not end"))
    finally:
        os.close(handle)


def _readable_within(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _text_within(descriptor: int, seconds: float) -> str | None:
    """What a pipe says; "" if it was closed without a word, None if it is still open."""
    return os.read(descriptor, 4096).decode(errors="replace") if _readable_within(descriptor, seconds) else None


def _number_of(handle: int) -> int:
    """The number of the process that a descriptor is for, as this process's namespace counts."""
    for line in Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1
