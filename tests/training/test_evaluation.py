"""Sums of losses by group on a mesh, beside a loop over all targets; tests/runs has whole models."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.evaluation import Evaluation, Group, HeldoutRows

GROUPS = (Group("a", "C"), Group("a", "Go"), Group("b", "C"), Group("b", ""))


@pytest.mark.parametrize("count", [1, 4, 11])
def test_sums_are_those_of_a_loop_over_all_targets(count):
    """What has no weight may be infinite; rows may fill no batch, one, or some and a part of another."""
    draw = np.random.default_rng(count)
    shape = (count, 6)
    features = {
        "losses": draw.random(shape).astype(np.float32),
        "weights": draw.choice([0.0, 0.5, 1.0], shape).astype(np.float32),
        "groups": draw.integers(0, len(GROUPS), shape).astype(np.int32),
    }
    features["losses"][features["weights"] == 0] = np.inf
    sizes = (10, 20, 30, 40)
    expected = np.zeros(len(GROUPS))
    for loss, weight, group in zip(*(values.ravel() for values in features.values()), strict=True):
        expected[group] += loss * weight if weight else 0.0

    mesh = create_mesh(MeshConfig(data=2, fsdp=2, sequence=2))
    everywhere = rules.replicated(mesh)
    seen: list[tuple[int, ...]] = []

    def losses(params, frozen, batch):
        seen.append(batch["losses"].shape)
        return batch["losses"] * params["factor"] + frozen["added"]

    evaluation = Evaluation(
        HeldoutRows(features, GROUPS, sizes), losses, mesh, {"factor": everywhere}, {"added": everywhere}
    )
    twice = {"factor": jax.device_put(jnp.full((1, 1), 2.0), everywhere)}
    found = evaluation(twice, {"added": jax.device_put(jnp.zeros((1, 1)), everywhere)})
    assert seen == [(4, 6)]  # a row for each part of the batch, compiled once
    bits = 2 * expected / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits.sum() / 100, rel=1e-6)
    assert found["by_source"] == pytest.approx({"a": bits[:2].sum() / 30, "b": bits[2:].sum() / 70}, rel=1e-6)
    assert found["by_language"] == pytest.approx({"C": bits[[0, 2]].sum() / 40, "Go": bits[1] / 20}, rel=1e-6)
