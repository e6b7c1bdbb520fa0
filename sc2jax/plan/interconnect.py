"""How long a collective takes on the links between chips: bytes over bandwidth, by the rings that it is passed around.

The compiler says along how many rings at once it passes a collective ("colors" of its strategy), each in both
directions; where it says nothing, there is a ring along each axis of the torus that the group spans whole, and a line,
which is half as fast, along one that it spans in part or whose ends are not joined
(jax-ml.github.io/scaling-book/sharding). Each hop takes a microsecond, so that what is small takes as long as its rings
are long. Between slices there is the data-centre network alone.

Not counted: groups that share links with each other, and what compute does to a transfer beside it.
"""

import dataclasses
from collections.abc import Sequence

from sc2jax.parallel.chips import Chip, Tpu

HOP_SECONDS = 1e-6
"""Of one link (jax-ml.github.io/scaling-book/sharding: about a microsecond)."""

_ROUNDS = {"all-gather": 1.0, "reduce-scatter": 1.0, "all-reduce": 2.0, "all-to-all": 0.25, "collective-broadcast": 1.0}
"""How often the whole of the data passes each link of a ring, in both directions together.

An all-reduce is a reduce-scatter and an all-gather. Of an all-to-all half of the data goes half of a ring's half
(scaling book, "AllToAll")."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a device is: its slice, and the coordinates of its chip in the torus of that."""

    slice: int
    chip: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Network:
    """The links of slices of one kind.

    Attributes:
        chip: what they are made of; its devices share its links.
        extents: of the torus, in chips.
        wraps: by axis, whether its ends are joined.
        places: of the devices, by their number in programs.
    """

    chip: Chip
    extents: tuple[int, ...]
    wraps: tuple[bool, ...]
    places: Sequence[Place]

    @property
    def _tpu(self) -> Tpu:
        assert self.chip.tpu is not None
        return self.chip.tpu

    @property
    def _link_bandwidth(self) -> float:
        """Of a link in one direction, for one of the devices of a chip."""
        return self._tpu.link_bandwidth / self.chip.devices

    def seconds(self, kind: str, whole_bytes: int, groups: Sequence[Sequence[int]], rings: int = 0) -> float:
        """How long a collective takes: that of the slowest group.

        Args:
            kind: all-gather, reduce-scatter, all-reduce, all-to-all or collective-broadcast.
            whole_bytes: of the data before it is shared out or after it is gathered, on one device.
            groups: the numbers of the devices that exchange it with each other.
            rings: along how many at once each group passes it; 0: as many as its places allow.
        """
        shapes = {self._shape(group) for group in groups if len(group) > 1}
        return max((self._group_seconds(kind, whole_bytes, rings, *shape) for shape in shapes), default=0.0)

    def permute_seconds(self, sent_bytes: int, pairs: Sequence[tuple[int, int]]) -> float:
        """How long it takes that each first device of a pair sends to its second one, over one link."""
        return max((self._send_seconds(sent_bytes, *pair) for pair in pairs if pair[0] != pair[1]), default=0.0)

    def between_slices_seconds(self, sent_bytes: int) -> float:
        """How long it takes that each device sends something to another slice, and gets as much from there."""
        return sent_bytes / self._tpu.network_bandwidth

    def _shape(self, group: Sequence[int]) -> tuple[int, int, int, int]:
        """What the time of a group depends on: devices, slices, links in use, and hops to the farthest place."""
        places = [self.places[device] for device in group]
        links = hops = 0
        for axis, extent in enumerate(self.extents):
            found = {place.chip[axis] for place in places}
            if len(found) > 1:
                is_ring = len(found) == extent and self.wraps[axis]
                links += 2 if is_ring else 1
                hops += extent // 2 if is_ring else max(found) - min(found)
        return len(group), len({place.slice for place in places}), links, hops

    def _group_seconds(
        self, kind: str, whole_bytes: int, rings: int, members: int, slices: int, links: int, hops: int
    ) -> float:
        inside, rounds = members // slices, _ROUNDS[kind]
        seconds = 0.0
        if inside > 1:
            if rings:
                links, hops = 2 * rings, max(hops, inside // (2 * rings) if rings == 1 else hops)
            # The two devices of a chip reach each other within it.
            bandwidth = links * self._link_bandwidth if hops else self.chip.memory_bandwidth
            seconds = max(rounds * whole_bytes * (inside - 1) / inside / bandwidth, rounds * hops * HOP_SECONDS)
        if slices > 1:  # each device exchanges its share of what its slice has gathered or summed
            shared = whole_bytes / inside
            seconds += rounds * shared * (slices - 1) / slices / self._tpu.network_bandwidth
        return seconds

    def _send_seconds(self, sent_bytes: int, source: int, target: int) -> float:
        start, end = self.places[source], self.places[target]
        if start.slice != end.slice:
            return sent_bytes / self._tpu.network_bandwidth
        # Coordinates of a chip are three also where the torus has two axes.
        hops = sum(self._distance(axis, start.chip[axis], end.chip[axis]) for axis in range(len(self.extents)))
        return sent_bytes / self._link_bandwidth + hops * HOP_SECONDS

    def _distance(self, axis: int, start: int, end: int) -> int:
        straight = abs(start - end)
        return min(straight, self.extents[axis] - straight) if self.wraps[axis] else straight
