"""What perf/on_tpu.py measured of a step on a TPU, and how far the plan is from it."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Mapping
from typing import Any

from sc2jax.errors import UserError
from sc2jax.json_files import Count, read_json
from sc2jax.parallel.chips import GIB, chip_of
from sc2jax.plan.compilation import PlannedStep
from sc2jax.plan.slices import Slice


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        step: the digest of the step that was run (`step_digest`).
        device_kind: what JAX calls the devices.
        devices: how many there were.
        step_seconds: of each step that was timed.
        peak_bytes: that a device has held.
        feed_wait: the share of the time in which the step waited for the feed; -1 where no feed was there.
        kernels: the largest difference of each kernel's results to the reference, relative to their largest value.
        versions: of jax, libtpu and sc2jax.
    """

    step: str
    device_kind: str
    devices: Count
    step_seconds: list[float]
    peak_bytes: Count
    feed_wait: float
    kernels: dict[str, float]
    versions: dict[str, str]

    @property
    def seconds(self) -> float:
        """The median of the steps."""
        return statistics.median(self.step_seconds)


def step_digest(step: PlannedStep) -> str:
    """Names a step: whatever its program follows from."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(step), sort_keys=True).encode()).hexdigest()


def read_measured(path: str, step: PlannedStep, slice_: Slice) -> Measured:
    """What was measured of this step on this slice.

    Raises:
        UserError: the file is missing or damaged, or is of another step or other devices.
    """
    measured = read_json(path, Measured, "measure again with perf/on_tpu.py")
    if not measured.step_seconds or min(measured.step_seconds) <= 0:
        raise UserError(f"{path} holds no times of steps; measure again with perf/on_tpu.py")
    if measured.step != step_digest(step):
        raise UserError(
            f"{path} was measured with other settings of model, training or mesh than are planned; give both the same "
            "--config and overrides"
        )
    chip, devices = chip_of(measured.device_kind), slice_.devices * step.mesh.slices
    name = chip.name if chip else measured.device_kind
    if (name, measured.devices) != (slice_.chip.name, devices):
        raise UserError(
            f"the plan is for {devices:,} x {slice_.chip.name}, and {path} was measured on {measured.devices:,} x "
            f"{name}; name the slice that was measured in plan.slice"
        )
    return measured


def compared(measured: Measured, plan: Mapping[str, Any]) -> list[str]:
    """How far a plan, as `plan.json` has it, is from what was measured, in lines."""
    lines = [f"measured: {1000 * measured.seconds:.1f} ms a step"]
    lines += [
        f"estimated, {what}: {1000 * seconds:.1f} ms, {seconds / measured.seconds - 1:+.1%}"
        for what, seconds in (
            ("exposed", plan["seconds"]["exposed"]),
            ("overlapped", plan["seconds"]["overlapped"]),
            ("exposed, as chips were measured", plan["seconds_as_measured"]["exposed"]),
        )
    ]
    if measured.peak_bytes:
        there = measured.peak_bytes / GIB
        lines.append(f"peak memory: {there:.2f} GiB, planned {plan['hbm_gib']:.2f}, {plan['hbm_gib'] / there - 1:+.1%}")
    if measured.feed_wait >= 0:
        lines.append(f"waiting for the feed: {measured.feed_wait:.1%}")
    lines += [f"{kernel}: {error:.1e} from the reference" for kernel, error in sorted(measured.kernels.items())]
    return lines
