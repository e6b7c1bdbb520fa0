"""What was measured of a step, beside its plan."""

import dataclasses
import json

import pytest
from plan_by_hand import plan_by_hand, planned_step

from sc2jax.errors import UserError
from sc2jax.plan.measured import Measured, compared, read_measured, step_digest
from sc2jax.plan.planning import plan_json
from sc2jax.plan.slices import find_slice

STEP, V5P = planned_step("15b"), find_slice("v5p-512")
FOUND = Measured(
    step=step_digest(STEP),
    device_kind="TPU v5",
    devices=256,
    step_seconds=[1.8, 2.0, 1.6, 9.0],
    peak_bytes=2**35,
    feed_wait=0.015,
    kernels={"window attention, forward": 0.004},
    versions={"jax": "0.10.2"},
)


def written(tmp_path, **changes) -> str:
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(FOUND, **changes))))
    return str(path)


def test_the_median_is_compared_with_every_time_of_the_plan(tmp_path):
    plan = plan_by_hand()
    lines = compared(read_measured(written(tmp_path), STEP, V5P), plan_json(plan))
    assert lines[0] == "measured: 1900.0 ms a step"
    exposed = plan.figures.time.exposed
    assert f"estimated, exposed: {1000 * exposed:.1f} ms, {exposed / 1.9 - 1:+.1%}" in lines
    assert "peak memory: 32.00 GiB, planned 34.20, +6.9%" in lines
    assert "waiting for the feed: 1.5%" in lines
    assert "window attention, forward: 4.0e-03 from the reference" in lines


def test_an_odd_number_of_steps_has_a_middle():
    assert dataclasses.replace(FOUND, step_seconds=[3.0, 1.0, 2.0]).seconds == 2.0


def test_what_was_not_measured_is_not_told(tmp_path):
    lines = compared(
        read_measured(written(tmp_path, peak_bytes=0, feed_wait=-1.0, kernels={}), STEP, V5P), plan_json(plan_by_hand())
    )
    assert not [line for line in lines if "memory" in line or "feed" in line or "reference" in line]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_seconds": []}, "holds no times of steps"),
        ({"step_seconds": [0.0]}, "holds no times of steps"),
        ({"step": "0" * 64}, "was measured with other settings of model, training or mesh"),
    ],
)
def test_a_file_of_something_else_is_one_message(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_measured(written(tmp_path, **changes), STEP, V5P)


def test_a_damaged_file_is_one_message(tmp_path):
    path = tmp_path / "measured.json"
    path.write_text('{"step": 3}')
    with pytest.raises(UserError, match=r"measured\.json .*measure again"):
        read_measured(str(path), STEP, V5P)


@pytest.mark.parametrize("changes", [{"device_kind": "TPU v5 lite"}, {"devices": 128}, {"device_kind": "cpu"}])
def test_other_devices_than_were_planned_for_are_refused(tmp_path, changes):
    with pytest.raises(UserError, match=r"the plan is for 256 x TPU v5p, and .*measured\.json was measured on"):
        read_measured(written(tmp_path, **changes), STEP, V5P)


def test_the_devices_of_all_slices_count(tmp_path):
    two = dataclasses.replace(STEP, mesh=dataclasses.replace(STEP.mesh, slices=2))
    path = written(tmp_path, step=step_digest(two), devices=512)
    assert read_measured(path, two, V5P).devices == 512


def test_every_setting_names_another_step():
    others = [planned_step("7b"), planned_step("15b", rows=1024), planned_step("15b", mesh={"data": 2, "fsdp": 128})]
    assert len({step_digest(step) for step in (STEP, *others)}) == 4
