"""Means over seeds with their intervals, and differences paired by seed.

Student's t: with few seeds their spread is itself uncertain, and an interval from the normal distribution would be too
narrow (three seeds: 4.3 standard errors on either side, not 2).
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean, and its interval if there is one: a single value has none."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half of the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean of at least one value, and for more than one the t interval of the mean."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean)
    from scipy.stats import t  # takes half a second to import

    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """The mean of the differences to a reference, seed by seed; None where they have no seed in common.

    Runs of one seed see the same rows in the same order, so that much of what seeds do cancels.
    """
    differences = [value - reference[seed] for seed, value in values.items() if seed in reference]
    return mean_interval(differences) if differences else None
