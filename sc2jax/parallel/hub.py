"""What process 0 does for all: it takes in what each process says and tells all of them what follows from it.

One thread alone calls it, and nothing here waits: `membership.py` moves the messages.
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import sc2jax
from sc2jax.parallel.wire import Message, Wire


@dataclasses.dataclass(frozen=True)
class Process:
    """One of the processes of a run."""

    index: int
    host: str

    def __str__(self) -> str:
        return f"process {self.index} on {self.host}"


def hello(us: Process, count: int) -> Message:
    """What a process says first."""
    return {"kind": "hello", "version": sc2jax.__version__, "count": count, "index": us.index, "host": us.host}


class Hub:
    """The processes that have joined, and what they have said."""

    def __init__(self, us: Process, count: int, deliver: Callable[[Message], None]) -> None:
        """`deliver` takes what process 0 itself is told."""
        self.processes = {us.index: us}
        self.wires: dict[int, Wire] = {}
        """Of the other processes, as long as they are connected."""
        self._count, self._deliver = count, deliver
        self._said: dict[str, dict[int, Any]] = {}
        self._newest: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._is_stopping = self.has_failed = False

    @property
    def missing(self) -> list[int]:
        """Who has not joined."""
        return sorted(set(range(self._count)).difference(self.processes))

    @property
    def is_over(self) -> bool:
        """Whether all processes have come to their ends, after which connections may close."""
        return len(self._leaving) == self._count

    def silent_about(self, name: str) -> list[int]:
        """Who has not said its value of a name."""
        return sorted(set(range(self._count)).difference(self._said.get(name, {})))

    def admit(self, wire: Wire, said: Message) -> str:
        """Takes a process in that said hello; or the reason why not.

        One that is refused ends alone: it may be a mistake beside a run that is well under way.
        """
        ours = hello(self.processes[0], self._count)
        newcomer = Process(operator.index(said["index"]), str(said["host"]))
        if said["version"] != ours["version"]:
            return f"{self.processes[0]} runs sc2jax {ours['version']}, and this one {said['version']}"
        if said["count"] != self._count:
            return f"{self.processes[0]} was started with hosts.count={self._count}, and this one with {said['count']}"
        if newcomer.index in self.processes:
            return f"{self.processes[newcomer.index]} takes part already, with the hosts.index of this one"
        if newcomer.index not in range(self._count):
            return f"{newcomer.index} is no index of {self._count} processes"
        self.processes[newcomer.index], self.wires[newcomer.index] = newcomer, wire
        if not self.missing:
            everyone = [self.processes[index].host for index in range(self._count)]
            self.broadcast({"kind": "everyone", "hosts": everyone})
        return ""

    def broadcast(self, message: Message) -> None:
        """Tells all processes something, process 0 too."""
        for wire in self.wires.values():
            wire.send(message)
        self._deliver(message)

    def fail(self, index: int, message: str) -> None:
        """Tells all that a process failed, and why; of several the first is the cause."""
        if not self.has_failed:
            self.has_failed = True
            host = self.processes[index].host
            self.broadcast({"kind": "failed", "index": index, "host": host, "message": message})

    def handle(self, index: int, message: Message) -> None:
        """Takes what a process says."""
        kind = message["kind"]
        if kind == "failed":
            self.fail(index, message["message"])
        elif kind == "shares":
            self.broadcast({"kind": "answer", "name": message["name"], "value": message["value"]})
        elif kind == "said":
            self._gather(index, message["name"], message["value"])
        elif kind == "stop" and not self._is_stopping:
            self._is_stopping = True
            self.broadcast({"kind": "stopping"})
        elif kind == "newest":
            self._newest[index] = message["step"]
            if len(self._newest) == self._count:
                # Whoever has gone furthest is in the step after that one, and waits for all others there.
                self.broadcast({"kind": "stop after", "step": max(self._newest.values()) + 1})
        elif kind == "leaving":
            self._leaving.add(index)
            if self.is_over:
                self.broadcast({"kind": "over"})

    def _gather(self, index: int, name: str, value: Any) -> None:
        said = self._said.setdefault(name, {})
        said[index] = value
        if len(said) == self._count:
            self.broadcast({"kind": "answer", "name": name, "value": [said[index] for index in range(self._count)]})
            del self._said[name]
