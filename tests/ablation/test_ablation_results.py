"""What becomes of the runs' figures: means, differences to the first variant, and a table for other programs."""

import csv
import io
import statistics

import pytest
from results_of_runs import result

from sc2jax.ablation.results import COLUMNS, results_csv, summaries

RUNS = [
    result("a", 0, bits_per_byte=2.0, infill_exact=0.02),
    result("a", 1, bits_per_byte=2.2, infill_exact=0.04),
    result("b", 1, "k=1", bits_per_byte=2.5),
    result("b", 2, "k=1", bits_per_byte=9.0),
    result("b", 0, "k=1", bits_per_byte=2.4),
]


def test_variants_are_summed_up_in_their_order():
    first, second = summaries(RUNS, "a")
    assert (first.label, first.seeds, first.overrides) == ("a", (0, 1), "")
    assert (second.label, second.seeds, second.overrides) == ("b", (1, 2, 0), "k=1")
    assert first.means["bits_per_byte"].mean == pytest.approx(2.1)
    assert second.means["bits_per_byte"].mean == pytest.approx(statistics.fmean([2.5, 9.0, 2.4]))
    assert second.means["parameters"].half == 0


def test_only_seeds_in_common_are_compared_and_the_first_with_nothing():
    first, second = summaries(RUNS, "a")
    assert first.differences == {}
    assert second.differences["bits_per_byte"].mean == pytest.approx((0.3 + 0.4) / 2)  # not the run of seed 2


def test_nothing_takes_the_place_of_a_reference_without_results():
    assert [one.differences for one in summaries(RUNS, "c")] == [{}, {}]
    first, second = summaries(RUNS, "b")
    assert first.differences["bits_per_byte"].mean == pytest.approx(-(0.3 + 0.4) / 2)
    assert second.differences == {}


def test_what_was_not_measured_is_left_out():
    _, second = summaries(RUNS, "a")
    assert "infill_exact" not in second.means
    assert "infill_exact" not in second.differences
    assert summaries([], "a") == []


def test_the_table_for_other_programs_has_a_line_a_run():
    rows = list(csv.DictReader(io.StringIO(results_csv([*RUNS, result('c,"d\n', 3, "x='1, 2'")]))))
    assert [(row["label"], row["seed"]) for row in rows[:2]] == [("a", "0"), ("a", "1")]
    assert (rows[-1]["label"], rows[-1]["overrides"]) == ('c,"d\n', "x='1, 2'")
    assert float(rows[1]["bits_per_byte"]) == 2.2
    assert rows[2]["infill_exact"] == ""
    assert list(rows[0]) == ["label", "seed", "overrides", *(column.name for column in COLUMNS)]
