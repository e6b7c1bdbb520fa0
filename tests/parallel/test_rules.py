import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from sc2jax.errors import UserError
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh


def test_zero_takes_the_devices_that_remain():
    sizes = {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
    assert dict(create_mesh(MeshConfig(data=2, fsdp=0, tensor=2)).shape) == sizes
    assert set(create_mesh(MeshConfig(), jax.devices()[:1]).shape.values()) == {1}


@pytest.mark.parametrize("sizes", [{"data": 3, "fsdp": 0}, {"data": 2, "fsdp": 2}, {"data": 4, "fsdp": 4}])
def test_sizes_that_do_not_fit_the_devices_are_refused(sizes):
    with pytest.raises(UserError, match="does not fit 8 devices"):
        create_mesh(MeshConfig(**sizes))


@pytest.mark.parametrize("sizes", [{"data": -1}, {"data": 0, "fsdp": 0}])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UserError, match="mesh"):
        MeshConfig(**sizes)


def test_specs_follow_the_rules():
    mesh = create_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    assert rules.partition_spec(mesh, (rules.BATCH, rules.LENGTH), (8, 5)) == PartitionSpec(("data", "fsdp"), None)
    halves = create_mesh(MeshConfig(data=1, fsdp=4, sequence=2))
    assert rules.partition_spec(halves, (rules.BATCH, rules.LENGTH), (8, 6)) == PartitionSpec(("fsdp",), ("sequence",))
    assert rules.partition_spec(mesh, (rules.EMBED, rules.MLP), (4, 8)) == PartitionSpec(("fsdp",), ("tensor",))
    alone = create_mesh(MeshConfig(), jax.devices()[:1])
    assert rules.partition_spec(alone, (rules.EMBED, rules.MLP), (3, 5)) == PartitionSpec(None, None)


def test_a_batch_that_the_mesh_does_not_divide_is_refused_with_the_numbers():
    mesh = create_mesh(MeshConfig(data=2, fsdp=4))
    with pytest.raises(UserError, match=r"batch dimension has 12 .* = 8 do not divide; use a multiple of 8"):
        rules.partition_spec(mesh, (rules.BATCH, rules.LENGTH), (12, 4))


def test_two_dimensions_on_one_mesh_axis_are_refused():
    mesh = create_mesh(MeshConfig(data=1, fsdp=1, tensor=8))
    with pytest.raises(ValueError, match="two dimensions"):
        rules.partition_spec(mesh, (rules.HEADS, rules.MLP), (8, 8))


def test_constrain_keeps_values():
    mesh = create_mesh(MeshConfig(data=8, fsdp=1))
    x = jax.jit(lambda x: rules.constrain(x, mesh, (rules.BATCH, rules.LENGTH)))(np.arange(16.0).reshape(8, 2))
    np.testing.assert_array_equal(x, np.arange(16.0).reshape(8, 2))
    assert x.sharding.shard_shape(x.shape) == (1, 2)


def test_map_shards_hands_each_device_its_part_and_copies_what_it_may_not_split():
    mesh = create_mesh(MeshConfig(data=1, fsdp=2, tensor=4))
    x, y = np.arange(32.0).reshape(4, 8), np.arange(3.0)[None]

    def local(x, y):
        assert x.shape == (2, 2)
        assert y.shape == (1, 3)  # four shards do not divide three heads
        total = jax.lax.psum(jax.lax.psum(x.sum(), "fsdp"), "tensor")
        return x * y.sum(), total[None]

    mapped = rules.map_shards(
        local,
        mesh,
        [(rules.BATCH, rules.HEADS), (rules.HEAD_DIM, rules.KV_HEADS)],
        [((rules.BATCH, rules.HEADS), x.shape), ((rules.HEAD_DIM,), (1,))],
    )
    scaled, total = jax.jit(mapped)(x, y)
    np.testing.assert_array_equal(scaled, x * 3)
    np.testing.assert_array_equal(total, [x.sum()])
    assert scaled.sharding.shard_shape(scaled.shape) == (2, 2)
