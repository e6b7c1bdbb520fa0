"""Which ways of computing a step are tried, without a compiler."""

import dataclasses

import pytest
from plan_by_hand import plan_by_hand, planned_step, step_timeline

from sc2jax.config import default_config, to_settings
from sc2jax.config_values import override
from sc2jax.errors import UserError
from sc2jax.parallel.mesh import mesh_sizes
from sc2jax.plan import search as search_module
from sc2jax.plan.compilation import Memory
from sc2jax.plan.memory import estimated_bytes
from sc2jax.plan.search import Ranked, candidates, layer_seconds, pareto, promising, search
from sc2jax.plan.slices import find_slice
from sc2jax.plan.tasks import OTHER, UPDATE
from sc2jax.plan.timeline import Repeat, Task, timeline
from sc2jax.verbs.plan import planned_step as step_of_settings

V5P, V5E = find_slice("v5p-512"), find_slice("v5e-256")


@pytest.mark.parametrize(("size", "rows", "slice_"), [("15b", 1024, V5P), ("7b", 768, V5E), ("3b", 512, V5E)])
def test_candidates_fit_divide_and_are_no_narrow_shards(size, rows, slice_):
    step = planned_step(size, rows=rows)
    found = candidates(step, slice_)
    assert found
    for each in found:
        sizes = mesh_sizes(each.step.mesh, slice_.devices)
        shards = sizes["data"] * sizes["fsdp"]
        assert rows % (shards * each.step.training.accumulation) == 0
        assert step.model.embed_dim // sizes["fsdp"] % 16 == 0
        assert each.bytes == estimated_bytes(each.step, sizes) <= 0.92 * slice_.tpu.usable_memory_bytes
        assert sizes["tensor"] == 1
    assert [each.seconds for each in found] == sorted(each.seconds for each in found)
    assert len({each.arguments for each in found}) == len(found)


def test_copies_of_all_numbers_that_divide_a_slice_are_tried():
    found = candidates(planned_step("7b", rows=768), find_slice("v5p-384"))
    copies = {each.step.mesh.data for each in found}
    # Shards of 1 and 3 copies would have no multiple of 16 rows, and 192 copies do not fit.
    assert copies == {2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96}


def test_what_is_tried_changes_how_a_step_is_computed_and_nothing_else():
    step = planned_step("15b", rows=1024)
    for each in candidates(step, V5P):
        assert each.step.training == dataclasses.replace(step.training, accumulation=each.step.training.accumulation)
        kept = dataclasses.replace(each.step.model, rematerialization=step.model.rematerialization)
        assert kept == step.model


def test_the_arguments_of_a_candidate_bring_it_about():
    config = default_config()
    for key, value in {"model.vocab_size": 49152, "model.context_length": 4096}.items():
        override(config, key, str(value))
    step = step_of_settings(to_settings(config))
    for each in candidates(step, V5E)[:20]:
        changed = config.copy_and_resolve_references()
        for argument in each.arguments:
            key, _, value = argument.removeprefix("--config.").partition("=")
            override(changed, key, value)
        assert step_of_settings(to_settings(changed)) == each.step


def test_rows_are_shared_out_where_there_are_fewer_than_devices():
    found = candidates(planned_step("3b", rows=128, context_length=16384), V5E)
    assert found
    assert {each.step.mesh.sequence for each in found} >= {2}
    assert all(each.step.mesh.sequence > 1 for each in found)
    assert all(each.step.mesh.sequence == 1 for each in candidates(planned_step("3b", rows=512), V5E))


def test_no_rematerialization_takes_more_than_half_of_what_is_compiled_while_there_are_others():
    found = candidates(planned_step("7b", rows=768), find_slice("v5p-384"))
    policies = [each.step.model.rematerialization for each in found]
    chosen = promising(found)
    assert len(chosen) == 6
    assert policies[:6] == ["none"] * 6
    assert [each.step.model.rematerialization for each in chosen] == ["none"] * 3 + ["dots"] * 3
    assert chosen[:3] == found[:3]
    assert chosen[3] == found[policies.index("dots")]
    alone = [each for each in found if each.step.model.rematerialization == "full"]
    assert promising(alone) == alone[:6]
    assert promising(found[:2]) == found[:2]


def test_what_keeps_more_is_faster_where_it_fits():
    found = candidates(planned_step("15b", rows=1024), V5P)
    best = {}
    for each in found:
        best.setdefault(each.step.model.rematerialization, each.seconds)
    assert best["dots"] < best["full"]
    assert found[0].step.model.rematerialization != "full"


def test_nothing_that_fits_is_one_message():
    with pytest.raises(UserError, match=r"^by estimate no mesh .* fit v5e-4; name a larger slice"):
        search(planned_step("15b", rows=4), find_slice("v5e-4"), price=0, whole=True, cache="", tell=lambda _: None)


@pytest.mark.parametrize("rows", [1, 1000])
def test_a_batch_that_no_mesh_shares_out_is_not_said_to_be_too_large(rows):
    assert not candidates(planned_step("7b", rows=rows), V5P)
    with pytest.raises(UserError, match=rf"^no mesh of v5p-512 shares out training.batch_size {rows:,} equally over"):
        search(planned_step("7b", rows=rows), V5P, price=0, whole=True, cache="", tell=lambda _: None)


@pytest.fixture
def compiled(monkeypatch) -> list[tuple[int, int, bool]]:
    """What was compiled instead of steps: layers, layers in a turn, and whether whole; the plan is always the same."""
    found = []

    def make_plan(step, _slice, *, whole, **_):
        found.append((step.model.num_layers, step.model.scan_unroll, whole))
        return plan_by_hand(step=step)

    monkeypatch.setattr(search_module, "make_plan", make_plan)
    return found


@pytest.mark.parametrize("whole", [True, False])
def test_few_layers_are_compiled_in_turns_of_one_and_the_best_as_was_said(compiled, whole):
    step = planned_step("15b", rows=1024, scan_unroll=2)
    ranked = search(step, V5P, price=0, whole=whole, cache="", tell=lambda _: None)
    assert compiled == [(4, 1, True)] * 6 + [(40, 2, whole)] * 3
    assert [each.is_whole for each in ranked] == [True] * 3 + [False] * 3


def test_what_the_compiler_refuses_is_left_out_and_told(monkeypatch):
    refused, told = [], []

    def make_plan(step, _slice, **_):
        if not refused:
            refused.append(step)
            raise UserError("no route for a collective")
        return plan_by_hand(step=step)

    monkeypatch.setattr(search_module, "make_plan", make_plan)
    ranked = search(planned_step("15b", rows=1024), V5P, price=0, whole=True, cache="", tell=told.append)
    assert len(ranked) == 5
    assert "left out: no route for a collective" in told


def test_a_model_of_few_layers_is_compiled_once(compiled):
    ranked = search(planned_step("15b", rows=1024, num_layers=3), V5P, price=0, whole=True, cache="", tell=print)
    assert compiled == [(3, 1, True)] * 6
    assert all(each.is_whole for each in ranked)


def test_a_layer_is_a_turn_of_the_loops_over_layers():
    step = step_timeline()
    turns = [loop.body.seconds for loop, _ in step.loops if loop.body.busy]
    assert layer_seconds(step).exposed <= sum(turns)
    assert layer_seconds(step).exposed > 0


@pytest.mark.parametrize("parts", [2, 8])
def test_a_layer_takes_its_turns_in_each_part_of_a_batch(parts):
    """Whatever else a part has: the loss, and sums of gradients, which more layers do not repeat."""
    once = step_timeline()
    step = timeline([Repeat("while.0", once, parts), Task("adam", UPDATE, OTHER, 4e-3)])
    assert layer_seconds(step).exposed == pytest.approx(parts * layer_seconds(once).exposed)
    assert layer_seconds(step).exposed < step.seconds / 40


def ranked(seconds: float, memory: int, is_whole: bool = True) -> Ranked:
    plan = plan_by_hand()
    figures = dataclasses.replace(plan.figures, memory=Memory(memory, 0, 0))
    candidate = candidates(planned_step("3b", rows=512), V5E)[0]
    return Ranked(candidate, dataclasses.replace(plan, figures=figures), seconds, is_whole)


def test_the_list_has_no_way_that_another_one_beats():
    fast, small, beaten, few = ranked(1.0, 20), ranked(2.0, 10), ranked(2.0, 20), ranked(3.0, 30, is_whole=False)
    assert pareto([fast, small, beaten, few]) == [fast, small, few]
