"""What is proposed for a step that does not fit: the least change of each kind, and whether it would do."""

import dataclasses
from typing import Any

import pytest
from plan_by_hand import planned_step

from sc2jax.parallel.chips import GIB
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import mesh_sizes
from sc2jax.plan.changes import changes_that_fit
from sc2jax.plan.compilation import PlannedStep, TooLarge
from sc2jax.plan.memory import estimated_bytes, offloaded_bytes
from sc2jax.plan.slices import find_slice
from sc2jax.plan.summary import refusal

V5P = find_slice("v5p-512")
EIGHT_ROWS = planned_step(rows=2048, mesh={"data": 2})


def bytes_of(step: PlannedStep, **axes: int) -> int:
    mesh = dataclasses.replace(step.mesh, **axes)
    return estimated_bytes(step, mesh_sizes(mesh, 256))


def too_large(step: PlannedStep, there: float, memory: str = "hbm") -> TooLarge:
    """As if the compiler found what is estimated."""
    return TooLarge(bytes_of(step), int(there), memory, step.model.num_layers)


def arguments_of(there: float, step: PlannedStep = EIGHT_ROWS, slice_: Any = V5P) -> list[str]:
    return [" ".join(change.arguments) for change in changes_that_fit(too_large(step, there), step, slice_)]


def with_(step: PlannedStep, section: str, **values: Any) -> PlannedStep:
    return dataclasses.replace(step, **{section: dataclasses.replace(getattr(step, section), **values)})


def test_each_change_is_the_least_of_its_kind_and_what_it_takes_is_told():
    halved, full = with_(EIGHT_ROWS, "training", accumulation=2), with_(EIGHT_ROWS, "model", rematerialization="full")
    found = changes_that_fit(too_large(EIGHT_ROWS, bytes_of(halved)), EIGHT_ROWS, V5P)
    assert [change.arguments for change in found][:2] == [
        ("--config.training.accumulation=2",),
        ("--config.model.rematerialization=full",),
    ]
    assert [change.needed for change in found][:2] == [bytes_of(halved), bytes_of(full)]
    assert found[0].reason == "4 rows of a device at a time"


def test_one_byte_less_asks_for_the_next_divisor_of_the_rows():
    halved, quartered = (with_(EIGHT_ROWS, "training", accumulation=parts) for parts in (2, 4))
    assert "--config.training.accumulation=4" in arguments_of(bytes_of(halved) - 1)
    assert "--config.training.accumulation=8" in arguments_of(bytes_of(quartered) - 1)


def test_only_divisors_of_a_device_s_rows_above_the_present_parts_are_tried():
    six = planned_step(rows=6 * 256, mesh={"data": 2}, accumulation=2)
    quarter = bytes_of(with_(six, "training", accumulation=3)) - 1
    assert "--config.training.accumulation=3" in arguments_of(quarter + 1, six)
    assert "--config.training.accumulation=6" in arguments_of(quarter, six)


def test_dots_come_before_full():
    none = with_(EIGHT_ROWS, "model", rematerialization="none")
    dots = bytes_of(EIGHT_ROWS)
    assert "--config.model.rematerialization=dots" in arguments_of(dots, none)
    assert "--config.model.rematerialization=full" in arguments_of(dots - 1, none)


def test_named_activations_are_named_no_more_where_all_is_computed_again():
    named = planned_step(rows=2048, mesh={"data": 2}, rematerialization="named", kept_activations=("mlp_up",))
    full = bytes_of(planned_step(rows=2048, mesh={"data": 2}, rematerialization="full"))
    assert "--config.model.rematerialization=full --config.model.kept_activations=" in arguments_of(full, named)


def test_copies_are_given_up_for_shards():
    copies = planned_step("7b", rows=256, mesh={"data": 32, "fsdp": 8}, rematerialization="full")
    one = bytes_of(copies, data=1, fsdp=256)
    assert "--config.mesh.data=1 --config.mesh.fsdp=256" in arguments_of(one, copies)
    assert "--config.mesh.data=1 --config.mesh.fsdp=256" not in arguments_of(one - 1, copies)


def test_where_no_change_does_alone_they_are_made_one_after_the_other():
    """As many parts as there are rows, then more computed again, then one copy."""
    least = with_(with_(EIGHT_ROWS, "training", accumulation=8), "model", rematerialization="full")
    together = "--config.training.accumulation=8 --config.model.rematerialization=full"
    assert arguments_of(bytes_of(least)) == [together]
    shards = "--config.mesh.data=1 --config.mesh.fsdp=256"
    one_copy = bytes_of(least, data=1, fsdp=256)
    assert one_copy >= bytes_of(least) or arguments_of(one_copy)[0] == f"{together} {shards}"


def test_the_next_larger_slice_on_which_it_fits_stands_last():
    """8 rows a chip of 256 are 4 of 512."""
    larger = estimated_bytes(EIGHT_ROWS, mesh_sizes(EIGHT_ROWS.mesh, 512))
    assert arguments_of(larger)[-1] == "--config.plan.slice=v5p-1024"
    fixed = dataclasses.replace(EIGHT_ROWS, mesh=MeshConfig(data=2, fsdp=128))
    assert arguments_of(larger, fixed)[-1] == "--config.plan.slice=v5p-1024 --config.mesh.fsdp=0"


def test_what_the_compiler_found_scales_what_is_estimated():
    halved = bytes_of(with_(EIGHT_ROWS, "training", accumulation=2))
    found = TooLarge(2 * bytes_of(EIGHT_ROWS), 2 * halved + 1, "hbm", 40)
    assert changes_that_fit(found, EIGHT_ROWS, V5P)[0].needed == pytest.approx(2 * halved, abs=2)


def test_the_host_s_memory_asks_for_fewer_rows_at_a_time_alone():
    offloaded = planned_step(
        rows=2048, mesh={"data": 2}, rematerialization="named", offloaded_activations=("mlp_up", "q")
    )
    needed = offloaded_bytes(offloaded, mesh_sizes(offloaded.mesh, 256))
    found = changes_that_fit(TooLarge(needed, needed // 2, "host", 40), offloaded, V5P)
    assert [change.arguments for change in found] == [
        ("--config.training.accumulation=2",),
        ("--config.plan.slice=v5p-1024",),
    ]
    assert found[0].needed == needed // 2


def test_the_refusal_names_what_is_too_much_and_the_changes():
    halved = bytes_of(with_(EIGHT_ROWS, "training", accumulation=2))
    message = refusal(TooLarge(bytes_of(EIGHT_ROWS), halved, "hbm", 40), EIGHT_ROWS, V5P)
    first, introduction, *changes = message.split("\n")
    needed, there = bytes_of(EIGHT_ROWS) / GIB, halved / GIB
    assert first == (
        f"the step does not fit v5p-512: it takes {needed:.2f} GiB of a device's memory, {needed - there:.2f} GiB more "
        f"than the {there:.2f} GiB that there are"
    )
    assert introduction.strip().startswith("by estimate it fits")
    assert changes[0].strip() == f"--config.training.accumulation=2  (4 rows of a device at a time: {there:.2f} GiB)"


def test_a_refusal_without_any_change_that_helps_says_so():
    message = refusal(too_large(EIGHT_ROWS, 1 << 20), EIGHT_ROWS, V5P)
    assert "nor a larger slice makes it fit" in message and "--config.mesh.tensor" in message
    assert "accumulation=" not in message


def test_of_few_layers_that_do_not_fit_it_is_said_that_they_are_few():
    few = dataclasses.replace(EIGHT_ROWS, model=dataclasses.replace(EIGHT_ROWS.model, num_layers=8))
    message = refusal(TooLarge(bytes_of(few), bytes_of(few) // 2, "hbm", 8), EIGHT_ROWS, V5P)
    assert message.startswith("the step of 8 layers does not fit v5p-512: it takes")
