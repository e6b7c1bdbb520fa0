"""The page of an ablation: what stands in it, in what form, and that it fetches and runs nothing."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from results_of_runs import result

from sc2jax.ablation.intervals import Interval
from sc2jax.ablation.page import Failed, difference, in_lines, points, render_page, with_interval

RUNS = [
    result("grouped", seed, bits_per_byte=2.2 + seed / 100, cache_bytes=2_000_000, infill_exact=0.02)
    for seed in range(3)
] + [
    result("multi_query", seed, "model.num_kv_heads=1", bits_per_byte=2.25 + seed / 100, cache_bytes=1_000_000)
    for seed in range(3)
]


class Page(HTMLParser):
    """The text of each table's cells, row by row, and every attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._in_cell = False
        self.feed(page.replace("\N{NO-BREAK SPACE}", " "))

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        assert tag not in ("script", "iframe", "object", "embed", "link", "img")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(
        render_page(
            "heads", "grouped", RUNS, [Failed("multi_query-seed7", "out of memory", "/w/logs/x.log")], "none", "1"
        )
    )


def test_means_stand_with_their_intervals_and_differences_with_their_signs(page):
    scores, differences, costs, runs = page.tables
    assert scores[0] == ["variant", "bits per byte", "lines filled exactly"]
    # Seeds 0.01 apart: 4.303 * 0.01 / sqrt(3).
    assert scores[1:] == [["grouped", "2.210 ± 0.025", "2.0 %"], ["multi_query", "2.260 ± 0.025", "–"]]
    assert [row[0] for row in differences[1:]] == ["multi_query"]
    assert differences[1][1].startswith("+0.050")
    assert costs[0] == ["variant", "parameters", "training FLOPs", "KV cache"]
    assert costs[2] == ["multi_query", "1,000", "1.00e+12", "1.0 MB"]
    assert runs[4][:3] == ["multi_query, seed 0", "model.num_kv_heads=1", "2.250"]


def test_runs_without_results_are_named_with_their_logs(page):
    assert "multi_query-seed7: out of memory /w/logs/x.log" in " ".join(page.text.split())


def test_the_page_is_named_and_counts(page):
    assert "Ablation: heads" in page.text
    assert "2 variants, 6 runs; seeds 0, 1, 2." in page.text
    assert "Difference to grouped" in page.text


def test_nothing_is_fetched_or_run(page):
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert str(value).startswith("#")
        assert not re.search(r"url\((?!#)", str(value))


def test_equal_runs_give_equal_bytes():
    assert render_page("h", "grouped", RUNS, [], "none", "1") == render_page("h", "grouped", RUNS, [], "none", "1")


def test_one_seed_has_no_intervals_and_says_so():
    page = Page(render_page("h", "a", [result("a", 5), result("b", 5, "k=1", bits_per_byte=1.5)], [], "none", "1"))
    assert "One seed: no intervals." in page.text
    assert page.tables[0][1] == ["a", "2.000"]
    assert page.tables[1][1] == ["b", "\N{MINUS SIGN}0.500"]


def test_a_mean_over_fewer_seeds_says_over_which():
    page = Page(render_page("h", "a", [result("a", 0), result("a", 1), result("b", 1)], [], "none", "1"))
    assert page.tables[0][2][0] == "b (seed 1 alone)"
    assert page.tables[0][1][0] == "a"


def test_other_tokenizers_are_compared_in_bits_a_byte():
    same, other = (
        render_page("h", "a", [result("a", 0), result("b", 0, "k=1", tokenizer=digest)], [], "none", "1")
        for digest in ("t", "u")
    )
    assert 'aria-label="training loss, nats a token over tokens trained on' in same
    assert 'aria-label="training loss, bits a byte over tokens trained on' in other


def test_the_curve_that_is_drawn_is_the_one_that_is_named():
    """Other losses a token change nothing where bits a byte are drawn, and the other way round."""
    for tokenizer, field, is_drawn in (
        ("t", "losses", True),
        ("t", "rates", False),
        ("u", "losses", False),
        ("u", "rates", True),
    ):
        runs = [result("a", 0), result("b", 0, tokenizer=tokenizer)]
        others = [dataclasses.replace(run, **{field: [9.0, 5.0, 1.0]}) for run in runs]
        assert (
            render_page("h", "a", runs, [], "none", "1") != render_page("h", "a", others, [], "none", "1")
        ) is is_drawn


def test_a_reference_without_results_is_said_to_have_none():
    page = Page(
        render_page("h", "c", [result("a", 0), result("b", 0, "k=1")], [Failed("c-seed0", "no", "")], "none", "1")
    )
    assert "Difference to c\nNone: c has no results." in page.text
    assert [row[0] for table in page.tables for row in table] == [
        *["variant", "a", "b"] * 2,
        "run",
        "a, seed 0",
        "b, seed 0",
    ]


def test_hostile_names_are_text():
    page = Page(
        render_page(
            "<script>alert(1)</script>",
            "a",
            [result("a", 0, "k=<img src=x onerror=alert(1)>")],
            [Failed("<b>", "</ul><script>x</script>\x1b[2J", "")],
            "none",
            "1",
        )
    )
    assert "<script>alert(1)</script>" in page.text
    assert "␛[2J" in page.text


def test_isoflop_shows_what_was_fitted():
    runs = [
        result(f"{flops:.0e}-{size}", 0, training_flops=flops, parameters=size * factor, bits_per_byte=loss)
        for flops, factor in ((1e12, 1), (4e12, 2))
        for size, loss in ((1e5, 2.4), (2e5, 2.1), (4e5, 2.0), (8e5, 2.1), (16e5, 2.4))
    ]
    page = Page(render_page("scaling", "a", runs, [], "isoflop", "1"))
    (fit,) = [table for table in page.tables if table[0][0] == "FLOPs"]
    assert [row[:3] for row in fit[1:]] == [["1.00e+12", "5", "400,000"], ["4.00e+12", "5", "800,000"]]
    assert "FLOPs0.500" in page.text  # a size twice as large for four times the FLOPs
    assert "Difference to" not in page.text


def test_a_fit_without_best_sizes_says_why():
    runs = [result(str(size), 0, parameters=size, bits_per_byte=loss) for size, loss in ((1, 2.0), (2, 1.9), (3, 1.8))]
    page = Page(render_page("scaling", "a", runs, [], "isoflop", "1"))
    assert "none: fewer than 4 sizes" in page.text
    assert "No power law" in page.text


def test_points_are_the_runs_that_were_scored():
    found = points([result("a", 0, bits_per_byte=1.5, parameters=7.0, training_flops=3.0)])
    assert [(point.flops, point.parameters, point.loss) for point in found] == [(3.0, 7.0, 1.5)]
    assert points([result("a", 0, bits_per_byte=float("nan"))]) == []


@pytest.mark.parametrize(
    ("interval", "form", "mean", "compared"),
    [
        (Interval(2.5), "figure", "2.500", "+2.500"),
        (Interval(2.5, 2.4, 2.6), "figure", "2.500 ± 0.100", "+2.500 ± 0.100"),
        (Interval(3.0, 3.0, 3.0), "count", "3", "+3 ± 0"),
        (Interval(-0.02, -0.03, -0.01), "percent", "-2.0 % ± 1.0 %", "\N{MINUS SIGN}2.0 % ± 1.0 %"),
        (Interval(0.0), "figure", "0.000", "0.000"),
        (Interval(-0.0004, -0.02, 0.02), "figure", "-0.000 ± 0.020", "0.000 ± 0.020"),
        (Interval(-0.0006, -0.02, 0.02), "figure", "-0.001 ± 0.020", "\N{MINUS SIGN}0.001 ± 0.020"),
    ],
)
def test_the_forms_of_figures(interval, form, mean, compared):
    assert with_interval(interval, form).replace("\N{NO-BREAK SPACE}", " ") == mean
    assert difference(interval, form).replace("\N{NO-BREAK SPACE}", " ") == compared


def test_the_terminal_gets_a_line_a_variant():
    first, second = (line.replace("\N{NO-BREAK SPACE}", " ") for line in in_lines(RUNS, "grouped"))
    assert first == "grouped: bits per byte 2.210 ± 0.025, lines filled exactly 2.0 %"
    assert second.startswith("multi_query: bits per byte 2.260 ± 0.025 (+0.050")
