"""The page of an ablation: one HTML file that needs no network, no script and no other file."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import markupsafe
import numpy as np

from sc2jax import plots
from sc2jax.ablation.config import ISOFLOP
from sc2jax.ablation.fits import IsoFlop, Point, isoflop
from sc2jax.ablation.intervals import Interval
from sc2jax.ablation.results import COSTS, DECODING, SCORES, Column, RunResult, Summary, summaries
from sc2jax.pages import count, figure, page_environment, percent, sentence, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = "ablation.html.jinja"
_SCORE = "bits_per_byte"
_DIFFERS = 1.01
"""Costs of which the largest is less than so many times the smallest are no picture."""
_BETWEEN = 50
"""Points of a parabola that is drawn."""


@dataclasses.dataclass(frozen=True)
class Failed:
    """A run without results: why, and where its log is."""

    run: str
    message: str
    log: str


def render_page(
    name: str, reference: str, results: Sequence[RunResult], failed: Sequence[Failed], fit: str, version: str
) -> str:
    """The whole page as text, to be written as UTF-8.

    Args:
        name: of the ablation.
        reference: the label of the variant that the others are compared with.
        results: the runs that have any.
        failed: those that have none.
        fit: that of the config.
        version: that of the code.
    """
    found = summaries(results, reference)
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {"written": written, "with_interval": with_interval, "difference": difference}
    fitted = isoflop(points(results)) if fit == ISOFLOP else None
    return environment.get_template(_TEMPLATE).render(
        name=name,
        reference=reference,
        summaries=found,
        results=results,
        failed=failed,
        scores=_measured(SCORES, results),
        costs=_measured(COSTS, results),
        decoding=_measured(DECODING, results),
        pictures=[(title, markupsafe.Markup(plots.svg(drawn))) for title, drawn in _pictures(found, results, fitted)],
        fitted=fitted,
        seeds=sorted({result.seed for result in results}),
        version=version,
    )


def in_lines(results: Sequence[RunResult], reference: str) -> Iterator[str]:
    """The scores of each variant in a line, for a terminal; `reference` is as that of the page."""
    for one in summaries(results, reference):
        scores = []
        for column in SCORES:
            if column.name in one.means:
                compared = one.differences.get(column.name)
                beside = f" ({difference(compared, column.form)})" if compared is not None else ""
                scores.append(f"{column.title} {with_interval(one.means[column.name], column.form)}{beside}")
        yield f"{one.label}: {', '.join(scores)}"


def points(results: Sequence[RunResult]) -> list[Point]:
    """The runs that have a score, and one that is a number, as points of an isoFLOP profile."""
    return [
        Point(run.figures["training_flops"], run.figures["parameters"], run.figures[_SCORE])
        for run in results
        if math.isfinite(run.figures.get(_SCORE, math.nan))
    ]


def written(value: float, form: str) -> str:
    """A figure in the form of its column."""
    return _FORMS[form](value)


_FORMS: Mapping[str, Callable[[float], str]] = {
    "figure": figure,
    "percent": percent,
    "count": count,
    "size": size,
    "power": lambda value: f"{value:.2e}",
}


def with_interval(interval: Interval, form: str) -> str:
    """A mean, and half the width of its interval, if it has one: what is the same for all seeds has none to show."""
    mean = written(interval.mean, form)
    return f"{mean} ± {written(interval.half, form)}" if interval.half else mean


def difference(interval: Interval, form: str) -> str:
    """A difference with its sign, if it is written as more than 0, and half the width of its interval."""
    amount, half = written(abs(interval.mean), form), interval.half
    sign = "" if amount == written(0.0, form) else "+" if interval.mean > 0 else "\N{MINUS SIGN}"
    return f"{sign}{amount}" + ("" if half is None else f" ± {written(half, form)}")


def _measured(columns: Sequence[Column], results: Sequence[RunResult]) -> list[Column]:
    return [column for column in columns if any(column.name in run.figures for run in results)]


def _pictures(
    found: Sequence[Summary], results: Sequence[RunResult], fitted: IsoFlop | None
) -> Iterator[tuple[str, "Figure"]]:
    """Every picture with its caption."""
    scored = {summary.label: summary.means[_SCORE] for summary in found if _SCORE in summary.means}
    if scored:
        drawn = plots.intervals(
            list(scored),
            [one.mean for one in scored.values()],
            [one.mean if one.low is None else one.low for one in scored.values()],
            [one.mean if one.high is None else one.high for one in scored.values()],
            "held-out bits per byte",
        )
        yield "Held-out bits per byte: the mean over seeds, and its 95 % interval where there is one.", drawn
    if fitted is not None:
        yield from _fit_pictures(fitted)
    for x, x_label in (("tokens", "tokens trained on"), ("flops", "training FLOPs")):
        caption = f"Training loss over {x_label}: the mean over seeds, and the band between them."
        yield caption, _curves(results, x, x_label)
    for column in (*COSTS, *DECODING):
        amounts = {one.label: one.means[column.name].mean for one in found if column.name in one.means}
        if column.drawn and amounts and max(amounts.values()) > _DIFFERS * min(amounts.values()):
            x_label = f"{column.title}, bytes" if column.form == "size" else column.title
            yield sentence(f"{column.title}: {column.meaning}"), plots.bars(amounts, x_label)


def _curves(results: Sequence[RunResult], x: str, x_label: str) -> "Figure":
    """In nats a token, or in bits a byte where the runs have other tokens."""
    in_bytes = len({run.tokenizer for run in results}) > 1
    series: dict[str, list[plots.Curve]] = {}
    for run in results:
        curve = plots.Curve(getattr(run, x), run.rates if in_bytes else run.losses)
        series.setdefault(run.label, []).append(curve)
    y_label = "training loss, bits a byte" if in_bytes else "training loss, nats a token"
    return plots.curves(series, x_label=x_label, y_label=y_label, noisy=True)


def _fit_pictures(fitted: IsoFlop) -> Iterator[tuple[str, "Figure"]]:
    measured, parabolas = {}, {}
    for profile in fitted.profiles:
        label = f"{profile.flops:.1e} FLOPs"
        sizes = [point.parameters for point in profile.points]
        measured[label] = plots.Curve(sizes, [point.loss for point in profile.points])
        if profile.coefficients:
            between = np.geomspace(sizes[0], sizes[-1], _BETWEEN)
            values = [profile.at(size) for size in between]
            parabolas[label] = plots.Fit(list(between), values, values, values)
    yield (
        "Held-out bits per byte over the size of the model, a parabola for each budget.",
        plots.fit(measured, parabolas, x_label="parameters", y_label="held-out bits per byte"),
    )
    best = {profile.flops: profile.best.mean for profile in fitted.profiles if profile.best is not None}
    law = fitted.law
    if law is not None:
        values = [law.at(budget) for budget in law.budgets]
        line = plots.Fit(law.budgets, values, law.lows or values, law.highs or values)
        caption = "The best size of each budget, and the power law through them"
        yield (
            f"{caption}{' with its 95 % interval' if law.lows else ''}.",
            plots.fit(
                {"best size": plots.Curve(list(best), list(best.values()))},
                {"best size": line},
                x_label="training FLOPs",
                y_label="parameters",
                log_y=True,
            ),
        )
