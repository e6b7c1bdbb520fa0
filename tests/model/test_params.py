"""The parameter table against the published sizes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.model.config import ModelConfig
from sc2jax.model.params import (
    abstract_params,
    count_params,
    decay_mask,
    init_params,
    param_shardings,
    parameter_table,
)
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

TINY = ModelConfig(vocab_size=64, context_length=16, embed_dim=16, num_layers=2, num_heads=4, num_kv_heads=2, window=8)


@pytest.mark.parametrize(
    ("shape", "billions"),
    [
        ({"embed_dim": 3072, "num_layers": 30, "num_heads": 24, "num_kv_heads": 2}, 3.03),
        ({"embed_dim": 4608, "num_layers": 32, "num_heads": 36, "num_kv_heads": 4}, 7.17),
        ({"embed_dim": 6144, "num_layers": 40, "num_heads": 48, "num_kv_heads": 4, "tie_embeddings": False}, 15.96),
    ],
)
def test_counts_equal_the_released_models(shape, billions):
    assert round(count_params(parameter_table(ModelConfig(vocab_size=49152, **shape))) / 1e9, 2) == billions


def test_count_by_hand():
    # Embedding; per layer two norms, q, k, v, o, up, down with biases; the last norm.
    layer = 2 * 2 * 16 + (16 * 16 + 16) + 2 * (16 * 8 + 8) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
    tied = 64 * 16 + 2 * layer + 2 * 16
    assert count_params(parameter_table(TINY)) == tied
    assert count_params(parameter_table(dataclasses.replace(TINY, tie_embeddings=False))) == tied + 64 * 16


def test_initialisation_follows_the_table():
    table = parameter_table(dataclasses.replace(TINY, init_stddev=0.5))
    params = init_params(table, jax.random.key(0))
    for parameter in table:
        array = params
        for name in parameter.path:
            array = array[name]
        assert array.shape == parameter.shape
        if isinstance(parameter.init, float):
            assert parameter.init == 0.5
            assert abs(float(jnp.std(array)) - 0.5) < 4 * 0.5 / math.sqrt(2 * array.size)
        else:
            assert (array == (1.0 if parameter.init == "ones" else 0.0)).all()


def test_each_parameter_is_drawn_by_itself_and_another_one_changes_none():
    params = init_params(parameter_table(TINY), jax.random.key(0))
    attention = params["layers"]["attention"]
    assert attention["k"]["kernel"].shape == attention["v"]["kernel"].shape
    assert not jnp.any(attention["k"]["kernel"] == attention["v"]["kernel"])
    assert not jnp.any(attention["k"]["kernel"][0] == attention["k"]["kernel"][1])
    untied = init_params(parameter_table(dataclasses.replace(TINY, tie_embeddings=False)), jax.random.key(0))
    assert not jnp.any(untied["output"] == params["embedding"])
    jax.tree.map(np.testing.assert_array_equal, params, {name: untied[name] for name in params})


def test_same_key_same_parameters_and_other_key_other_ones():
    one, same, other = (init_params(parameter_table(TINY), jax.random.key(seed)) for seed in (1, 1, 2))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, same)))
    assert not (one["embedding"] == other["embedding"]).all()


def test_only_matrices_decay():
    for parameter in parameter_table(TINY):
        matrix = len(parameter.shape) - (parameter.path[0] == "layers") >= 2 and parameter.path[-1] != "bias"
        assert parameter.decayed == matrix
    assert jax.tree.structure(decay_mask(parameter_table(TINY))) == jax.tree.structure(
        abstract_params(parameter_table(TINY))
    )


def test_names_are_unique():
    names = [parameter.hf_name for parameter in parameter_table(dataclasses.replace(TINY, tie_embeddings=False))]
    assert len(set(names)) == len(names)
    assert "lm_head.weight" in names


def test_every_parameter_finds_its_place_on_a_mesh():
    mesh = create_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    placements = param_shardings(parameter_table(TINY), mesh)
    assert placements["layers"]["mlp"]["up"]["kernel"].shard_shape((2, 16, 64)) == (2, 8, 32)
    assert placements["layers"]["attention"]["k"]["kernel"].shard_shape((2, 16, 2, 4)) == (2, 8, 1, 4)
    assert placements["embedding"].shard_shape((64, 16)) == (32, 8)


def test_key_value_heads_are_copied_where_the_mesh_does_not_divide_them():
    mesh = create_mesh(MeshConfig(data=1, fsdp=2, tensor=4))
    placement = rules.sharding(mesh, (rules.LAYERS, rules.EMBED, rules.KV_HEADS, rules.HEAD_DIM), (2, 16, 2, 4))
    assert placement.shard_shape((2, 16, 2, 4)) == (2, 8, 2, 4)
