"""How far a training is, while it runs: a bar on a terminal, and now and then a line where there is none."""

import collections
import dataclasses
import time
from collections.abc import Callable

from sc2jax.display import print_text
from sc2jax.progress import progress
from sc2jax.training.utilisation import Utilisation

_AT_LEAST_EVERY = 60.0
_AT_MOST_EVERY = 5.0
"""Seconds between two lines."""

_BAR_EVERY = 1.0
"""Seconds between two figures of the bar, so that they can be read."""

_STEPS = 32
"""Steps that figures of speed are taken over, the last ones."""

_FEWEST_STEPS = 4
"""Steps below which there is no utilisation: the end of a step is noticed up to a step too late, and then the next one
looks too short."""

_LONGEST_IN_SECONDS = 99.5


@dataclasses.dataclass(frozen=True)
class Step:
    """What a finished step came to.

    Attributes:
        number: of the step.
        loss: its mean loss.
        tokens: targets that counted.
        positions: those of all rows, padding included.
        waited: seconds that it waited for its batch.
    """

    number: int
    loss: float
    tokens: float
    positions: int
    waited: float


class Pace:
    """How fast the last steps were."""

    def __init__(self, utilisation: Utilisation, now: float) -> None:
        """Of devices with this utilisation, from now on."""
        self._utilisation = utilisation
        self._ends: collections.deque[tuple[float, Step | None]] = collections.deque([(now, None)], _STEPS + 1)

    def add(self, step: Step, now: float) -> None:
        """Takes a step that has ended now."""
        self._ends.append((now, step))

    def figures(self) -> str:
        """Tokens a second, utilisation where it is known, and the part of the time that was spent waiting for data."""
        (began, _), *ends = self._ends
        seconds, steps = max(ends[-1][0] - began, 1e-9), [step for _, step in ends if step is not None]
        figures = [f"{sum(step.tokens for step in steps) / seconds:,.0f} tokens/s"]
        if len(steps) >= _FEWEST_STEPS:
            utilisation = self._utilisation.of(sum(step.positions for step in steps), seconds)
            figures += [f"MFU {utilisation:.1%}"] if utilisation is not None else []
        waited = min(sum(step.waited for step in steps) / seconds, 1.0)
        return ", ".join([*figures, f"waiting for data {waited:.0%}"])


class LiveProgress:
    """Shows how far a training is. Use it as a context manager."""

    def __init__(
        self,
        first: int,
        last: int,
        utilisation: Utilisation,
        *,
        shows: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of the steps after `first` up to `last`; of several processes one shows it."""
        self._first, self._clock, self._utilisation = first, clock, utilisation
        self._started = self._shown = clock()
        self._pace = Pace(utilisation, self._started)
        self._bar = progress(initial=first, total=last, desc="train", unit="step") if shows else None
        self._lines = _Lines(first, last, self._started) if self._bar is not None and self._bar.disable else None

    def step(self, step: Step) -> None:
        """Takes a finished step."""
        now = self._clock()
        self._pace.add(step, now)
        if self._lines is not None:
            self._lines.step(step, self._pace, now)
        elif self._bar is not None:
            if now - self._shown >= _BAR_EVERY:
                self._bar.set_postfix_str(f"loss {step.loss:.3f}, {self._pace.figures()}", refresh=False)
                self._shown = now
            self._bar.update()
        if step.number == self._first + 1:  # it was compiled, which says nothing of the others
            self._pace = Pace(self._utilisation, now)

    def say(self, message: str) -> None:
        """Shows a line of its own."""
        if self._bar is not None and not self._bar.disable:
            self._bar.clear()
        print_text(f"      {message}")

    def __enter__(self) -> "LiveProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    """A line at every tenth of the steps, but not within seconds of another, and at least once a minute."""

    def __init__(self, first: int, last: int, now: float) -> None:
        self._first, self._last = first, last
        self._started = self._said = now
        self._tenths = self._tenths_at(first)
        self._timed_from = first

    def step(self, step: Step, pace: Pace, now: float) -> None:
        """Takes a finished step; the last one is left to whoever says what all of them came to."""
        number, silent = step.number, now - self._said
        passed_a_tenth = self._tenths_at(number) > self._tenths and silent >= _AT_MOST_EVERY
        if number < self._last and (passed_a_tenth or silent >= _AT_LEAST_EVERY):
            left = (self._last - number) * (now - self._started) / (number - self._timed_from)
            print_text(
                f"      step {number:,} of {self._last:,}, loss {step.loss:.3f}, {pace.figures()}, "
                f"about {in_words(left)} left"
            )
            self._said, self._tenths = now, self._tenths_at(number)
        if number == self._first + 1:
            self._started, self._timed_from = now, number

    def _tenths_at(self, step: int) -> int:
        return 10 * step // self._last


def in_words(seconds: float) -> str:
    """A time to wait, in two of its units at most."""
    if seconds < _LONGEST_IN_SECONDS:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
