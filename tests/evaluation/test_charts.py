import math

from hypothesis import given
from hypothesis import strategies as st

from sc2jax.evaluation.charts import HEIGHT, WIDTH, line_chart


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=1500))
def test_curves_stay_inside_their_frame(values: list[float]) -> None:
    chart = line_chart(range(1, len(values) + 1), values)
    assert chart is not None
    for curve in (chart.values, chart.mean):
        points = [tuple(map(float, point.split(","))) for point in curve.split()]
        assert len(points) == min(len(values), 500)
        assert all(-0.1 <= x <= WIDTH + 0.1 and -0.1 <= y <= HEIGHT + 0.1 for x, y in points)


def test_a_straight_line_is_drawn_straight() -> None:
    chart = line_chart([0, 1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0, 4.0])
    assert chart is not None
    assert chart.values == chart.mean == "0.0,300.0 250.0,225.0 500.0,150.0 750.0,75.0 1000.0,0.0"
    assert [(tick.percent, tick.label) for tick in chart.y_ticks] == [
        (0.0, "0"), (25.0, "1"), (50.0, "2"), (75.0, "3"), (100.0, "4"),
    ]  # fmt: skip


def test_points_that_are_no_numbers_are_left_out() -> None:
    assert line_chart([1, 2], [math.nan, math.inf]) is None
    assert line_chart([], []) is None
    chart = line_chart([1, 2, 3], [1.0, math.nan, 2.0])
    assert chart is not None and len(chart.values.split()) == 2
