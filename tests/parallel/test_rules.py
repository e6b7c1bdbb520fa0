import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from sc2jax.errors import UserError
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh


def test_zero_takes_the_devices_that_remain():
    sizes = {"slices": 1, "data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
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
    with pytest.raises(UserError, match=r"batch dimension has 12 .* = 8 do not divide; they .* 8 or 16, and 6 or 12 "):
        rules.partition_spec(mesh, (rules.BATCH, rules.LENGTH), (12, 4))


def test_a_mesh_that_does_not_divide_a_model_is_refused_with_the_nearest_that_divide_all_of_it():
    dimensions = [(rules.HEADS, 24), (rules.MLP, 36), (rules.KV_HEADS, 3), (rules.EMBED, 7), (rules.HEADS, 24)]
    mesh = create_mesh(MeshConfig(fsdp=1, tensor=8))
    with pytest.raises(UserError, match=r"mesh\.tensor 8 does not divide the model's mlp 36; .* over it: 6 or 12$"):
        rules.refuse_indivisible(mesh, dimensions)
    with pytest.raises(UserError, match=r"mesh\.fsdp 8 does not divide the model's embed 7; .* over it: 7$"):
        rules.refuse_indivisible(create_mesh(MeshConfig(fsdp=8)), dimensions)
    rules.refuse_indivisible(create_mesh(MeshConfig(data=2, fsdp=1, tensor=4)), dimensions)


def test_the_nearest_that_divide_and_are_divided():
    assert [rules.nearest_divisors(12, parts) for parts in (1, 2, 5, 12, 13)] == [[1], [2], [4, 6], [12], [12]]
    assert [rules.nearest_multiples(size, 8) for size in (3, 8, 12, 17)] == [[8], [8, 16], [8, 16], [16, 24]]


class Chip:
    """A device of a slice, as far as laying out a mesh asks."""

    platform, device_kind, process_index = "gpu", "chip", 0

    def __init__(self, number, slice_index):
        self.id, self.slice_index = number, slice_index

    def __repr__(self):
        return f"{self.slice_index}:{self.id}"


def test_slices_are_the_outermost_axis_of_the_mesh():
    chips = [Chip(number, number % 2) for number in range(8)]  # in no order of slices
    mesh = create_mesh(MeshConfig(slices=2, fsdp=2, tensor=2), chips)
    assert mesh.shape["slices"] == 2
    assert [{chip.slice_index for chip in part.flat} for part in mesh.devices] == [{0}, {1}]
    assert set(mesh.devices.flat) == set(chips)
    with pytest.raises(UserError, match=r"in 2 slices; set mesh\.slices to 2 \(now 1\)"):
        create_mesh(MeshConfig(fsdp=8), chips)
    with pytest.raises(UserError, match=r"in 2 slices; set mesh\.slices to 2 \(now 4\)"):
        create_mesh(MeshConfig(slices=4, fsdp=2), chips)


def test_all_axes_are_the_compiler_s_to_spread():
    for devices in (1, 8):
        mesh = create_mesh(MeshConfig(), jax.devices()[:devices])
        assert mesh.axis_types == (jax.sharding.AxisType.Auto,) * 5


def test_parts_of_a_batch_hold_rows_that_each_device_has():
    mesh = create_mesh(MeshConfig(slices=2, data=1, fsdp=2, sequence=2))
    x = np.arange(16 * 4).reshape(16, 4)
    placed = jax.device_put(x, rules.sharding(mesh, (rules.BATCH, rules.LENGTH), x.shape))
    parts = jax.jit(lambda x: rules.in_parts(x, 2, mesh))(placed)
    assert parts.shape == (2, 8, 4)
    assert sorted(np.asarray(parts)[:, :, 0].flat) == list(x[:, 0])
    rows = {shard.device: set(np.asarray(shard.data)[:, 0] // 4) for shard in placed.addressable_shards}
    for shard in parts.addressable_shards:
        assert set((np.asarray(shard.data) // 4).flat) == rows[shard.device]
        assert shard.data.shape == (2, 2, 2)


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
