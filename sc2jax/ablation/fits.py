"""IsoFLOP profiles: the best model size for each budget of training FLOPs, and how it grows (arXiv 2203.15556, 3.2).

Runs of one budget differ in size, and so in the tokens that are left for them. Over the logarithm of the parameters
their losses lie near a parabola, whose lowest point is the best size of the budget; over budgets the best sizes follow
a power law. Intervals are those of a parametric bootstrap: errors as large as the parabolas leave are drawn anew, and
everything fitted again. A parabola that opens downwards, or whose lowest point lies beyond the sizes that were tried,
has no best size, and says so: it is not extrapolated.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sc2jax.ablation.intervals import CONFIDENCE, Interval

_SAME_BUDGET = 1.25
"""FLOPs that differ by less than this factor are of one budget: steps and layers are whole numbers."""
_FEWEST_SIZES = 4
"""A parabola goes through any three."""
_FEWEST_BUDGETS = 2
_DRAWS = 2000
_FLAT = 1e-9
"""Of the loss: a parabola that falls by no more over its sizes follows from rounding."""
_LEAST_SHARE = CONFIDENCE
"""Of the draws that must have a best size: with fewer, no end of an interval of this confidence is known."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A run: its training FLOPs, its parameters and its score, of which less is better."""

    flops: float
    parameters: float
    loss: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """The runs of one budget, and what was fitted to them.

    Attributes:
        flops: the geometric mean of theirs.
        points: the runs, by their parameters.
        coefficients: of the parabola over ln(parameters), the highest power first; empty where there are too few sizes.
        best: the best size and its interval; None where the parabola has no lowest point among the sizes.
        loss: that of the best size.
        why_not: why there is no best size; "" if there is one.
    """

    flops: float
    points: tuple[Point, ...]
    coefficients: tuple[float, ...]
    best: Interval | None
    loss: float | None
    why_not: str

    def at(self, parameters: float) -> float:
        """The parabola's value."""
        return float(np.polyval(self.coefficients, math.log(parameters)))


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """The best size of a budget: `factor * FLOPs ** exponent`.

    `lows` and `highs` are the interval of the best size at `budgets`, which span those that were tried.
    """

    factor: float
    exponent: Interval
    budgets: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]

    def at(self, flops: float) -> float:
        """The best size of a budget."""
        return self.factor * flops**self.exponent.mean


@dataclasses.dataclass(frozen=True)
class IsoFlop:
    """The profiles by ascending budget, and the power law of their best sizes, where two budgets or more have one."""

    profiles: tuple[Profile, ...]
    law: PowerLaw | None


def isoflop(points: Sequence[Point], seed: int = 0, draws: int = _DRAWS) -> IsoFlop:
    """Fits everything to points of finite losses; the bootstrap's draws follow from the seed."""
    budgets = _budgets(points)
    fitted = [_parabola(budget) for budget in budgets]
    best = [_lowest(curve, budget) for curve, budget in zip(fitted, budgets, strict=True)]
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = np.array(
        [_drawn_best(curve, budget, draws, generator) for curve, budget in zip(fitted, budgets, strict=True)]
    ).reshape(len(budgets), draws)
    profiles = [
        Profile(
            _flops(budget),
            tuple(budget),
            tuple(curve),
            None if math.isnan(size) else _interval(size, of_draws),
            None if math.isnan(size) else float(np.polyval(curve, math.log(size))),
            _why_not(curve, budget, size),
        )
        for budget, curve, size, of_draws in zip(budgets, fitted, best, drawn, strict=True)
    ]
    known = [index for index, size in enumerate(best) if not math.isnan(size)]
    flops = np.array([_flops(budgets[index]) for index in known])
    law = _power_law(flops, np.array(best)[known], drawn[known]) if len(known) >= _FEWEST_BUDGETS else None
    return IsoFlop(tuple(profiles), law)


def _budgets(points: Sequence[Point]) -> list[list[Point]]:
    """The runs of each budget, by their parameters; a gap between neighbours parts two budgets."""
    found: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if found and point.flops < found[-1][-1].flops * _SAME_BUDGET:
            found[-1].append(point)
        else:
            found.append([point])
    return [sorted(budget, key=lambda point: point.parameters) for budget in found]


def _flops(budget: Sequence[Point]) -> float:
    return math.exp(sum(math.log(point.flops) for point in budget) / len(budget))


def _sizes(budget: Sequence[Point]) -> np.ndarray:
    return np.log([point.parameters for point in budget])


def _parabola(budget: Sequence[Point]) -> np.ndarray:
    """The coefficients over ln(parameters); none for too few sizes."""
    if len({point.parameters for point in budget}) < _FEWEST_SIZES:
        return np.array([])
    return np.polyfit(_sizes(budget), [point.loss for point in budget], 2)


def _lowest(curve: np.ndarray, budget: Sequence[Point]) -> float:
    """The size at a parabola's lowest point; nan where it has none among the sizes that were tried."""
    if not len(curve) or curve[0] <= 0 or _is_flat(curve, budget):
        return math.nan
    lowest = -curve[1] / (2 * curve[0])
    return float(np.exp(lowest)) if _sizes(budget)[0] <= lowest <= _sizes(budget)[-1] else math.nan


def _is_flat(curve: np.ndarray, budget: Sequence[Point]) -> bool:
    values = np.polyval(curve, _sizes(budget))
    return bool(np.ptp(values) <= _FLAT * np.abs(values).max())


def _why_not(curve: np.ndarray, budget: Sequence[Point], size: float) -> str:
    if not math.isnan(size):
        return ""
    if not len(curve):
        return f"fewer than {_FEWEST_SIZES} sizes"
    if _is_flat(curve, budget):
        return "all sizes are equally good"
    return "the parabola opens downwards" if curve[0] <= 0 else "the lowest point lies beyond the sizes"


def _drawn_best(curve: np.ndarray, budget: Sequence[Point], draws: int, generator: np.random.Generator) -> np.ndarray:
    """The best sizes of parabolas through losses of which the errors are drawn anew; nan where there is none.

    Their deviation is drawn too, as uncertain as the few residuals leave it: the residuals themselves, drawn anew,
    give an interval of 95 % that holds the truth in 82 % of cases with five sizes, and in 71 % with four.
    """
    if not len(curve):
        return np.full(draws, math.nan)
    sizes, losses = _sizes(budget), np.array([point.loss for point in budget])
    values = np.polyval(curve, sizes)
    left = len(losses) - len(curve)
    deviations = np.sqrt(np.sum((losses - values) ** 2) / generator.chisquare(left, draws))
    drawn = values[:, None] + deviations * generator.standard_normal((len(losses), draws))
    second, first, _ = np.polyfit(sizes, drawn, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = -first / (2 * second)
        return np.where(second > 0, np.exp(np.clip(lowest, -700, 700)), math.nan)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if len(known) < _LEAST_SHARE * len(drawn):
        return Interval(value)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _power_law(flops: np.ndarray, best: np.ndarray, drawn: np.ndarray) -> PowerLaw:
    exponent, factor = np.polyfit(np.log(flops), np.log(best), 1)
    whole = np.isfinite(drawn).all(axis=0)
    budgets = np.geomspace(flops[0], flops[-1], 25)
    if whole.sum() < _LEAST_SHARE * drawn.shape[1]:
        return PowerLaw(math.exp(factor), Interval(float(exponent)), tuple(budgets), (), ())
    exponents, factors = np.polyfit(np.log(flops), np.log(drawn[:, whole]), 1)
    sizes = np.exp(factors + exponents * np.log(budgets)[:, None])
    lows, highs = np.quantile(sizes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
    return PowerLaw(math.exp(factor), _interval(float(exponent), exponents), tuple(budgets), tuple(lows), tuple(highs))
