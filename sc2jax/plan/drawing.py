"""The geometry of a layer's timeline: numbers and names only, which the page's template makes into markup."""

import dataclasses
from collections.abc import Iterator, Sequence

from sc2jax.plan.tables import duration
from sc2jax.plan.tasks import ATTENTION, BACKWARD, COPY, FORWARD, LAYOUT, OTHER, PRODUCT
from sc2jax.plan.timeline import Lane, Repeat, Timeline
from sc2jax.plots import tick_label, ticks

WIDTH = 860
"""Pixels that an iteration is wide."""
LANE_HEIGHT, LANE_DISTANCE = 34, 42
"""Pixels of a lane, and from the top of one to that of the next."""

WAITING, LOOP = "waiting", "a loop"
"""What the lane of compute shows besides its tasks: that it stands still, and a loop within the layer."""
_RISING, _FALLING = "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2", "M-1,5 l2,2 M0,0 l6,6 M5,-1 l2,2"
_ACROSS, _UPRIGHT, _DOTS = "M0,3 h6", "M3,0 v6", "M2,3 h2"
_LOOKS = {
    PRODUCT: ("blue", ""),
    ATTENTION: ("orange", _RISING),
    OTHER: ("grey", ""),
    LAYOUT: ("pink", _ACROSS),
    LOOP: ("sky", _UPRIGHT),
    WAITING: ("over", _FALLING),
    "all-gather": ("green", ""),
    "reduce-scatter": ("red", _RISING),
    "all-reduce": ("pink", f"{_ACROSS} {_UPRIGHT}"),
    "collective-permute": ("sky", _ACROSS),
    "all-to-all": ("orange", _UPRIGHT),
    COPY: ("grey", _DOTS),
}
_KINDS = tuple(_LOOKS)

LOOKS = tuple(_LOOKS.values())
"""Colour and hatch, a path in a square of 6 pixels: those of a lane differ in both, so that print tells them apart."""

_NARROWEST = 1 / 3
"""Pixels of a bar; narrower neighbours are drawn as one."""
_TICKS = 8
_CHARACTER = 7.0
"""Pixels of a character of a label."""


@dataclasses.dataclass(frozen=True)
class Bar:
    """What is done in a lane for a while; `look` is the number of its kind's look, `title` what it tells when asked."""

    x: float
    width: float
    look: int
    label: str
    title: str


@dataclasses.dataclass(frozen=True)
class LayerDrawing:
    """One iteration of a loop over layers.

    Attributes:
        part: of the step.
        times: how often the loop goes around.
        seconds: of an iteration.
        lanes: their names and bars.
        ticks: of the axis in milliseconds, with where they stand.
        looks: the kinds that are drawn, with the numbers of their looks.
    """

    part: str
    times: int
    seconds: float
    lanes: tuple[tuple[str, tuple[Bar, ...]], ...]
    ticks: tuple[tuple[float, str], ...]
    looks: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class _Piece:
    start: float
    end: float
    kind: str
    name: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


def layer_drawings(step: Timeline) -> list[LayerDrawing]:
    """The forward and the backward pass of a layer, those of both that a loop does."""
    return [_drawing(part, loop) for part in (FORWARD, BACKWARD) if (loop := _loop_over_layers(step, part)) is not None]


def _loop_over_layers(step: Timeline, part: str) -> Repeat | None:
    """The loop in whose body itself, not in loops within, most of the part is computed."""

    def computed(loop: Repeat) -> float:
        tasks = (event.task for event in loop.body.events)
        return loop.times * sum(task.seconds for task in tasks if task.part == part and task.lane is Lane.COMPUTE)

    longest = max(_loops(step), key=computed, default=None)
    return longest if longest is not None and computed(longest) else None


def _loops(step: Timeline) -> Iterator[Repeat]:
    for loop, _ in step.loops:
        yield loop
        yield from _loops(loop.body)


def _drawing(part: str, loop: Repeat) -> LayerDrawing:
    pieces = {lane: _pieces(loop.body, lane) for lane in Lane}
    found = dict.fromkeys(piece.kind for lane in pieces.values() for piece in lane)
    looks = _looks([kind for kind in _KINDS if kind in found] + [kind for kind in found if kind not in _KINDS])
    seconds = loop.body.seconds
    scale = WIDTH / seconds
    milliseconds = [place for place in ticks(0.0, 1000 * seconds, _TICKS) if place <= 1000 * seconds]
    return LayerDrawing(
        part,
        loop.times,
        seconds,
        tuple((lane.value, tuple(_bars(pieces[lane], scale, looks))) for lane in Lane),
        tuple((place / 1000 * scale, tick_label(place)) for place in milliseconds),
        tuple(looks.items()),
    )


def _looks(kinds: Sequence[str]) -> dict[str, int]:
    """Kinds that have no look of their own get those that are free."""
    free = [number for number, kind in enumerate(_KINDS) if kind not in kinds] or list(range(len(_KINDS)))
    unknown = [kind for kind in kinds if kind not in _KINDS]
    return {
        kind: _KINDS.index(kind) if kind in _KINDS else free[-1 - unknown.index(kind) % len(free)] for kind in kinds
    }


def _pieces(body: Timeline, lane: Lane) -> list[_Piece]:
    """What is done in a lane, in order; in that of compute also that it waits, and for what."""
    found = [
        _Piece(event.start, event.end, event.task.kind, event.task.name)
        for event in body.events
        if event.task.lane is lane
    ]
    if lane is Lane.COMPUTE:
        found += [
            _Piece(start, start + loop.times * loop.body.seconds, LOOP, f"{loop.name}, {loop.times} times")
            for loop, start in body.loops
        ]
        found += [
            _Piece(event.end - event.waited, event.end, WAITING, f"for {event.task.kind} {event.task.name}")
            for event in body.events
            if event.waited and event.task.lane is not Lane.COMPUTE
        ]
    return sorted((piece for piece in found if piece.seconds > 0), key=lambda piece: piece.start)


def _bars(pieces: Sequence[_Piece], scale: float, looks: dict[str, int]) -> Iterator[Bar]:
    for group in _groups(pieces, _NARROWEST / scale):
        seconds: dict[str, float] = {}
        for piece in group:
            seconds[piece.kind] = seconds.get(piece.kind, 0.0) + piece.seconds
        kinds = sorted(seconds, key=lambda kind: -seconds[kind])
        width = max(_NARROWEST, (group[-1].end - group[0].start) * scale)
        if len(group) == 1:
            title = f"{kinds[0]}, {duration(group[0].seconds)}: {group[0].name}"
        else:
            title = f"{len(group)} instructions: " + ", ".join(f"{kind} {duration(seconds[kind])}" for kind in kinds)
        label = kinds[0] if len(kinds[0]) * _CHARACTER <= width else ""
        yield Bar(group[0].start * scale, width, looks[kinds[0]], label, title)


def _groups(pieces: Sequence[_Piece], narrowest: float) -> Iterator[list[_Piece]]:
    """Each piece by itself, but those shorter than `narrowest` seconds with such neighbours, until they are as long."""
    group: list[_Piece] = []
    for piece in pieces:
        joins = group and piece.seconds < narrowest and piece.end - group[0].start < 2 * narrowest
        if group and not (joins and group[-1].end - group[0].start < narrowest):
            yield group
            group = []
        group.append(piece)
        if piece.seconds >= narrowest:
            yield group
            group = []
    if group:
        yield group
