"""When what is done of a program on one device, as the compiler has ordered it.

A device has three lanes: compute, the links, and the copies between its memories. Instructions are issued in the order
of the schedule. What is asynchronous begins when its lane is free, and whoever waits for it waits no longer than it
takes; so a transfer that is awaited as soon as it has begun counts in full, and one with enough compute before its end
counts nothing. A loop's iteration is timed once.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any


class Lane(StrEnum):
    """Where something is done."""

    COMPUTE = "compute"
    LINKS = "links"
    COPIES = "copies"


@dataclasses.dataclass(frozen=True)
class Task:
    """Something that takes time.

    Attributes:
        name: of the instruction.
        part: of the step that it belongs to, such as the forward pass.
        kind: what it is counted as, such as a product.
        seconds: how long it takes by itself.
        lane: where.
        starts: whether what follows goes on beside it.
    """

    name: str
    part: str
    kind: str
    seconds: float
    lane: Lane = Lane.COMPUTE
    starts: bool = False


@dataclasses.dataclass(frozen=True)
class Wait:
    """The end of a task that was started, by its name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A loop: what its body does, so many times."""

    name: str
    body: "Timeline"
    times: int


@dataclasses.dataclass(frozen=True)
class Event:
    """A task in its place, or the time for which compute waits for one; seconds from the beginning of the timeline."""

    task: Task
    start: float
    end: float
    waited: float = 0.0


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What is done when.

    Attributes:
        seconds: in all.
        events: of this computation alone, in the order in which they begin.
        loops: with when they begin.
        busy: seconds by lane, part and kind, loops included.
        waited: seconds that compute stands still for what is done in other lanes, by part and kind, loops included.
    """

    seconds: float
    events: tuple[Event, ...]
    loops: tuple[tuple[Repeat, float], ...]
    busy: Mapping[tuple[Lane, str, str], float]
    waited: Mapping[tuple[str, str], float]

    def lane_seconds(self, lane: Lane) -> float:
        """How long a lane is busy."""
        return sum(seconds for (of, *_), seconds in self.busy.items() if of is lane)


def timeline(steps: Iterable[Task | Wait | Repeat]) -> Timeline:
    """The steps in their order, on one device."""
    run = _Run()
    for step in steps:
        if isinstance(step, Task):
            run.begin(step)
        elif isinstance(step, Wait):
            run.wait(step)
        else:
            run.repeat(step)
    return run.ended()


class _Run:
    def __init__(self) -> None:
        self._now = 0.0
        self._free = dict.fromkeys(Lane, 0.0)
        self._events: dict[str, Event] = {}
        self._loops: list[tuple[Repeat, float]] = []
        self._busy: dict[tuple[Lane, str, str], float] = {}
        self._waited: dict[tuple[str, str], float] = {}

    def begin(self, task: Task) -> None:
        # What stops compute does not queue behind what was begun before: it takes its share of the lane.
        start = max(self._now, self._free[task.lane]) if task.starts else self._now
        end = start + task.seconds
        _add(self._busy, (task.lane, task.part, task.kind), task.seconds)
        self._events[task.name] = Event(task, start, end)
        if task.lane is not Lane.COMPUTE:
            self._free[task.lane] = max(self._now, self._free[task.lane]) + task.seconds
        if not task.starts:
            self._stand_until(task.name)

    def wait(self, wait: Wait) -> None:
        self._stand_until(wait.name)

    def repeat(self, loop: Repeat) -> None:
        self._loops.append((loop, self._now))
        self._now += loop.times * loop.body.seconds
        for key, seconds in loop.body.busy.items():
            _add(self._busy, key, loop.times * seconds)
        for key, seconds in loop.body.waited.items():
            _add(self._waited, key, loop.times * seconds)

    def ended(self) -> Timeline:
        for name in self._events:  # what nobody waited for ends before the program does
            self._stand_until(name)
        events = sorted(self._events.values(), key=lambda event: (event.start, event.end))
        return Timeline(self._now, tuple(events), tuple(self._loops), self._busy, self._waited)

    def _stand_until(self, name: str) -> None:
        event = self._events[name]
        waited = max(0.0, event.end - self._now)
        self._now += waited
        if event.task.lane is not Lane.COMPUTE:
            _add(self._waited, (event.task.part, event.task.kind), waited)
            self._events[name] = dataclasses.replace(event, waited=event.waited + waited)


def _add(sums: dict[Any, float], key: object, seconds: float) -> None:
    sums[key] = sums.get(key, 0.0) + seconds
