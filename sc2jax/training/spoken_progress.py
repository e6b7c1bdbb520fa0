"""A sign of life where no terminal shows a bar: now and then a line on the standard output."""

import time
from collections.abc import Callable

from sc2jax.display import print_text

_AT_LEAST_EVERY = 60.0
_AT_MOST_EVERY = 5.0
"""Seconds between two lines."""

_LONGEST_IN_SECONDS = 99.5


class SpokenProgress:
    """Says how far a training is: at every tenth of the steps, but not within seconds, and at least once a minute."""

    def __init__(self, first: int, last: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Of the steps after `first` up to `last`."""
        self._first, self._last, self._clock = first, last, clock
        self._started = self._said = clock()
        self._tenths = self._tenths_at(first)
        self._timed_from = first
        self._tokens = 0.0

    def step(self, step: int, loss: float, tokens: float) -> None:
        """Takes what a finished step came to; the last one is left to whoever says what all of them came to."""
        now = self._clock()
        self._tokens += tokens
        silent = now - self._said
        passed_a_tenth = self._tenths_at(step) > self._tenths and silent >= _AT_MOST_EVERY
        if step < self._last and (passed_a_tenth or silent >= _AT_LEAST_EVERY):
            left = (self._last - step) * (now - self._started) / (step - self._timed_from or 1)
            print_text(
                f"      step {step:,} of {self._last:,}, loss {loss:.3f}, {self._tokens / silent:,.0f} tokens/s, "
                f"about {in_words(left)} left"
            )
            self._said, self._tokens, self._tenths = now, 0.0, self._tenths_at(step)
        if step == self._first + 1:  # it was compiled, which says nothing of the others
            self._started, self._timed_from = now, step

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
