"""The memory that is counted for a step, against the TPU compiler's own figures and against what JAX keeps."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from plan_by_hand import planned_step

from sc2jax.errors import UserError
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import abstract_params, count_params, parameter_table
from sc2jax.model.transformer import forward
from sc2jax.parallel.chips import GIB
from sc2jax.plan.memory import estimated_bytes, offloaded_bytes


def sizes(**axes: int) -> dict[str, int]:
    return {"slices": 1, "data": 1, "fsdp": 1, "sequence": 1, "tensor": 1} | axes


HALVES = sizes(data=2, fsdp=128)
PRODUCTS = ("q", "k", "v", "attention_projection", "mlp_up")
NAMED: dict[str, Any] = {"rematerialization": "named", "kept_activations": PRODUCTS}
COLAB: dict[str, Any] = {
    "vocab_size": 8192,
    "context_length": 1024,
    "embed_dim": 512,
    "num_layers": 8,
    "num_heads": 8,
    "num_kv_heads": 2,
    "window": 512,
}

# What libtpu 0.0.42.1 says that these steps take, in GiB: arguments and all beside them.
COMPILED = {
    "15B, full": (planned_step(rows=256, rematerialization="full"), sizes(fsdp=256), 0.7 + 7.6),
    "15B, 2 layers": (
        planned_step(rows=256, rematerialization="full", num_layers=2), sizes(fsdp=256), 0.061 + 5.365,
    ),
    "15B, 2 layers, two copies": (
        planned_step(rows=256, rematerialization="full", num_layers=2), HALVES, 0.121 + 3.502,
    ),
    "15B, products": (planned_step(**NAMED), sizes(fsdp=256), 0.7 + 32.4),
    "15B, two copies": (planned_step(**NAMED), HALVES, 1.4 + 32.8),
    "15B, dots": (planned_step(), HALVES, 1.4 + 36.4),
    "15B, 4 rows": (planned_step(rows=1024, **NAMED), HALVES, 1.4 + 62.5),
    "15B, long": (planned_step(rows=256, context_length=16384, **NAMED), HALVES, 1.4 + 61.4),
    "7B on v5e": (planned_step("7b", rows=256, **NAMED), sizes(data=8, fsdp=32), 14.2),
    "3B, 2 layers": (planned_step("3b", rows=4, rematerialization="full", num_layers=2), sizes(fsdp=4), 0.959 + 2.377),
    "3B, adapters": (planned_step("3b", rows=1, rank=16, rematerialization="full"), sizes(), 5.91 + 1.65),
    "3B, adapters, long": (
        planned_step("3b", rows=1, rank=16, rematerialization="full", context_length=16384), sizes(), 5.91 + 5.91,
    ),
    "26 M, products": (planned_step("3b", rows=64, **COLAB, **NAMED), sizes(), 0.29 + 6.69),
    "26 M, all kept": (planned_step("3b", rows=64, **COLAB, rematerialization="none"), sizes(), 23.36),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_what_is_counted_is_near_what_the_compiler_says(name):
    step, mesh, compiled = COMPILED[name]
    near = 0.13 if name == "26 M, products" else 0.07  # a small model's largest arrays are of other kinds
    assert estimated_bytes(step, mesh) / GIB == pytest.approx(compiled, rel=near)


TOY = ModelConfig(
    vocab_size=1000,
    context_length=384,
    embed_dim=256,
    num_layers=3,
    num_heads=4,
    num_kv_heads=1,
    head_dim=128,
    mlp_dim=1024,
    window=128,
    attention="pallas",
)


def kept_by_jax(model: ModelConfig) -> int:
    """Bytes that the forward pass leaves to the backward pass of each position and layer."""
    length = model.context_length

    def gradients(params: Any, tokens: Any) -> Any:
        return jax.vjp(lambda params: forward(params, tokens, model, segment_ids_BT=tokens), params)[1]

    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    residuals = jax.tree.leaves(jax.eval_shape(gradients, abstract_params(parameter_table(model)), tokens))
    # Of layers and of positions; the sums of attention, whose positions are in blocks, alone have six dimensions.
    of_layers = [each for each in residuals if each.shape[:1] == (model.num_layers,)]
    of_positions = [each for each in of_layers if length in each.shape or len(each.shape) == 6]
    return sum(math.prod(each.shape) * each.dtype.itemsize for each in of_positions) // (length * model.num_layers)


@pytest.mark.parametrize(
    "settings",
    [
        {"rematerialization": "none"},
        {"rematerialization": "dots"},
        {"rematerialization": "full"},
        {"rematerialization": "named", "kept_activations": PRODUCTS},
        {"rematerialization": "named", "kept_activations": ("layer_input", "mlp_hidden", "mlp_down")},
        {"rematerialization": "dots", "compute_dtype": "float32"},
    ],
)
def test_what_is_kept_of_a_layer_is_what_jax_keeps(settings):
    model = dataclasses.replace(TOY, **settings)

    def estimated(layers: int) -> int:
        step = planned_step("3b", rows=1, **dataclasses.asdict(dataclasses.replace(model, num_layers=layers)))
        parameters = count_params(parameter_table(step.model))
        # Parameters and moments, gradients, and the parameters in the type that they are computed in.
        each = 16 + (2 if model.compute_dtype == "bfloat16" else 0)
        return estimated_bytes(step, sizes()) - each * parameters

    assert estimated(4) - estimated(3) == kept_by_jax(model) * model.context_length


def test_moments_take_four_bytes_a_parameter_or_two():
    """All are split over four devices, but for biases of heads and of the MLP."""
    step = planned_step("3b", rows=4, num_layers=2)

    def estimated(moments: str) -> int:
        training = dataclasses.replace(step.training, moments_dtype=moments)
        return estimated_bytes(dataclasses.replace(step, training=training), sizes(fsdp=4))

    biases = 2 * (3072 + 256 + 256 + 12288)
    split = count_params(parameter_table(step.model)) - biases
    assert estimated("float32") - estimated("bfloat16") == 2 * 2 * (split // 4 + biases)


def test_parts_of_a_batch_halve_what_is_kept_and_add_sums_of_gradients():
    """By hand, of 8 rows of 4096 positions and 40 layers, of which each keeps 6144 elements of bfloat16."""
    one, two = (
        estimated_bytes(planned_step(rows=2048, rematerialization="full", accumulation=parts), sizes(fsdp=256))
        for parts in (1, 2)
    )
    kept = 4 * 4096 * 40 * 6144 * 2
    layer = 4 * 4096 * 2 * 2 * (3 * 6144 + 2 * 6144 + 2 * 512 + 2 * 24576 + 2 * 6144)
    sums = 4 * count_params(parameter_table(planned_step().model)) / 256
    assert one - two == pytest.approx(kept + layer - sums, rel=1e-3)


def test_all_rows_of_a_batch_are_there_however_many_parts_it_has():
    """Five arrays of four bytes a position, of 4 rows of a device more."""
    fewer, more = (planned_step(rows=256 * rows, accumulation=rows // 2) for rows in (4, 8))
    assert estimated_bytes(more, HALVES) - estimated_bytes(fewer, HALVES) == 4 * 4096 * 5 * 4


@pytest.mark.parametrize(
    ("mesh", "share"), [(sizes(fsdp=64, tensor=4), 0.25), (sizes(fsdp=64, sequence=4), 0.25), (HALVES, 0.25)]
)
def test_what_is_kept_of_the_mlp_is_split_over_tensor_length_and_batch(mesh, share):
    """24576 elements of a position and layer; two rows of each of 64 shards are half a row of each of 256."""

    def kept(*names: str, mesh: dict[str, int]) -> int:
        named = planned_step(rows=256, rematerialization="named", kept_activations=names)
        return estimated_bytes(named, mesh)

    assert kept("mlp_up", mesh=mesh) - kept(mesh=mesh) == 24576 * 2 * 40 * 4096 * 256 / 64 * share
    assert kept("k", mesh=mesh) - kept(mesh=mesh) == 512 * 2 * 40 * 4096 * 256 / 64 * share


def test_key_value_heads_that_tensor_does_not_divide_are_copied():
    def kept(*names: str) -> int:
        return estimated_bytes(
            planned_step(rows=256, rematerialization="named", kept_activations=names), sizes(fsdp=32, tensor=8)
        )

    assert kept("k") - kept() == 512 * 2 * 40 * 4096 * 8


def test_what_is_offloaded_is_in_the_host_s_memory_alone():
    kept = planned_step(rematerialization="named", kept_activations=("mlp_up",))
    offloaded = planned_step(rematerialization="named", offloaded_activations=("mlp_up",))
    stacked = 40 * 2 * 4096 * 24576 * 2
    assert estimated_bytes(kept, HALVES) - estimated_bytes(offloaded, HALVES) == stacked
    assert offloaded_bytes(offloaded, HALVES) == stacked
    assert offloaded_bytes(kept, HALVES) == 0


def test_what_enters_a_layer_is_kept_unless_it_is_offloaded():
    """40 layers of 8192 positions of 6144 elements."""
    full = planned_step(rematerialization="full")
    offloaded = planned_step(rematerialization="named", offloaded_activations=("layer_input",))
    assert estimated_bytes(full, HALVES) - estimated_bytes(offloaded, HALVES) == 40 * 2 * 4096 * 6144 * 2


def test_a_larger_chunk_of_logits_counts_where_the_loss_is_what_fills_the_memory():
    def estimated(chunk: int) -> int:
        step = planned_step("3b", rows=4, num_layers=2, rematerialization="full")
        training = dataclasses.replace(step.training, loss_chunk=chunk)
        return estimated_bytes(dataclasses.replace(step, training=training), sizes(fsdp=4))

    assert estimated(4096) - estimated(2048) == 2048 * 49152 * (4 + 4 + 2)
    assert estimated(0) == estimated(4096)  # all of the row's


def test_a_mesh_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="embed"):
        estimated_bytes(planned_step(rows=1280), sizes(fsdp=5))
    with pytest.raises(UserError, match="batch"):
        estimated_bytes(planned_step(rows=128), sizes(fsdp=256))
