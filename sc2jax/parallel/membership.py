"""A process's part in a run of several: one thread that hears of the others, and ends this process when one fails.

Every process sends a sign of life each second, the others to process 0 and process 0 to all. A process that is killed
closes its connection, which process 0 sees at once; one that is stopped, or whose machine or network is gone, falls
silent. Whatever it was, process 0 tells all others, and the thread of each ends its process from outside of whatever
native call its main thread sits in: a collective that will never end, a compilation, a barrier.
"""

import contextlib
import os
import selectors
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.parallel.hub import Hub, Process
from sc2jax.parallel.wire import Message, Wire

ANOTHER_FAILED = 3
"""The exit status of a process that ends because another one failed."""

_THIS_FAILED = 2
_BEAT_SECONDS = 1.0
_TURN_SECONDS = 0.2
_PARTING_SECONDS = 5.0
"""How long a process that failed stays until the others have heard of it."""

_UNWINDING_SECONDS = 20.0
"""How long a process that failed, or was told to end by a signal, may take to end."""


def end(message: str, status: int) -> None:
    """Ends this process at once, whatever its other threads are in, with a message."""
    # Not by `sys.stderr`, whose lock another thread may hold.
    with contextlib.suppress(OSError):
        os.write(2, f"{terminal_text(message)}\n".encode(errors="backslashreplace"))
    os._exit(status)


class Membership:
    """What one process knows of the run's others; the methods are for its main thread."""

    def __init__(
        self,
        us: Process,
        count: int,
        connection: socket.socket,
        silent_seconds: float,
        end: Callable[[str, int], None] = end,
    ) -> None:
        """`connection` is where process 0 listens for the others, or leads from another one to it."""
        self._us, self._silent, self._end = us, silent_seconds, end
        self._hub = Hub(us, count, self.deliver) if us.index == 0 else None
        self._wire = Wire(connection) if us.index else None
        self._connection = connection
        self._strangers: list[Wire] = []
        self._selector = selectors.DefaultSelector()
        self._changed = threading.Condition()
        self._outbox: deque[Message] = deque()
        self._answers: dict[str, Any] = {}
        self._failure: Message | None = None
        self._told = ""
        self._end_by: tuple[float, str, int] | None = None
        self._newest = -1
        self._stop_after: int | None = None
        self._is_agreeing = self._is_over = self._is_closed = False
        self.wants_stop = False
        self.hosts: list[str] = []
        """The names of all hosts, once all have joined."""
        self.standing: Callable[[], str] = str
        """What the message adds with which this process ends for the sake of another one."""
        self._wake_up, self._waker = os.pipe()
        for pipe in (self._wake_up, self._waker):
            os.set_blocking(pipe, False)
        self._thread = threading.Thread(target=self._run, daemon=True, name="sc2jax-hosts")

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def say(self, message: Message) -> None:
        """Says something to the hub."""
        self._outbox.append(message)
        self.wake()

    def wake(self) -> None:
        """Lets the thread look at once; a signal's handler may call it."""
        with contextlib.suppress(BlockingIOError):  # it has not looked yet
            os.write(self._waker, b"\0")

    def wait_for(self, is_so: Callable[[], bool], seconds: float | None = None) -> bool:
        """Waits until something is so that the thread may change; whether it is."""
        with self._changed:
            return self._changed.wait_for(is_so, seconds)

    def answer(self, name: str, seconds: float) -> Any:
        """What the hub answers to what was said under a name.

        Raises:
            UserError: not all processes have said theirs in that time.
        """
        if not self.wait_for(lambda: name in self._answers, seconds):
            silent = self._hub.silent_about(name) if self._hub is not None else []
            who = f"of processes {', '.join(map(str, silent))}" if silent else "of another process"
            raise UserError(f"{self._us} has waited {seconds:,.0f} s in vain for the {name.partition('/')[0]!r} {who}")
        return self._answers.pop(name)

    def wait_for_all(self, seconds: float) -> None:
        """Waits until all processes have joined.

        Raises:
            UserError: they have not in that time, or this one was refused.
        """
        # Process 0 knows who is missing: the others give it the time to say so.
        patience = seconds if self._hub is not None else seconds + _PARTING_SECONDS
        if not self.wait_for(lambda: bool(self.hosts or self._told), patience):
            missing = ", ".join(map(str, self._hub.missing)) if self._hub is not None else ""
            raise UserError(
                f"not all processes have joined within {seconds:,.0f} s (hosts.join_seconds)"
                f"{f'; these are missing: {missing}' if missing else ''}; start all, each with its own hosts.index"
            )
        if self._told:
            raise UserError(self._told)

    def ask_to_stop(self) -> None:
        """Asks all processes to stop; a signal's handler may call it, so it takes no lock."""
        self.wants_stop = True
        self.say({"kind": "stop"})

    def stops_after(self, step: int) -> bool:
        """Whether the run stops here, a process that has not begun step + 1 asks."""
        with self._changed:
            # Whoever is asked for its newest step begins no other one until it is known where all stop.
            self._changed.wait_for(lambda: not self._is_agreeing)
            if self._stop_after is not None and step >= self._stop_after:
                return True
            self._newest = step
            return False

    def tell_failure(self, message: str, *, is_sure: bool) -> None:
        """Says that this process fails, and returns when the others know.

        An error that may follow from another's end (`is_sure` is False) waits a little for the news of that.
        """
        if self._told:
            return
        if not is_sure:
            self.wait_for(lambda: self._failure is not None, _PARTING_SECONDS)
        with self._changed:
            if self._failure is not None:
                self._changed.wait_for(lambda: False)  # the thread is about to end this process
            self._told = message
            self._end_by = time.monotonic() + _UNWINDING_SECONDS, message, _THIS_FAILED
        self.say({"kind": "failed", "message": message})
        self.wait_for(
            lambda: self._failure is not None and (self._hub is None or not self._hub.wires), _PARTING_SECONDS
        )

    def leave(self, seconds: float) -> None:
        """Waits until all processes leave.

        Raises:
            UserError: one does not in that time.
        """
        self.say({"kind": "leaving"})
        if not self.wait_for(lambda: self._is_over, seconds):
            raise UserError(f"{self._us} has waited {seconds:,.0f} s in vain for the others to end too")

    def close(self) -> None:
        """Ends the thread."""
        self._is_closed = True
        self.wake()
        self._thread.join(_PARTING_SECONDS)
        for pipe in (self._wake_up, self._waker):
            os.close(pipe)

    @contextlib.contextmanager
    def watching_signals(self) -> Iterator[None]:
        """Lets the thread hear of signals, of which the main thread learns only when it comes back from native code."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException:  # without this thread nobody would notice how the run ends
            traceback.print_exc()
            self._end(f"sc2jax: {self._us} ends, for it can no longer watch the others", _THIS_FAILED)

    def _watch(self) -> None:
        with self._selector as selector:
            selector.register(self._wake_up, selectors.EVENT_READ)
            selector.register(self._connection, selectors.EVENT_READ)
            last_turn = last_beat = time.monotonic()
            while not self._is_closed or not all(wire.is_flushed for wire in self._wires()):
                ready = [key.fileobj for key, _ in selector.select(_TURN_SECONDS)]
                now = time.monotonic()
                if now - last_turn > self._silent:
                    self._fail(f"it stood still for {now - last_turn:,.0f} s")
                last_turn = now
                if now - last_beat > _BEAT_SECONDS:
                    last_beat = now
                    self._outbox.append({"kind": "beat"})
                self._turn(ready, now)
        for wire in self._wires():
            wire.close()
        self._connection.close()

    def _turn(self, ready: list[Any], now: float) -> None:
        if self._wake_up in ready:
            self._hear_signals(os.read(self._wake_up, 2**16), now)
        while self._outbox:
            self._send(self._outbox.popleft())
        if self._hub is None:
            self._listen_to_hub(now)
        else:
            self._listen_to_all(self._hub, self._connection in ready, now)
        for wire in self._wires():
            wire.flush()
        with self._changed:
            self._changed.notify_all()
        self._end_if_due(now)

    def _wires(self) -> list[Wire]:
        return [self._wire] if self._wire is not None else [*self._hub.wires.values()] if self._hub is not None else []

    def _send(self, message: Message) -> None:
        if self._wire is not None:
            self._wire.send(message)
        elif self._hub is not None and message["kind"] == "beat":
            self._hub.broadcast(message)
        elif self._hub is not None:
            self._hub.handle(self._us.index, message)

    def _hear_signals(self, numbers: bytes, now: float) -> None:
        told = [number for number in numbers if number in (signal.SIGINT, signal.SIGTERM)]
        if told and self._end_by is None:
            said = "it was told to end, and did not come to it"
            self._end_by = now + _UNWINDING_SECONDS, said, 128 + told[0]

    def _listen_to_hub(self, now: float) -> None:
        assert self._wire is not None
        silence = now - self._wire.heard
        first = {"kind": "failed", "index": 0, "host": self.hosts[0] if self.hosts else "the coordinator's host"}
        try:
            for message in self._wire.receive():
                self.deliver(message)
        except EOFError:
            if not self._is_over and self._failure is None:
                self.deliver(first | {"message": _CLOSED})
        except (ValueError, RecursionError):
            self.deliver(first | {"message": "what answers there is no run of sc2jax"})
        if silence > self._silent and self._failure is None:
            self.deliver(first | {"message": _SILENT.format(silence)})

    def _listen_to_all(self, hub: Hub, is_knocking: bool, now: float) -> None:
        if is_knocking:
            with contextlib.suppress(OSError):  # it is gone already
                stranger = Wire(self._connection.accept()[0])
                self._selector.register(stranger.connection, selectors.EVENT_READ)
                self._strangers.append(stranger)
        for stranger in list(self._strangers):
            self._meet(hub, stranger, now)
        for index, wire in list(hub.wires.items()):
            try:
                for message in wire.receive():
                    hub.handle(index, message)
            except (EOFError, ValueError, LookupError, TypeError, RecursionError):
                self._drop(wire)
                del hub.wires[index]
                if not hub.is_over:
                    hub.fail(index, _CLOSED)
            if now - wire.heard > self._silent and not hub.is_over:
                hub.fail(index, _SILENT.format(now - wire.heard))

    def _meet(self, hub: Hub, stranger: Wire, now: float) -> None:
        """Lets somebody in that says hello, and forgets whoever says something else, or nothing."""
        try:
            said = stranger.receive()
            if not said and now - stranger.heard < self._silent:
                return
            refused = hub.admit(stranger, said[0]) if said and said[0]["kind"] == "hello" else "no process of ours"
        except (EOFError, ValueError, LookupError, TypeError, RecursionError):
            refused = "no process of ours"
        self._strangers.remove(stranger)
        if refused:
            stranger.send({"kind": "refused", "message": refused})
            self._drop(stranger)

    def _drop(self, wire: Wire) -> None:
        self._selector.unregister(wire.connection)
        wire.close()

    def deliver(self, message: Message) -> None:
        """Takes what the hub tells this process."""
        kind = message["kind"]
        with self._changed:
            if kind == "everyone":
                self.hosts = message["hosts"]
            elif kind == "answer":
                self._answers[message["name"]] = message["value"]
            elif kind == "stopping":
                self._is_agreeing = True
                self.say({"kind": "newest", "step": self._newest})
            elif kind == "stop after":
                self._stop_after, self._is_agreeing = message["step"], False
            elif kind == "over":
                self._is_over = True
            elif kind == "refused":
                self._told = message["message"]
            elif kind == "failed" and self._failure is None:
                self._failure = message | {"at": time.monotonic()}

    def _fail(self, message: str) -> None:
        """Ends this process for a reason of its own, which the main thread does not know."""
        self._told = message
        self._send({"kind": "failed", "message": message})
        self._end(f"sc2jax: {self._us} failed: {message}", _THIS_FAILED)

    def _end_if_due(self, now: float) -> None:
        if self._end_by is not None and now > self._end_by[0]:
            self._end_late(now, *self._end_by[1:])
        if self._failure is None or self._told:
            return
        if self._hub is not None and self._hub.wires and now < self._failure["at"] + _PARTING_SECONDS:
            return  # until the others have read why, and have closed their connections
        failed = Process(self._failure["index"], self._failure["host"])
        said = "; ".join(filter(None, [self._failure["message"], self.standing()]))
        self._end(f"sc2jax: {self._us} ends, for {failed} failed: {said}", ANOTHER_FAILED)

    def _end_late(self, now: float, message: str, status: int) -> None:
        """Ends a process that should have ended by itself, after the others have heard of it."""
        if self._told:
            self._end(f"sc2jax: {self._us} failed: {message}", status)
        elif not self.wants_stop:
            self._told = message
            self._send({"kind": "failed", "message": message})
            self._end_by = now + _PARTING_SECONDS, message, status


_CLOSED = "it ended without a word (killed, crashed, or out of memory)"
_SILENT = "nothing was heard of it for {:,.0f} s (it is stopped, or its machine or network is gone)"
