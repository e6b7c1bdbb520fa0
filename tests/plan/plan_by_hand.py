"""A plan without a compiler: 15B's base stage on 256 chips of v5p, with round figures for what a program would say."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.parallel.chips import GIB
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import mesh_sizes
from sc2jax.plan.compilation import Memory, PlannedStep
from sc2jax.plan.estimate import StepTime, Utilisation, whole_run
from sc2jax.plan.figures import Exchanged, Figures
from sc2jax.plan.planning import Plan, Utilisations
from sc2jax.plan.slices import find_slice
from sc2jax.plan.tasks import ATTENTION, BACKWARD, COPY, FORWARD, LOSS, OTHER, PRODUCT, UPDATE
from sc2jax.plan.timeline import Lane, Repeat, Task, Timeline, Wait, timeline
from sc2jax.training.config import TrainingConfig

MODELS: Mapping[str, Mapping[str, Any]] = {
    "3b": {"embed_dim": 3072, "num_layers": 30, "num_heads": 24, "num_kv_heads": 2},
    "7b": {"embed_dim": 4608, "num_layers": 32, "num_heads": 36, "num_kv_heads": 4},
    "15b": {"embed_dim": 6144, "num_layers": 40, "num_heads": 48, "num_kv_heads": 4, "tie_embeddings": False},
}
"""The widths of the released models."""


def planned_step(
    size: str = "15b",
    rows: int = 512,
    mesh: Mapping[str, int] | None = None,
    rank: int = 0,
    accumulation: int = 1,
    **model: Any,
) -> PlannedStep:
    """A step of a released size at context 4096; `rows` are of the whole batch, `model` are other settings of it."""
    shape: dict[str, Any] = {
        "vocab_size": 49152,
        "context_length": 4096,
        "rematerialization": "dots",
        **MODELS[size],
        **model,
    }
    training = TrainingConfig(steps=1_000_000, warmup_tokens=0, batch_size=rows, accumulation=accumulation)
    return PlannedStep(ModelConfig(**shape), AdapterConfig(rank=rank), training, MeshConfig(**(mesh or {})), 0)


def layer(part: str, work: float) -> Timeline:
    """A layer of one product, attention, an all-gather beside them, a reduction that is waited for, and a copy."""
    return timeline(
        [
            Task(f"{part}-gather", part, "all-gather", 1.5e-3 * work, Lane.LINKS, starts=True),
            Task(f"{part}-copy", part, COPY, 0.5e-3, Lane.COPIES, starts=True),
            Task(f"{part}-product", part, PRODUCT, 10e-3 * work),
            Wait(f"{part}-gather"),
            Task(f"{part}-attention", part, ATTENTION, 2e-3 * work),
            Task(f"{part}-norm", part, OTHER, 0.5e-3 * work),
            Task(f"{part}-reduce", part, "reduce-scatter", 1e-3, Lane.LINKS),
        ]
    )


def step_timeline() -> Timeline:
    """40 layers forward, the loss in 4 chunks, 40 layers backward, and the update."""
    return timeline(
        [
            Repeat("while.1", layer(FORWARD, 1.0), 40),
            Repeat("while.2", timeline([Task("logits", LOSS, PRODUCT, 10e-3)]), 4),
            Repeat("while.3", layer(BACKWARD, 2.0), 40),
            Task("adam", UPDATE, OTHER, 4e-3),
        ]
    )


def plan_by_hand(**changes: Any) -> Plan:
    """The plan, with other values for some of its fields."""
    slice_ = find_slice("v5p-512")
    step = planned_step(mesh={"data": 2})
    time = StepTime(compute=1.544, overlapped=1.544, exposed=1.624)
    peak = 459e12
    flops = 0.7 * 1.624 * peak
    plan = Plan(
        step=step,
        slice=slice_,
        devices=256,
        compiled_layers=(40,),
        compile_seconds=230.4,
        mesh=mesh_sizes(step.mesh, 256),
        figures=Figures(
            memory=Memory(round(1.4 * GIB), round(32.8 * GIB), 0),
            time=time,
            measured=StepTime(compute=1.7, overlapped=1.7, exposed=1.8),
            computed_flops=1.25 * flops,
            parts={
                FORWARD: {PRODUCT: 0.4, ATTENTION: 0.08, OTHER: 0.02, "waiting for reduce-scatter": 0.04},
                LOSS: {PRODUCT: 0.04},
                BACKWARD: {PRODUCT: 0.8, ATTENTION: 0.16, OTHER: 0.04, "waiting for reduce-scatter": 0.04},
                UPDATE: {OTHER: 0.004},
            },
            exchanged={
                FORWARD: {
                    "reduce-scatter": Exchanged(count=40, bytes=2.5e9, seconds=0.04, waited=0.04, asynchronous=0),
                    "all-gather": Exchanged(count=240, bytes=30.72e9, seconds=0.06, waited=0.0, asynchronous=240),
                },
                BACKWARD: {
                    "reduce-scatter": Exchanged(count=80, bytes=5e9, seconds=0.08, waited=0.04, asynchronous=30),
                },
            },
        ),
        model_flops=flops,
        utilisations=Utilisations(Utilisation(0.736, 0.7), Utilisation(0.669, 0.632), Utilisation(0.77, 0.733)),
        run=whole_run(1_000_000, 512 * 4096, 1.624, 256, 4.2),
        timeline=step_timeline(),
    )
    return dataclasses.replace(plan, **changes)
