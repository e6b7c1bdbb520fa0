"""The pictures: what stands in them is what was given, told apart without colour, and the same bytes every time."""

import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colors
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from sc2jax import plots
from sc2jax.plots import Curve, Fit, running_mean, tick_label, ticks

FINITE = st.floats(-1e6, 1e6).map(lambda value: round(value, 4))


def line_of(figure: Figure, label: str) -> Line2D:
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == label]
    return line


def xs(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), np.float64).tolist()


def ys(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), np.float64).tolist()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def band(figure: Figure) -> np.ndarray:
    """The corners of the one band."""
    (area,) = figure.axes[0].collections
    return np.asarray(area.get_paths()[0].vertices)


def test_a_line_is_the_mean_of_its_seeds_within_their_extremes() -> None:
    runs = [Curve([0, 1, 2], [4.0, 3.0, 2.0]), Curve([0, 1, 2], [8.0, 3.0, 1.0])]
    figure = plots.curves({"both": runs}, x_label="tokens", y_label="loss")
    line = line_of(figure, "both")
    assert xs(line) == [0, 1, 2]
    assert ys(line) == [6.0, 3.0, 1.5]
    corners = {(float(x), float(y)) for x, y in band(figure)}
    assert corners == {(0, 4), (0, 8), (1, 3), (2, 1), (2, 2)}
    assert figure.axes[0].get_xlabel() == "tokens" and figure.axes[0].get_ylabel() == "loss"
    assert not figure.legends, "one line needs no legend"


def test_seeds_that_were_measured_elsewhere_are_interpolated_where_all_have_values() -> None:
    runs = [Curve([0, 2, 4], [0.0, 2.0, 4.0]), Curve([1, 3, 9], [10.0, 30.0, 90.0])]
    line = line_of(plots.curves({"both": runs}, x_label="x", y_label="y"), "both")
    assert xs(line) == [1, 2, 3, 4]
    assert ys(line) == pytest.approx([5.5, 11.0, 16.5, 22.0])


def test_one_seed_has_no_band() -> None:
    figure = plots.curves({"one": [Curve([1, 2], [1.0, 2.0])]}, x_label="x", y_label="y")
    assert not figure.axes[0].collections


def test_values_that_are_no_numbers_are_left_out() -> None:
    figure = plots.curves({"a": [Curve([1, 2, 3, 4], [1.0, math.nan, 3.0, math.inf])]}, x_label="x", y_label="y")
    assert xs(line_of(figure, "a")) == [1, 3]


def test_nothing_to_draw_is_said() -> None:
    for figure in (
        plots.curves({}, x_label="x", y_label="y"),
        plots.curves({"failed": [], "diverged": [Curve([1], [math.nan])]}, x_label="x", y_label="y", log_x=True),
        plots.bars({}, "bytes"),
        plots.intervals([], [], [], [], "bits"),
    ):
        assert [text.get_text() for text in figure.axes[0].texts] == ["nothing to draw"]
        assert plots.svg(figure)


def test_noise_is_smoothed_over_a_fiftieth_on_either_side() -> None:
    y = np.random.default_rng(0).normal(size=100)
    (line,) = (
        plots.curves({"a": [Curve(range(100), list(y))]}, x_label="x", y_label="y", noisy=True).axes[0].get_lines()
    )
    assert ys(line)[50] == pytest.approx(y[48:53].mean())
    assert ys(line)[0] == pytest.approx(y[0])
    (line,) = plots.curves({"a": [Curve(range(100), list(y))]}, x_label="x", y_label="y").axes[0].get_lines()
    assert ys(line) == list(y), "what is no noise is drawn as it is"


def test_running_mean_is_symmetric() -> None:
    assert running_mean(np.array([3.0, 0.0, 6.0, 9.0, 1.0]), 1) == pytest.approx([3, 3, 5, 16 / 3, 1])
    line = np.arange(50.0)
    assert running_mean(line, 7) == pytest.approx(line)


def test_curves_are_told_apart_without_their_colour() -> None:
    """As many as an ablation may have: two of colour, dashes and marker differ."""
    figure = plots.curves(
        {f"run {number}": [Curve([1, 2], [number, number])] for number in range(28)}, x_label="x", y_label="y"
    )
    looks = [
        (line.get_color(), str(line._unscaled_dash_pattern), line.get_marker())  # type: ignore[attr-defined]
        for line in figure.axes[0].get_lines()
    ]
    for one, other in itertools.combinations(looks, 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= 2
    assert legend(figure) == [f"run {number}" for number in range(28)]


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2, from 0 (black) to 1 (white)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_colour_is_seen_on_paper() -> None:
    """White over orange has a contrast of 2.1, over the yellow that is left out 1.3."""
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in plots._COLOURS)


def test_a_row_has_its_mean_and_its_interval() -> None:
    figure = plots.intervals(["a", "b"], [2.0, 5.0], [1.0, 4.5], [4.0, 6.0], "bits per byte")
    axes = figure.axes[0]
    (lines,) = axes.collections
    assert isinstance(lines, LineCollection)
    assert [np.asarray(segment).tolist() for segment in lines.get_segments()] == [[[1, 0], [4, 0]], [[4.5, 1], [6, 1]]]
    lows, highs, means = [xs(line) for line in axes.get_lines()]
    assert (lows, highs, means) == ([1.0, 4.5], [4.0, 6.0], [2.0, 5.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    bottom, top = axes.get_ylim()
    assert bottom > top, "the first row is the uppermost"


def test_a_bar_has_its_amount() -> None:
    axes = plots.bars({"Python": 34e6, "C": 123.0}, "bytes").axes[0]
    assert [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)] == [34e6, 123.0]
    assert [text.get_text() for text in axes.texts] == ["34M", "123"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Python", "C"]


def test_a_fit_shows_what_was_measured_beside_what_was_fitted() -> None:
    points, fitted = Curve([1, 10, 100], [3.0, 2.0, 3.5]), Fit([1, 100], [2.5, 3.0], [2.0, 2.5], [3.0, 3.5])
    figure = plots.fit({"small": points}, {"small": fitted, "law": fitted}, x_label="parameters", y_label="loss")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    fitted_line, measured, _, law, _ = axes.get_lines()
    assert ys(fitted_line) == ys(law) == [2.5, 3.0]
    assert ys(measured) == points.y and measured.get_linestyle() == "None"
    assert fitted_line.get_color() == measured.get_color() != law.get_color()
    assert legend(figure) == ["small", "law"]
    of_points, of_law = axes.get_lines()[2], axes.get_lines()[4]
    assert of_points.get_marker() == measured.get_marker() and of_points.get_linestyle() == "-"
    assert of_law.get_marker() == "" and of_law.get_linestyle() == law.get_linestyle() == "--"
    assert {(float(x), float(y)) for x, y in np.asarray(axes.collections[0].get_paths()[0].vertices)} == {
        (1, 2), (1, 3), (100, 2.5), (100, 3.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    "label", ["$\\frac{$", "<script>&", "two\nlines", "\x1b[31m\u202e", "x" * 900, "_hidden", "'\""]
)
def test_a_label_is_text_whatever_stands_in_it(label: str) -> None:
    series = {label: [Curve([1, 2], [1.0, 2.0])], "b": [Curve([1, 2], [1.0, 2.0])]}
    figure = plots.curves(series, x_label=label, y_label="y")
    shown = legend(figure)[0]
    assert len(shown) <= 60 and "\n" not in shown and "\x1b" not in shown and "\u202e" not in shown
    ET.fromstring(plots.svg(figure))


def drawn() -> str:
    series = {f"run {number}": [Curve([1, 20, 300], [number, 2, 3])] for number in range(3)}
    return plots.svg(plots.curves(series, x_label="tokens", y_label="loss", log_x=True))


def test_a_picture_of_a_page_is_the_same_bytes_and_names_no_other_file(monkeypatch) -> None:
    first = drawn()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert drawn() == first
    root = ET.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("aria-label") == "loss over tokens: run 0, run 1, run 2"
    links = [value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")]
    assert links and all(link.startswith("#") for link in links)
    assert first.count("http") == 2, "the two names of SVG's own vocabulary"


def test_the_users_own_style_neither_changes_a_picture_nor_is_changed() -> None:
    import matplotlib

    first = drawn()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "xtick.major.size": 30}):
        assert drawn() == first
        assert matplotlib.rcParams["font.size"] == 20


LABELS = {
    0.0: "0", 0.0005: "0.0005", 700: "700", 1e4: "10k", 12e3: "12k", 1e6: "1M", 1.5e6: "1.5M", 2e9: "2G",
    3e12: "3T", 4.5e15: "4.5P", 6e18: "6E", -2e6: "-2M",
}  # fmt: skip


@pytest.mark.parametrize(("value", "label"), LABELS.items())
def test_tick_labels_are_short(value: float, label: str) -> None:
    assert tick_label(value) == label


def test_few_points_are_all_marked_and_many_at_other_places_than_the_curve_before() -> None:
    for points, every in ((12, True), (13, False)):
        series = {name: [Curve(range(points), range(points))] for name in "ab"}
        one, other = plots.curves(series, x_label="x", y_label="y").axes[0].get_lines()
        assert (one.get_markevery() == 1) == every
        assert (one.get_markevery() != other.get_markevery()) != every


def test_a_logarithmic_axis_has_few_round_numbers() -> None:
    def labels(high: float) -> list[str]:
        figure = plots.curves({"a": [Curve([100, high], [1, 2])]}, x_label="x", y_label="y", log_x=True)
        return [label.get_text() for label in figure.axes[0].get_xticklabels()]

    assert {"100", "200", "500", "1000"} <= set(labels(1000))
    assert {"100", "10k", "1M"} <= set(labels(1e6)) and not {"200", "5000"} & set(labels(1e6))


@given(FINITE, FINITE, st.integers(2, 8))
def test_ticks_are_round_and_enclose_the_range(a: float, b: float, intervals: int) -> None:
    low, high = min(a, b), max(a, b)
    places = ticks(low, high, intervals)
    step = places[1] - places[0]
    slack = step * 1e-6
    assert places[0] <= low + slack and places[-1] >= high - slack
    assert 2 <= len(places) <= intervals + 2
    mantissa = step / 10 ** math.floor(math.log10(step * 1.000001))
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5)) < 1e-3


@pytest.mark.parametrize(("low", "high"), [(0.0, 5e-324), (1e-310, 2e-310), (3e-320, 3e-320), (0.0, 0.0)])
def test_a_range_too_small_to_be_divided_has_ticks(low: float, high: float) -> None:
    places = ticks(low, high, 4)
    assert places[0] <= low and high <= places[-1]
    assert len(places) > 1 and len(set(places)) == len(places)
    assert places[-1] == 1.0
