"""Which source fills each row of a run, and how many rows of it came before: functions of the row's number.

All rows have the same length, so shares of rows are shares of tokens. Rows are dealt out by the divisor method of
Webster and Sainte-Lague, which gives the first n seats to parties as this gives the first n rows to sources: after any
number of rows each source is within half a row of its share, and besides by its own share of what the halves of all
sources come to. For StarCoder2's mixtures that is under a row for every source but the largest, which in the first
300,000 rows is never off by more than 3.4. StarCoder2's training mixed in the same way, with one source a row
(Megatron-LM's blended data set).

A source that may be read only so often ends at its last row, from where on the others take over its share: a run has
as many phases as sources that end, and all of them are known before its first row.
"""

import dataclasses
import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

ENDLESS = 2**62
"""Stands for the rows of a source without a limit, and for those of a run in which there is one."""


class Turns:
    """An endless sequence of turns of sources, by their shares; only proportions matter.

    Turn j, from 0, of a source with proportion p is due at time (j + 1/2) / p, and turns are taken in the order of
    these times, of two at the same time that of the earlier source first. By time n about n turns are due, of each
    source about n * p; so what came before a turn is counted without going through the sequence.

    Times are whole numbers of so small a unit that two are equal if they are, and in order if they are not, however
    many sources there are and however far ahead their turns.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        exact = [Fraction(str(share)) for share in shares]  # as it was written: three times 0.1 is 0.3
        common = math.lcm(*(share.denominator for share in exact))
        self._weights = [int(share * common) for share in exact]
        self._total = sum(self._weights)
        # Times of two sources that are not equal differ by one over the product of their weights at least.
        self._shift = 2 * max(self._weights).bit_length() + 1

    def due(self, source: int, turn: int) -> tuple[int, int]:
        """The time of a source's turn, and the source: what turns are ordered by."""
        return ((2 * turn + 1) << self._shift) // self._weights[source], source

    def before(self, time: tuple[int, int]) -> list[int]:
        """How many turns of each source are due before a time."""
        return [
            ((((time[0] + (source < time[1])) * weight - 1) >> self._shift) + 1) // 2
            for source, weight in enumerate(self._weights)
        ]

    def first(self, turns: int) -> list[int]:
        """How many of the first `turns` turns each source has."""
        counts = self.before(((2 * turns << self._shift) // self._total, 0))
        more = turns - sum(counts)
        if more > 0:
            waiting = [self.due(source, count) for source, count in enumerate(counts)]
            heapq.heapify(waiting)
            for _ in range(more):
                source = waiting[0][1]
                counts[source] += 1
                heapq.heapreplace(waiting, self.due(source, counts[source]))
        if more < 0:
            newest = (self.due(source, count - 1) for source, count in enumerate(counts) if count)
            taken = [(-due, -source) for due, source in newest]
            heapq.heapify(taken)
            for _ in range(-more):
                source = -taken[0][1]
                counts[source] -= 1
                due = self.due(source, counts[source] - 1)[0] if counts[source] else 0
                heapq.heapreplace(taken, (-due, -source))
        return counts

    def sequence(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The sources that have the turns `start` to `stop`, and which turn of its own that is for each of them."""
        counts = self.first(start)
        waiting = [self.due(source, count) for source, count in enumerate(counts)]
        heapq.heapify(waiting)
        sources = np.empty(stop - start, np.int64)
        turns = np.empty(stop - start, np.int64)
        for index in range(stop - start):
            source = waiting[0][1]
            sources[index], turns[index] = source, counts[source]
            counts[source] += 1
            heapq.heapreplace(waiting, self.due(source, counts[source]))
        return sources, turns


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of rows in which the same `sources` are read; `before` are the rows that came of each one of all."""

    start: int
    stop: int
    sources: tuple[int, ...]
    before: tuple[int, ...]
    turns: Turns


class Schedule:
    """The source of each row of a run.

    Args:
        shares: of the tokens, in any unit; above 0.
        limits: how many rows each source gives at most; `ENDLESS` for no limit.
    """

    def __init__(self, shares: Sequence[float], limits: Sequence[int]) -> None:
        self._sources = len(shares)
        self._phases = _phases(shares, limits)

    @property
    def rows(self) -> int:
        """How many rows there are; `ENDLESS` where a source has no limit."""
        return self._phases[-1].stop

    def counts(self, rows: int) -> list[int]:
        """How many of the first `rows` rows are each source's."""
        phase = self._phase(rows)
        counts = list(phase.before)
        for source, turns in zip(phase.sources, phase.turns.first(rows - phase.start), strict=True):
            counts[source] += turns
        return counts

    def ends(self) -> list[int]:
        """The number of rows after which each source has given its last; `ENDLESS` where it has no limit."""
        ends = [ENDLESS] * self._sources
        for phase, following in zip(self._phases, [*self._phases[1:], None], strict=True):
            left = set(following.sources) if following else set()
            for source in set(phase.sources) - left if phase.stop < ENDLESS else ():
                ends[source] = phase.stop
        return ends

    def sequence(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The sources of the rows `start` to `stop`, and how many rows of its source came before each of them.

        Raises:
            ValueError: there are no such rows.
        """
        if not 0 <= start <= stop <= self.rows:
            raise ValueError(f"rows {start} to {stop} are not among the {self.rows} of the schedule")
        found = []
        while start < stop or not found:
            phase = self._phase(start)
            end = min(stop, phase.stop)
            of_phase, turns = phase.turns.sequence(start - phase.start, end - phase.start)
            sources = np.array(phase.sources)[of_phase]
            found.append((sources, turns + np.array(phase.before)[sources]))
            start = max(end, start + 1)
        return np.concatenate([sources for sources, _ in found]), np.concatenate([rows for _, rows in found])

    def _phase(self, row: int) -> Phase:
        return next(phase for phase in self._phases if row < phase.stop or phase is self._phases[-1])


def _phases(shares: Sequence[float], limits: Sequence[int]) -> list[Phase]:
    """The phases of a run, the last of which ends with the last row."""
    phases = []
    left = [source for source in range(len(shares)) if limits[source] > 0]
    before, start = [0] * len(shares), 0
    while left:
        turns = Turns([shares[source] for source in left])
        ending = [
            turns.due(place, limits[source] - before[source] - 1)
            for place, source in enumerate(left)
            if limits[source] < ENDLESS
        ]
        if not ending:
            phases.append(Phase(start, ENDLESS, tuple(left), tuple(before), turns))
            break
        last = min(ending)
        counts = turns.before(last)
        counts[last[1]] += 1  # the turn at that time is the phase's last
        phases.append(Phase(start, start + sum(counts), tuple(left), tuple(before), turns))
        start += sum(counts)
        for place, source in enumerate(left):
            before[source] += counts[place]
        left = [source for source in left if before[source] < limits[source]]
    return phases
