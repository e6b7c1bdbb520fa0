"""Low-rank adapters: their table, what they compute, and the model that they are merged into."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.model.adapters import adapted, adapter_table, merged, with_adapters
from sc2jax.model.config import LINEAR_LAYERS, AdapterConfig, ModelConfig
from sc2jax.model.params import count_params, init_params, param_shardings, parameter_table
from sc2jax.model.transformer import cast_params, forward, linear
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh

TINY = ModelConfig(
    vocab_size=40, context_length=12, embed_dim=16, num_layers=3, num_heads=4, num_kv_heads=2, window=5, head_dim=8,
    init_stddev=0.3, compute_dtype="float32",
)  # fmt: skip
RANK = AdapterConfig(rank=3, alpha=5.0)
TABLE = parameter_table(TINY)
TOKENS = jax.random.randint(jax.random.key(7), (2, 12), 0, 40)


def drawn(config: AdapterConfig, seed: int = 1):
    """Adapters none of whose kernels is zero."""
    table = adapter_table(TABLE, config)
    return init_params(tuple(dataclasses.replace(entry, init=0.2) for entry in table), jax.random.key(seed))


def base():
    table = tuple(dataclasses.replace(entry, init=0.3) if entry.init == "zeros" else entry for entry in TABLE)
    return init_params(table, jax.random.key(0))


def test_the_table_of_a_released_size():
    """Shapes and names of `peft` (get_peft_model over Starcoder2ForCausalLM), and the count, by hand."""
    table = adapter_table(parameter_table(ModelConfig(vocab_size=49152)), AdapterConfig(rank=16))
    shapes = {entry.hf_name: entry.hf_shape for entry in table}
    prefix, embed, kv, mlp = "base_model.model.model.layers.{layer}.", 3072, 2 * 128, 12288
    sides = {
        "self_attn.q_proj": (embed, embed),
        "self_attn.k_proj": (embed, kv),
        "self_attn.v_proj": (embed, kv),
        "self_attn.o_proj": (embed, embed),
        "mlp.c_fc": (embed, mlp),
        "mlp.c_proj": (mlp, embed),
    }
    expected = {f"{prefix}{name}.lora_A.weight": (16, into) for name, (into, _) in sides.items()}
    expected |= {f"{prefix}{name}.lora_B.weight": (out, 16) for name, (_, out) in sides.items()}
    assert shapes == expected
    assert count_params(table) == 30 * 16 * sum(into + out for into, out in sides.values()) == 23_838_720
    assert all(entry.decayed and entry.stacked for entry in table)


def test_only_the_targets_have_adapters():
    table = adapter_table(TABLE, AdapterConfig(rank=2, targets=("down", "v")))
    assert {entry.path[1:3] for entry in table} == {("attention", "v"), ("mlp", "down")}
    assert AdapterConfig(targets=("down", "v", "v")) == AdapterConfig(targets=("v", "down"))
    with pytest.raises(UserError, match=r"adapters\.targets is \('query',\); it must be one of q, k, v, o, up, down"):
        AdapterConfig(targets=("query",))
    with pytest.raises(UserError, match=r"adapters\.targets"):
        AdapterConfig(targets=())


def test_they_begin_as_pefts_do():
    """A is uniform with torch's kaiming bound sqrt(6 / ((1 + 5) fan_in)); B is zero."""
    wide = dataclasses.replace(TINY, embed_dim=64, head_dim=16, mlp_dim=4096)
    params = init_params(adapter_table(parameter_table(wide), AdapterConfig(rank=8)), jax.random.key(2))
    for path, fan_in in ((("attention", "q"), 64), (("attention", "o"), 64), (("mlp", "down"), 4096)):
        a = np.asarray(params["layers"][path[0]][path[1]]["lora_a"])
        bound = np.sqrt(6 / ((1 + 5) * fan_in))
        assert 0.98 * bound < a.max() < bound and -bound < a.min() < -0.98 * bound
        np.testing.assert_allclose(a.std(), bound / np.sqrt(3), rtol=0.05)
        assert not np.any(params["layers"][path[0]][path[1]]["lora_b"])


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("input_dims", [1, 2])
def test_a_linear_layer_adds_them(flat, input_dims):
    draw = np.random.default_rng(0).standard_normal
    x, into = draw((2, 5, *(3, 4)[:input_dims])).astype(np.float32), (3, 4)[:input_dims]
    w, a = draw((*into, 6, 2)).astype(np.float32), draw((*into, 7)).astype(np.float32)
    b, bias = draw((7, 6, 2)).astype(np.float32), draw((6, 2)).astype(np.float32)
    flat_x, size = x.reshape(10, -1), int(np.prod(into))
    expected = flat_x @ w.reshape(size, 12) + flat_x @ a.reshape(size, 7) @ b.reshape(7, 12) + bias.reshape(12)
    params = {"kernel": w, "bias": bias, "lora_a": a, "lora_b": b}
    found = linear(jnp.asarray(x), jax.tree.map(jnp.asarray, params), "q", input_dims, flat=flat)
    np.testing.assert_allclose(found, expected.reshape(2, 5, 6, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("targets", [LINEAR_LAYERS, ("k", "o", "down")], ids=str)
def test_merged_equals_unmerged(targets):
    config = dataclasses.replace(RANK, targets=targets)
    params, adapters = base(), drawn(config)
    apart = forward(with_adapters(params, adapters, config), TOKENS, TINY)
    whole = merged(params, adapters, config)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    np.testing.assert_allclose(forward(whole, TOKENS, TINY), apart, atol=2e-5)
    assert np.abs(np.asarray(forward(params, TOKENS, TINY)) - np.asarray(apart)).max() > 0.1
    # One kernel by hand: the numbers of `peft`, whose lora_alpha / r it is.
    o = whole["layers"]["attention"]["o"]["kernel"][1]
    adapter = adapters["layers"]["attention"]["o"]
    product = adapter["lora_a"][1].reshape(32, 3) @ adapter["lora_b"][1] * (5 / 3)
    np.testing.assert_allclose(
        np.asarray(o).reshape(32, 16), params["layers"]["attention"]["o"]["kernel"][1].reshape(32, 16) + product,
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_frozen_weights_stay_in_their_type():
    frozen = cast_params(base(), dataclasses.replace(TINY, compute_dtype="bfloat16"))
    whole = merged(frozen, drawn(RANK), RANK)
    assert jax.tree.map(lambda x: x.dtype, whole) == jax.tree.map(lambda x: x.dtype, frozen)


def test_the_loss_has_gradients_for_adapters_alone():
    def loss(params, frozen, batch, key):
        assert not frozen
        return jnp.sum(forward(params, batch["tokens"], TINY) ** 2), jnp.float32(1)

    adapters, frozen = drawn(RANK), base()
    gradient = jax.grad(lambda params: adapted(loss, RANK)(params, frozen, {"tokens": TOKENS}, jax.random.key(0))[0])
    found = gradient(adapters)
    assert jax.tree.structure(found) == jax.tree.structure(adapters)
    # Against a difference along one direction.
    step = 1e-3
    direction = drawn(RANK, seed=4)
    moved = [jax.tree.map(lambda x, d, by=by: x + by * d, adapters, direction) for by in (step, -step)]
    up, down = (adapted(loss, RANK)(params, frozen, {"tokens": TOKENS}, jax.random.key(0))[0] for params in moved)
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float(jnp.sum(g * d)), found, direction)))
    np.testing.assert_allclose(along, (up - down) / (2 * step), rtol=1e-2)


def test_they_are_split_as_what_they_are_added_to():
    mesh = create_mesh(MeshConfig(fsdp=2, tensor=2, data=2))
    placed = param_shardings(adapter_table(TABLE, RANK), mesh)["layers"]
    kernels = param_shardings(TABLE, mesh)["layers"]
    for room, name, inputs in (("attention", "q", 1), ("attention", "o", 2), ("mlp", "up", 1), ("mlp", "down", 1)):
        kernel = tuple(kernels[room][name]["kernel"].spec)
        assert tuple(placed[room][name]["lora_a"].spec) == (*kernel[: 1 + inputs], None)
        assert tuple(placed[room][name]["lora_b"].spec) == (None, None, *kernel[1 + inputs :])
