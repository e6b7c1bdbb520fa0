"""What a run trains, and what its devices could do."""

import dataclasses

import jax
import pytest

from sc2jax.config import Settings
from sc2jax.model.config import AdapterConfig, ModelConfig
from sc2jax.parallel.chips import Chip
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.runs import objective
from sc2jax.runs.run import Run
from sc2jax.training.utilisation import flops_per_token

MODEL = ModelConfig(vocab_size=64, context_length=32, embed_dim=16, num_layers=2, num_heads=2, num_kv_heads=1, window=8)


@pytest.fixture
def mesh():
    return create_mesh(MeshConfig(fsdp=4), jax.devices()[:4])


def of(**changes) -> Run:
    adapters = AdapterConfig(rank=changes.pop("rank", 0))
    return Run(Settings(model=dataclasses.replace(MODEL, **changes), adapters=adapters), "")


@pytest.mark.parametrize("rank", [0, 4])
def test_utilisation_is_of_all_devices_of_a_known_chip(mesh, monkeypatch, rank):
    run = of(rank=rank)
    assert objective.training_utilisation(run, mesh).of(100, 1.0) is None  # a CPU
    monkeypatch.setattr(objective, "chip_of", lambda _: Chip("a chip", 1e6, 1, 1.0))
    adapters = objective.trained_table(run.settings.model, run.settings.adapters) if rank else ()
    flops = flops_per_token(run.settings.model, 32, adapters)
    assert objective.training_utilisation(run, mesh).of(10, 1.0) == pytest.approx(10 * flops / 4e6)


@pytest.mark.parametrize(
    ("dtype", "has_bfloat16", "is_said"),
    [("bfloat16", False, True), ("bfloat16", True, False), ("float16", False, False)],
)
def test_a_chip_without_bfloat16_is_named(mesh, monkeypatch, capsys, dtype, has_bfloat16, is_said):
    monkeypatch.setattr(objective, "chip_of", lambda _: Chip("T4", 1e6, 1, 1.0, has_bfloat16=has_bfloat16))
    found = objective.training_objective(of(compute_dtype=dtype), mesh)
    assert ("T4 has no matrix units for bfloat16" in capsys.readouterr().out) == is_said
    assert found.scaled == (dtype == "float16")
