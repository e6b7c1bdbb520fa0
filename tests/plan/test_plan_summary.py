"""A plan in a terminal: the answer first, then figures that stand under each other."""

import dataclasses
from typing import Any

import pytest
from plan_by_hand import plan_by_hand, planned_step

from sc2jax.parallel.chips import GIB
from sc2jax.plan import tables
from sc2jax.plan.compilation import Memory
from sc2jax.plan.estimate import StepTime
from sc2jax.plan.planning import Plan
from sc2jax.plan.summary import summary

NARROW = 94
"""Columns that are left of a hundred by what the terminal writes before each line."""


def lines_of(**changes: Any) -> list[str]:
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in summary(plan_by_hand(**changes))]


def with_figures(**changes: Any) -> Plan:
    return plan_by_hand(figures=dataclasses.replace(plan_by_hand().figures, **changes))


def row(table: tables.Table, name: str) -> list[str]:
    (cells,) = [cells for first, *cells in table.rows if first == name]
    return [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells]


def test_the_answer_comes_first():
    """34.2 of 95.74 GiB; 1,624 ms a step, a million of which are 18.8 days; 256 chips for so long, at 4.20 an hour."""
    assert lines_of()[:8] == [
        "15.96 billion parameters on v5p-512",
        "256 chips of TPU v5p (4 x 8 x 8), mesh data 2 x fsdp 128",
        "2 rows of 4,096 tokens a device, rematerialization dots",
        "fits         34.20 GiB of 95.74 GiB a device (35.7 %), 61.54 GiB left",
        "step         1,624 ms as scheduled, 1,544 ms if all overlaps that can",
        "utilisation  70.0 % as scheduled, 73.6 % if all overlaps that can; at measured speed 63.2 %",
        "training     18.8 days, 115,484 chip-hours, cost 485,035 at 4.20 a chip-hour",
        "",
    ]


def test_no_price_no_cost():
    run = dataclasses.replace(plan_by_hand().run, cost=0.0)
    assert not any("cost" in line for line in lines_of(run=run))


def test_a_close_fit_is_said_to_be_one():
    close = with_figures(memory=Memory(round(1.4 * GIB), round(88 * GIB), 0))
    assert "fits" in summary(close)[3] and "above the 92\N{NO-BREAK SPACE}% that are comfortable" in summary(close)[3]
    roomy = with_figures(memory=Memory(round(1.4 * GIB), round(86 * GIB), 0))
    assert "comfortable" not in summary(roomy)[3]


def test_what_does_not_fit_says_by_how_much_and_what_would():
    found = summary(with_figures(memory=Memory(round(1.4 * GIB), round(100 * GIB), 0)))
    assert found[3].startswith("does not fit  101.40 GiB of 95.74 GiB")
    assert found[3].endswith("5.66 GiB too much")
    assert any("--config.training.accumulation=2" in line for line in found[7:11])
    assert not any("--config" in line for line in lines_of())


def test_figures_stand_under_each_other():
    found = lines_of()
    for table in tables.tables(plan_by_hand()):
        start = found.index(table.title)
        rows = [line for line in found[start + 1 : start + 2 + len(table.rows)] if line.split()[-1] != "if"]
        ends = {len(line) for line in rows}
        assert len(ends) == 1, rows
        for cells, line in zip(table.rows, rows[1:], strict=True):
            assert line.split() == " ".join(cells).split()


@pytest.mark.parametrize("factor", [1, 100])
def test_lines_fit_a_terminal(factor):
    figures = plan_by_hand().figures
    time = StepTime(*(factor * seconds for seconds in dataclasses.astuple(figures.time)))
    parts = {part: {k: factor * s for k, s in kinds.items()} for part, kinds in figures.parts.items()}
    long = {"waiting for copies between memories": 0.5}
    found = summary(with_figures(time=time, parts=parts | {"backward": parts["backward"] | long}))
    assert max(map(len, found)) <= NARROW


def test_the_time_of_a_step_is_summed_over_parts_and_kinds():
    table = tables.times(plan_by_hand())
    assert table.columns[1:] == ("forward", "loss", "backward", "update", "step", "share")
    assert [cells[0] for cells in table.rows] == [
        "products", "attention", "other", "waiting for reduce-scatter", "all", "if all overlaps that can",
    ]  # fmt: skip
    assert row(table, "products") == ["400", "40", "800", "–", "1,240", "76.4 %"]
    assert row(table, "waiting for reduce-scatter") == ["40", "–", "40", "–", "80", "4.9 %"]
    assert row(table, "other") == ["20", "–", "40", "4.0", "64", "3.9 %"]
    assert row(table, "all") == ["540", "40", "1,040", "4.0", "1,624", "100.0 %"]
    assert row(table, "if all overlaps that can")[-2:] == ["1,544", "95.1 %"]


def test_a_part_of_another_name_is_told_after_those_that_are_known():
    parts = {"something": {"products": 0.5}, **plan_by_hand().figures.parts}
    assert tables.times(with_figures(parts=parts)).columns[1:6] == (
        "forward", "loss", "backward", "update", "something",
    )  # fmt: skip


def test_collectives_are_told_with_what_they_send_and_what_of_it_is_waited_for():
    table = tables.collectives(plan_by_hand())
    assert [cells[0] for cells in table.rows] == [
        "forward, all-gather", "forward, reduce-scatter", "backward, reduce-scatter",
    ]  # fmt: skip
    assert row(table, "forward, all-gather") == ["240", "30.72", "60", "0", "all"]
    assert row(table, "forward, reduce-scatter") == ["40", "2.50", "40", "40", "none"]
    assert row(table, "backward, reduce-scatter") == ["80", "5.00", "80", "40", "30 of them"]


def test_one_device_exchanges_nothing():
    assert not any("Collectives" in line for line in summary(with_figures(exchanged={})))


def test_memory_is_told_in_its_parts_and_that_of_the_host_where_there_is_any():
    table = tables.memory(plan_by_hand())
    assert [cells[1] for cells in table.rows] == ["1.40 GiB", "32.80 GiB", "34.20 GiB", "95.74 GiB"]
    host = tables.memory(with_figures(memory=Memory(GIB, GIB, 30 * GIB)))
    assert row(host, "memory of the host, beside") == ["30.00 GiB", "–"]
    assert row(host, "peak")[0] == "2.00 GiB"


def test_utilisation_is_told_in_each_way_of_counting():
    table = tables.utilisations(plan_by_hand())
    assert [row(table, cells[0]) for cells in table.rows] == [
        ["73.6 %", "70.0 %"], ["66.9 %", "63.2 %"], ["77.0 %", "73.3 %"],
    ]  # fmt: skip


def test_what_is_computed_again_is_told_as_a_multiple():
    rows = tables.arithmetic(plan_by_hand()).rows
    assert rows == (("of the model", "521.8", "1.000"), ("of what is computed", "652.2", "1.250"))


def test_the_whole_training_is_told():
    """512 rows of 4096 tokens every 1.624 s."""
    table = tables.training(plan_by_hand())
    assert row(table, "tokens a step") == ["2,097,152"]
    assert row(table, "tokens") == ["2,097.2 billion"]
    assert row(table, "tokens a day") == [f"{512 * 4096 * 86400 / 1.624 / 1e9:.2f} billion"]
    assert row(table, "cost") == ["485,035 at 4.20 a chip-hour"]


def test_layers_that_were_not_compiled_are_said_not_to_have_been():
    assert row(tables.compilation(plan_by_hand()), "layers compiled") == ["all 40"]
    told = row(tables.compilation(plan_by_hand(compiled_layers=(4, 8))), "layers compiled")
    assert told == ["4 and 8 of 40, the others as those by which these differ"]


def test_what_is_planned_is_told_with_its_slices_adapters_and_parts():
    step = planned_step("3b", rows=1024, mesh={"slices": 2}, rank=16, accumulation=2, rematerialization="full")
    plan = plan_by_hand(step=step, devices=512, mesh={"slices": 2, "data": 1, "fsdp": 256, "sequence": 1, "tensor": 1})
    assert tables.headline(plan) == (
        "23.8 million parameters trained beside 3.03 billion frozen ones on 2 slices of v5p-512"
    )
    assert tables.layout(plan) == (
        "512 chips of TPU v5p (4 x 8 x 8), mesh slices 2 x fsdp 256",
        "2 rows of 4,096 tokens a device in 2 parts, rematerialization full",
    )
    quarter = plan_by_hand(step=planned_step(rows=64), mesh={"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1})
    assert tables.layout(quarter)[0].endswith("mesh one device")
    assert tables.layout(quarter)[1].startswith("0.25 rows of")
    assert tables.layout(plan_by_hand(step=planned_step(rows=256)))[1].startswith("1 row of")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0 µs"),
        (2.5e-6, "2.5 µs"),
        (9.994e-4, "999 µs"),
        (1e-3, "1.0 ms"),
        (9.94e-3, "9.9 ms"),
        (0.01, "10 ms"),
        (9.9996, "10,000 ms"),
        (10.0, "10 s"),
        (4321.0, "4,321 s"),
    ],
)
def test_times_are_told_in_the_unit_of_their_size(seconds, told):
    assert tables.duration(seconds) == told


@pytest.mark.parametrize(("days", "told"), [(0.5, "12.0 hours"), (1.999, "48.0 hours"), (2.0, "2.0 days")])
def test_long_times_are_told_in_hours_or_days(days, told):
    assert tables.long_duration(days) == told


def test_a_time_too_short_for_its_column_is_told_to_be_short():
    parts = {"forward": {"products": 1.0, "other": 4e-5}}
    assert row(tables.times(with_figures(parts=parts)), "other")[0] == "<0.1"
