"""Pictures of runs, all in one style: legible in print and for colour-blind readers.

Colour, line style and marker differ together, so that no curve is known by its colour alone; the colours are those of
Wong, "Points of view: Color blindness" (Nature Methods 8, 2011), without the yellow that print loses. matplotlib is
imported where something is drawn, and never its global state: a figure is the caller's, to be shown, changed or saved.
"""

import contextlib
import dataclasses
import functools
import html
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sc2jax.display import terminal_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (8, 2, 2, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_FEW_POINTS = 12  # of a curve: each has a marker
_MARKS_APART = 0.12  # on longer ones, in the axes' diagonal
_BAND_ALPHA = 0.18

_NO_LINE: dict[str, Any] = {"linestyle": ""}
_NO_MARKER: dict[str, Any] = {"marker": ""}

_WIDTH = 6.4  # inches
_HEIGHT = 3.6
_LINE = 0.22  # of text
_COLUMN = 0.3  # inches from bar to bar
_LONGEST_LABEL = 60  # characters
_LEGEND_CHARACTERS = 86  # that fit side by side under a figure
_LEGEND_MARK = 12  # the characters that a legend's own mark and gap are as wide as
_TINIEST = 1e-300  # of a range: smaller ones have no quarter

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110.0,
    "font.family": ["DejaVu Sans"],  # which matplotlib brings: the same picture on every machine
    "font.size": 9.0,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.5,  # in which a line's dashes can be told apart
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "savefig.dpi": 200.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "sc2jax",
    "text.parse_math": False,  # a label is text, whatever stands in it
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values `y` over ascending `x`, such as the losses of one run."""

    x: Sequence[float]
    y: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve over ascending `x`, and between which values the interval of the fit lies."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curves(
    series: Mapping[str, Sequence[Curve]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    noisy: bool = False,
) -> "Figure":
    """One line for each label: the mean of its curves (one a seed), with the band between the lowest and the highest.

    Where the curves have other `x`, they are interpolated; the mean covers the `x` that all of them have. Values that
    are not finite are left out. With `noisy` each curve is replaced by its running mean, over a fiftieth of its points
    on either side.
    """
    with _style():
        figure, axes = _figure(_HEIGHT)
        named = []
        for index, (label, runs) in enumerate(series.items()):
            x, low, mean, high = _together([_smoothed(run) if noisy else run for run in runs])
            if not len(x):
                continue
            look = _look(index)
            if len(runs) > 1:
                axes.fill_between(x, low, high, color=look["color"], alpha=_BAND_ALPHA, linewidth=0)
            named += axes.plot(x, mean, label=_shown(label), markevery=_marks(len(x), index), **look)
        _finish(figure, axes, x_label, y_label, named, log_x=log_x, log_y=log_y)
    return figure


def intervals(
    labels: Sequence[str], means: Sequence[float], lows: Sequence[float], highs: Sequence[float], x_label: str
) -> "Figure":
    """A row for each label, from the top down: its mean as a point, and its interval as a line through it."""
    with _style():
        figure, axes = _figure(1.0 + _COLUMN * len(labels))
        rows = range(len(labels))
        axes.hlines(rows, lows, highs, color=_COLOURS[0], linewidth=2.0)
        for ends in (lows, highs):
            axes.plot(ends, rows, "|", color=_COLOURS[0], markersize=8.0)
        axes.plot(means, rows, "o", color=_COLOURS[0], markersize=6.0)
        _name_rows(axes, labels)
        _finish(figure, axes, x_label)
    return figure


def bars(amounts: Mapping[str, float], x_label: str) -> "Figure":
    """A horizontal bar for each name, from the top down, with its amount beside it."""
    with _style():
        figure, axes = _figure(1.0 + _COLUMN * len(amounts))
        drawn = axes.barh(range(len(amounts)), list(amounts.values()), height=0.65, color=_COLOURS[0])
        axes.bar_label(drawn, [tick_label(amount) for amount in amounts.values()], padding=3)
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        _name_rows(axes, list(amounts))
        _finish(figure, axes, x_label)
    return figure


def fit(
    points: Mapping[str, Curve],
    fitted: Mapping[str, Fit],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = True,
    log_y: bool = False,
) -> "Figure":
    """What was measured, as points, and by the same label what was fitted to it: a line and the band of its interval.

    Losses over model sizes with a parabola for each budget of FLOPs, or the best sizes over budgets with a power law.
    """
    with _style():
        figure, axes = _figure(_HEIGHT)
        named = []
        for index, label in enumerate(dict.fromkeys([*points, *fitted])):
            look = _look(index)
            if label in fitted:
                line = fitted[label]
                axes.fill_between(line.x, line.low, line.high, color=look["color"], alpha=_BAND_ALPHA, linewidth=0)
                axes.plot(line.x, line.y, **(look | _NO_MARKER))
            if label in points:
                axes.plot(points[label].x, points[label].y, **(look | _NO_LINE))
            without = (_NO_MARKER if label not in points else {}) | (_NO_LINE if label not in fitted else {})
            named += axes.plot([], [], label=_shown(label), **(look | without))
        _finish(figure, axes, x_label, y_label, named, log_x=log_x, log_y=log_y)
    return figure


def svg(figure: "Figure") -> str:
    """The figure as an element of a page: no reference to another file, no date, the same bytes for the same figure."""
    import io

    content = io.StringIO()
    with _style():
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, start, rest = content.getvalue().partition("<svg ")
    return f'{start}role="img" aria-label="{html.escape(_description(figure))}" {rest}'


def tick_label(value: float) -> str:
    """A short number: `12k`, `1.5M`, `0.002`."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.4g}"


def ticks(low: float, high: float, intervals: int) -> list[float]:
    """Round numbers that enclose [low, high] in about `intervals` steps of 1, 2 or 5 times a power of ten."""
    if high - low < _TINIEST:
        high = low + (abs(low) if abs(low) > _TINIEST else 1.0)
    rough = (high - low) / intervals
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value with up to `reach` neighbours on either side; near the ends fewer, but as many on both."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach_at = np.minimum(reach, np.minimum(places, places[::-1]))
    start, end = places - reach_at, places + reach_at + 1
    return (sums[end] - sums[start]) / (end - start)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc or notebook set
        matplotlib.rcParams.update(_STYLE)
        yield


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _look(index: int) -> dict[str, Any]:
    """Colour, line style and marker of the curve of this number, from 0 on; any two of 28 differ in two."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "marker": _MARKERS[index % len(_MARKERS)],
    }


def _marks(points: int, index: int) -> int | tuple[float, float]:
    """Which points of a curve have a marker: all of few, or some, not at the places of the curve before."""
    return 1 if points <= _FEW_POINTS else (index % 3 / 3 * _MARKS_APART, _MARKS_APART)


def _finite(curve: Curve) -> Curve:
    pairs = np.array([curve.x, curve.y], np.float64)
    return Curve(*pairs[:, np.isfinite(pairs).all(axis=0)])


def _smoothed(curve: Curve) -> Curve:
    finite = _finite(curve)
    return Curve(finite.x, list(running_mean(np.asarray(finite.y), len(finite.y) // 50)))


def _together(runs: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The `x` within the reach of all curves, with the lowest, the mean and the highest of their values."""
    known = [curve for curve in map(_finite, runs) if len(curve.x)]
    if not known:
        nothing = np.array([])
        return nothing, nothing, nothing, nothing
    first, last = max(curve.x[0] for curve in known), min(curve.x[-1] for curve in known)
    x = np.unique(np.concatenate([curve.x for curve in known]))
    x = x[(first <= x) & (x <= last)]
    values = np.array([np.interp(x, curve.x, curve.y) for curve in known])
    return x, values.min(axis=0), values.mean(axis=0), values.max(axis=0)


def _name_rows(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [_shown(label) for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def _finish(
    figure: "Figure",
    axes: "Axes",
    x_label: str,
    y_label: str = "",
    named: "Sequence[Line2D]" = (),
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Labels, scales, and under the axes a legend if more than one line has a name."""
    if not np.isfinite(axes.dataLim.get_points()).all():
        axes.text(0.5, 0.5, "nothing to draw", ha="center", transform=axes.transAxes)
    axes.set_xlabel(_shown(x_label))
    axes.set_ylabel(_shown(y_label))
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    _number(axes.xaxis, is_log=log_x)
    if y_label:
        _number(axes.yaxis, is_log=log_y)
    labels = [str(line.get_label()) for line in named]
    if len(labels) > 1:
        columns = max(1, min(4, _LEGEND_CHARACTERS // (max(map(len, labels)) + _LEGEND_MARK)))
        figure.set_figheight(figure.get_figheight() + _LINE * -(-len(labels) // columns))
        figure.legend(named, labels, loc="outside lower center", ncols=columns)
    figure.draw_without_rendering()  # ticks take their style when they are first drawn, which is here


def _number(axis: "Axis", *, is_log: bool) -> None:
    from matplotlib import ticker

    if is_log:
        low, high = axis.get_view_interval()
        axis.set_major_locator(ticker.LogLocator(subs=(1.0,) if high > 1e3 * low else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: tick_label(value)))


def _shown(text: str) -> str:
    """A label as it is drawn: one line, not too long, safe to show, and of characters that the font has."""
    line = terminal_text(" ".join(text.split()))
    line = line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1]}…"
    known = _characters()
    return "".join(character if ord(character) in known else "\N{REPLACEMENT CHARACTER}" for character in line)


@functools.cache
def _characters() -> frozenset[int]:
    """The code points of the font in which everything is written."""
    from matplotlib import font_manager

    (family,) = _STYLE["font.family"]
    return frozenset(font_manager.get_font(font_manager.findfont(family)).get_charmap())


def _description(figure: "Figure") -> str:
    """What those hear who do not see the picture."""
    axes = figure.axes[0]
    rows = [] if axes.get_ylabel() else [label.get_text() for label in axes.get_yticklabels()]
    names = rows or [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    what = f"{axes.get_ylabel()} over {axes.get_xlabel()}" if axes.get_ylabel() else axes.get_xlabel()
    return f"{what}: {', '.join(itertools.islice(names, 20))}" if names else what
