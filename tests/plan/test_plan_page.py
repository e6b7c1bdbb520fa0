"""The page of a plan: what stands in it, the drawing of a layer, and that it fetches and runs nothing."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from plan_by_hand import layer, plan_by_hand

from sc2jax.plan import tables
from sc2jax.plan.compilation import Memory
from sc2jax.plan.drawing import LOOKS, WIDTH, Bar, layer_drawings
from sc2jax.plan.page import render_page
from sc2jax.plan.tasks import BACKWARD, FORWARD, OTHER, PRODUCT
from sc2jax.plan.timeline import Lane, Repeat, Task, Timeline, Wait, timeline


class Page(HTMLParser):
    """The cells of each table, the rectangles and titles of the drawings, all attributes and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.titles: list[str] = []
        self._in: list[str] = []
        self.feed(page.replace("\N{NO-BREAK SPACE}", " "))

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self._in.append(tag)
        assert tag not in ("script", "iframe", "object", "embed", "link", "img")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "title":
            self.titles.append("")

    def handle_endtag(self, tag):
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data
        if self._in and self._in[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self._in and self._in[-1] == "title":
            self.titles[-1] += data


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_page(plan_by_hand(), "1.0"))


def test_the_answer_stands_before_all_else(page):
    before = page.text[: page.text.index("One layer")]
    for figure in ("34.20 GiB of 95.74 GiB", "1,624 ms", "70.0 %", "18.8 days", "v5p-512"):
        assert figure in before


def test_the_tables_are_those_of_the_terminal(page):
    expected = [[list(table.columns), *map(list, table.rows)] for table in tables.tables(plan_by_hand())]
    assert page.tables == [
        [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells] for cells in table] for table in expected
    ]


def test_what_does_not_fit_looks_as_if_it_does_not():
    figures = dataclasses.replace(plan_by_hand().figures, memory=Memory(1 << 30, 100 << 30, 0))
    found = render_page(plan_by_hand(figures=figures), "1.0")
    assert '<dt>does not fit</dt><dd class="not">' in found
    assert '<dt>fits</dt><dd class="fits">' in render_page(plan_by_hand(), "1.0")


def test_nothing_is_fetched_or_run(page):
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert str(value).startswith("#")
        assert not re.search(r"url\((?!#)", str(value))


def test_equal_plans_give_equal_bytes():
    assert render_page(plan_by_hand(), "1.0") == render_page(plan_by_hand(), "1.0")


def test_hostile_names_of_instructions_are_text():
    body = timeline([Task("<script>alert(1)</script>", FORWARD, "<b>", 1.0)])
    found = Page(render_page(plan_by_hand(timeline=timeline([Repeat("w", body, 2)])), "1.0"))
    assert "<b>, 1,000 ms: <script>alert(1)</script>" in found.titles


def test_every_bar_tells_what_it_is(page):
    told = "reduce-scatter, 1.0 ms: forward-reduce", "waiting, 1.0 ms: for reduce-scatter forward-reduce"
    assert set(told) <= set(page.titles)
    assert "products, 20 ms: backward-product" in page.titles
    assert "Forward pass: one of 40 iterations, 14 ms" in page.text


def test_unrolled_layers_are_said_to_have_no_iteration():
    found = Page(render_page(plan_by_hand(timeline=layer(FORWARD, 1.0)), "1.0"))
    assert "The layers are not computed in a loop" in found.text
    assert "One layer" in found.text


def bars(step: Timeline, part: str, lane: Lane) -> list[Bar]:
    (found,) = [drawn for drawn in layer_drawings(step) if drawn.part == part]
    return list(dict(found.lanes)[lane.value])


def test_the_lanes_of_a_layer_are_in_their_places():
    """12.5 ms of compute beside a gather of 1.5 and a copy of 0.5 ms, then 1 ms of waiting: 13.5 ms in all."""
    drawn = layer_drawings(plan_by_hand().timeline)
    assert [(each.part, each.times) for each in drawn] == [(FORWARD, 40), (BACKWARD, 40)]
    scale = WIDTH / 13.5
    forward = plan_by_hand().timeline
    compute = bars(forward, FORWARD, Lane.COMPUTE)
    assert [bar.x for bar in compute] == pytest.approx([0, 10 * scale, 12 * scale, 12.5 * scale])
    assert [bar.width for bar in compute] == pytest.approx([10 * scale, 2 * scale, 0.5 * scale, scale])
    assert [bar.label for bar in compute] == ["products", "attention", "", "waiting"]
    links = bars(forward, FORWARD, Lane.LINKS)
    assert [(bar.x, bar.width) for bar in links] == [
        pytest.approx((0.0, 1.5 * scale)),
        pytest.approx((12.5 * scale, scale)),
    ]
    (copy,) = bars(forward, FORWARD, Lane.COPIES)
    assert (copy.x, copy.width) == pytest.approx((0.0, 0.5 * scale))
    assert [label for _, label in drawn[0].ticks] == ["0", "2", "4", "6", "8", "10", "12"]
    assert [place for place, _ in drawn[0].ticks] == pytest.approx([2 * number * scale for number in range(7)])


def test_the_loop_over_layers_is_found_within_that_over_parts_of_a_batch():
    inner = plan_by_hand().timeline
    outer = timeline([Repeat("parts", inner, 4), Task("adam", "update", OTHER, 0.1)])
    assert layer_drawings(outer) == layer_drawings(inner)


def test_a_loop_within_a_layer_is_drawn_as_one():
    chunk = timeline([Task("chunk", FORWARD, PRODUCT, 1e-3)])
    body = timeline([Task("first", FORWARD, PRODUCT, 5e-3), Repeat("while.7", chunk, 3)])
    first, loop = bars(timeline([Repeat("layers", body, 2)]), FORWARD, Lane.COMPUTE)
    assert (loop.x, loop.width) == pytest.approx((5 / 8 * WIDTH, 3 / 8 * WIDTH))
    assert loop.title == "a loop, 3.0 ms: while.7, 3 times" and first.look != loop.look


def of_slivers(number: int, seconds: float) -> Timeline:
    """So many short tasks of two kinds in turn, and a long one behind them."""
    short = [Task(f"t{index}", FORWARD, (OTHER, PRODUCT)[index % 2], seconds) for index in range(number)]
    return timeline([Repeat("w", timeline([*short, Task("long", FORWARD, PRODUCT, 1.0)]), 2)])


def test_slivers_are_drawn_together_until_they_can_be_seen():
    """9,000 tasks of a hundredth of a pixel: 90 pixels, of which none has more than three bars."""
    pixel = 1.0 / (WIDTH - 90)
    drawn = bars(of_slivers(9000, pixel / 100), FORWARD, Lane.COMPUTE)
    assert 90 < len(drawn) <= 3 * 90 + 1
    assert all(bar.width >= 1 / 3 - 1e-6 for bar in drawn)
    assert sum(bar.width for bar in drawn) == pytest.approx(WIDTH, rel=0.01)
    counted = sum(int(bar.title.split()[0]) for bar in drawn[:-1])
    assert counted == 9000
    assert re.fullmatch(r"\d+ instructions: (products|other) \S+ µs, (products|other) \S+ µs", drawn[0].title)


def test_what_is_wide_enough_is_drawn_by_itself():
    pixel = 1.0 / (WIDTH - 90)
    assert len(bars(of_slivers(180, pixel / 2), FORWARD, Lane.COMPUTE)) == 181


def test_slivers_that_lie_apart_are_not_joined():
    body = [
        Task("a", FORWARD, PRODUCT, 1.0),
        Task("x", FORWARD, "copies", 1e-6, Lane.COPIES, starts=True),
        Task("b", FORWARD, PRODUCT, 1.0),
        Task("y", FORWARD, "copies", 1e-6, Lane.COPIES, starts=True),
        Task("c", FORWARD, PRODUCT, 1.0),
    ]
    first, second = bars(timeline([Repeat("w", timeline(body), 2)]), FORWARD, Lane.COPIES)
    assert (first.x, second.x) == pytest.approx((WIDTH / 3, 2 * WIDTH / 3), abs=0.01)


def test_kinds_of_one_lane_differ_in_colour_and_hatch():
    """Waiting alone has the colour of the page; the rest of the colours are Wong's, and grey."""
    lanes = LOOKS[:6], LOOKS[6:11], LOOKS[11:]
    for looks in lanes:
        assert len(set(looks)) == len(looks)
        assert len({colour for colour, _ in looks}) == len(looks)


def test_kinds_that_are_not_known_get_looks_that_are_free():
    body = timeline([Task(kind, FORWARD, kind, 1.0) for kind in (PRODUCT, "norms", "casts")])
    (drawn,) = layer_drawings(timeline([Repeat("w", body, 2)]))
    assert [kind for kind, _ in drawn.looks] == [PRODUCT, "norms", "casts"]
    assert len({look for _, look in drawn.looks}) == 3


def test_compute_waits_only_for_what_is_left_of_a_transfer():
    """3 ms on the links, 1 ms of them beside compute."""
    gather = Task("gather", FORWARD, "all-gather", 3e-3, Lane.LINKS, starts=True)
    body = timeline([gather, Task("a", FORWARD, PRODUCT, 1e-3), Wait("gather"), Task("b", FORWARD, PRODUCT, 1e-3)])
    first, waiting, last = bars(timeline([Repeat("w", body, 2)]), FORWARD, Lane.COMPUTE)
    assert (first.width, waiting.x, waiting.width) == pytest.approx((WIDTH / 4, WIDTH / 4, WIDTH / 2))
    assert last.x == pytest.approx(3 * WIDTH / 4)
    assert waiting.title == "waiting, 2.0 ms: for all-gather gather"


def test_slivers_look_like_the_kind_that_takes_most_of_them():
    short = [Task("a", FORWARD, OTHER, 1e-6), Task("b", FORWARD, PRODUCT, 2e-6), Task("c", FORWARD, OTHER, 1.5e-6)]
    body = timeline([*short, Task("long", FORWARD, PRODUCT, 1.0)])
    together, long = bars(timeline([Repeat("w", body, 2)]), FORWARD, Lane.COMPUTE)
    assert together.title == "3 instructions: other 2.5 µs, products 2 µs"
    assert together.look != long.look


def test_the_loop_over_layers_is_the_one_that_takes_longest_in_all():
    often, once = (timeline([Task(name, FORWARD, PRODUCT, seconds)]) for name, seconds in (("o", 1e-3), ("s", 2e-3)))
    (drawn,) = layer_drawings(timeline([Repeat("once", once, 2), Repeat("often", often, 40)]))
    assert drawn.times == 40
