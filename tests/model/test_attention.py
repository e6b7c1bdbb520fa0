"""Attention over meshes and by the kernels of others: equal to the reference on one device, with its gradients."""

import dataclasses
import math
import re
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.kernels.cudnn import cudnn_attention
from sc2jax.kernels.reference import reference_attention, rotary_angles, rotate
from sc2jax.model.attention import _chosen, attention
from sc2jax.model.config import ModelConfig
from sc2jax.parallel import rules
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.halo import halo_size
from sc2jax.parallel.mesh import create_mesh

CONFIG = ModelConfig(embed_dim=32, num_heads=8, num_kv_heads=2, attention="reference", compute_dtype="float32")
AXES = (rules.BATCH, rules.LENGTH, rules.HEADS, rules.HEAD_DIM)


def inputs(batch, length, config):
    keys = jax.random.split(jax.random.key(length), 4)
    N, K, H = config.num_heads, config.num_kv_heads, config.head_dim
    q, k, v, cotangent = (
        jax.random.normal(key, (batch, length, heads, H)) for key, heads in zip(keys, (N, K, K, N), strict=True)
    )
    positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
    # Borders at multiples of 3 * length / 16 + 1: some of them cross from one shard to the next.
    segments = positions // (3 * length // 16 + 1) + jnp.arange(batch)[:, None]
    return q, k, v, cotangent, rotary_angles(positions, H, 100.0), segments


def value_and_gradients(q, k, v, cotangent, angles, segments, config, mesh):
    attend = partial(attention, angles=angles, config=config, segment_ids_BT=segments, mesh=mesh)
    out, pull = jax.vjp(attend, q, k, v)
    return out, *pull(cotangent)


@pytest.mark.parametrize(
    ("sizes", "change", "length"),
    [
        ({"data": 4, "fsdp": 2}, {"window": 5}, 16),
        ({"data": 1, "fsdp": 2, "tensor": 4}, {"window": 5}, 16),  # two key-value heads for four shards
        (
            {"data": 2, "fsdp": 1, "tensor": 4},
            {"num_heads": 12, "num_kv_heads": 6, "window": 0},
            16,
        ),  # inside of groups
        ({"data": 2, "fsdp": 2, "sequence": 2}, {"window": 1}, 16),
        ({"data": 1, "fsdp": 1, "sequence": 8}, {"window": 0}, 64),
        ({"data": 1, "fsdp": 1, "sequence": 4, "tensor": 2}, {"window": 8}, 32),
        ({"data": 1, "fsdp": 1, "sequence": 2, "tensor": 4}, {"window": 9, "attention": "blocked"}, 32),
        ({"data": 2, "fsdp": 1, "sequence": 4}, {"window": 129, "attention": "blocked"}, 512),
        ({"data": 2, "fsdp": 1, "sequence": 4}, {"window": 130}, 512),  # the second neighbour sends a part
        ({"data": 2, "fsdp": 1, "sequence": 4}, {"window": 300, "attention": "splash"}, 512),
        ({"data": 2, "fsdp": 1, "sequence": 4}, {"window": 300, "attention": "pallas"}, 512),
        ({"data": 1, "fsdp": 2, "tensor": 4}, {"window": 100, "attention": "pallas"}, 128),
        ({"data": 1, "fsdp": 2, "tensor": 4}, {"window": 100, "attention": "pallas", "embed_dim": 1024}, 128),
    ],
    ids=str,
)
def test_every_mesh_computes_the_same(sizes, change, length):
    change = {"embed_dim": 48 if "num_heads" in change else 32, "head_dim": 0, "mlp_dim": 0, **change}
    config = dataclasses.replace(CONFIG, **change)
    mesh = create_mesh(MeshConfig(**sizes))
    given = inputs(2 * math.prod(sizes.get(name, 1) for name in ("data", "fsdp")), length, config)
    found = jax.jit(value_and_gradients, static_argnums=(6, 7))(*given, config, mesh)
    plain = dataclasses.replace(config, attention="reference")
    for one, other in zip(found, value_and_gradients(*given, plain, None), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_only_the_keys_of_the_window_travel():
    config = dataclasses.replace(CONFIG, window=130)
    mesh = create_mesh(MeshConfig(data=2, fsdp=1, sequence=4))
    rows, length = 4, 1024
    halo = halo_size(config.window, length // 4, 4)
    assert halo == 256
    given = inputs(rows, length, config)
    forward = jax.jit(
        lambda q, k, v, angles, segments: attention(q, k, v, angles, config, segment_ids_BT=segments, mesh=mesh),
        in_shardings=rules.sharding(mesh, AXES[:2], (rows, length)),
    )
    program = forward.lower(*given[:3], *given[4:]).compile().as_text() or ""
    sent = 0
    for results in re.findall(r" = (.*) collective-permute(?:-start)?\(", program):
        for kind, sizes in re.findall(r"([a-z]+32)\[([\d,]+)\]", results):
            assert kind in ("f32", "s32")
            sent += 4 * math.prod(map(int, sizes.split(",")))
    assert sent == halo * (rows // 2) * (2 * config.num_kv_heads * config.head_dim * 4 + 4)
    assert not re.findall(r"all-gather|all-to-all|all-reduce", program)


@pytest.mark.parametrize(
    ("window", "halo"), [(0, 768), (1, 0), (2, 128), (129, 128), (130, 256), (258, 384), (9999, 768)]
)
def test_a_halo_is_the_window_before_a_shard(window, halo):
    assert halo_size(window, 256, 4) == halo


def test_dropout_differs_between_shards_and_follows_its_key():
    config = dataclasses.replace(CONFIG, window=4, attention_dropout=0.5)
    mesh = create_mesh(MeshConfig(data=8, fsdp=1))
    q, k, v, _, angles, segments = jax.tree.map(
        lambda x: jnp.broadcast_to(x[:1], (8, *x.shape[1:])), inputs(1, 16, config)
    )

    @jax.jit
    def attend(seed):
        key = jax.random.key(seed)
        return attention(q, k, v, angles, config, segment_ids_BT=segments, mesh=mesh, dropout_key=key)

    np.testing.assert_array_equal(attend(0), attend(0))
    assert np.abs(attend(0) - attend(1)).max() > 0.1
    assert np.abs(attend(0)[0] - attend(0)[1]).max() > 0.1  # the same row on two devices


@pytest.mark.parametrize("window", [0, 1, 129])
def test_splash_equals_the_reference(window):
    config = dataclasses.replace(CONFIG, window=window)
    given = inputs(1, 256, config)
    splash = dataclasses.replace(config, attention="splash")
    found = jax.jit(value_and_gradients, static_argnums=(6, 7))(*given, splash, None)
    for one, other in zip(found, value_and_gradients(*given, config, None), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("window", [0, 1, 7])
def test_what_is_asked_of_cudnn_is_the_reference(window):
    q, k, v, _, angles, segments = inputs(2, 24, CONFIG)
    q, k = rotate(q, *angles), rotate(k, *angles)
    asked = cudnn_attention(q, k, v, window, implementation="xla")
    np.testing.assert_allclose(asked, reference_attention(q, k, v, jnp.zeros_like(segments), window), atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "head_dim", "drops", "name"),
    [
        ("bfloat16", 64, False, "pallas"),
        ("float32", 128, False, "pallas"),
        ("float16", 128, False, "blocked"),
        ("bfloat16", 256, False, "blocked"),
        ("bfloat16", 128, True, "blocked"),
    ],
)
def test_auto_on_a_tpu_takes_the_kernel_where_it_can(kind, head_dim, drops, name):
    tpu = types.SimpleNamespace(platform="tpu", device_kind="TPU v5e")
    config = dataclasses.replace(CONFIG, head_dim=head_dim, attention="auto")
    assert _chosen(jnp.zeros((1, 8, 8, head_dim), kind), True, False, drops, tpu, config) == name


def test_kernels_that_cannot_are_refused_with_what_to_do():
    q, k, v, _, angles, _ = inputs(1, 16, CONFIG)
    with pytest.raises(UserError, match=r"cudnn runs on NVIDIA GPUs from Ampere on.*use model.attention=auto"):
        attention(q, k, v, angles, dataclasses.replace(CONFIG, attention="cudnn"))
    with pytest.raises(UserError, match=r"splash takes multiples of 128 positions.*use model.attention=blocked"):
        attention(q, k, v, angles, dataclasses.replace(CONFIG, attention="splash"))
    with pytest.raises(UserError, match=r"attention=splash has no dropout; set model.attention_dropout to 0"):
        ModelConfig(attention="splash", attention_dropout=0.1)
    mesh = create_mesh(MeshConfig(data=1, fsdp=1, sequence=8))
    with pytest.raises(UserError, match="length dimension has 12 elements"):
        attention(q[:, :12], k[:, :12], v[:, :12], (angles[0][:, :12], angles[1][:, :12]), CONFIG, mesh=mesh)
