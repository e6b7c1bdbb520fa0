"""The geometry of the report's line charts: numbers only, which the template makes into markup."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sc2jax.plots import running_mean, tick_label, ticks

WIDTH, HEIGHT = 1000, 300
"""Size of the drawing in its own units; the page scales it."""

_MOST_POINTS = 500


@dataclasses.dataclass(frozen=True)
class Tick:
    """A label on an axis, at a percentage of its length."""

    percent: float
    label: str


@dataclasses.dataclass(frozen=True)
class LineChart:
    """A curve as points of a polyline, its running mean (the same for a short or smooth curve), and both axes."""

    values: str
    mean: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def line_chart(
    x: Sequence[float], y: Sequence[float], *, noisy: bool = True, from_zero: bool = False
) -> LineChart | None:
    """The chart of `y` over ascending `x`, without points that are not finite; None if no point is left.

    If there are more points than the eye can tell apart, groups of neighbours are averaged.
    """
    points = np.array([(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)], np.float64)
    if not len(points):
        return None
    groups = np.array_split(points, min(len(points), _MOST_POINTS))
    xs, ys = np.array([group.mean(axis=0) for group in groups]).T
    y_ticks = ticks(0.0 if from_zero else float(ys.min()), float(ys.max()), 4)
    x_ticks = [tick for tick in ticks(float(points[0, 0]), float(points[-1, 0]), 5) if tick <= points[-1, 0]]
    x_low, x_high = float(min(points[0, 0], x_ticks[0])), float(points[-1, 0])
    return LineChart(
        values=_polyline(xs, ys, (x_low, x_high), (y_ticks[0], y_ticks[-1])),
        mean=_polyline(xs, running_mean(ys, len(ys) // 50 if noisy else 0), (x_low, x_high), (y_ticks[0], y_ticks[-1])),
        x_ticks=_labelled(x_ticks, x_low, x_high),
        y_ticks=_labelled(y_ticks, y_ticks[0], y_ticks[-1]),
    )


def _polyline(xs: np.ndarray, ys: np.ndarray, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    across = _fraction(xs, *x_range) * WIDTH
    down = (1 - _fraction(ys, *y_range)) * HEIGHT
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))


def _fraction(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values - low) / (high - low) if high > low else np.full_like(values, 0.5)


def _labelled(places: Sequence[float], low: float, high: float) -> tuple[Tick, ...]:
    percents = 100 * _fraction(np.array(places), low, high)
    return tuple(
        Tick(round(float(percent), 2), tick_label(place)) for place, percent in zip(places, percents, strict=True)
    )
