"""What a step takes of a device's memory, counted without compiling it.

It chooses what is worth compiling, and says what would make a step fit; the compiler's own figure is the truth. State
and batch are exact. The rest is what a step holds where its memory is fullest: with the activations of all layers kept,
either in the loss or in the backward pass of the first layer that has one.
"""

import functools
import math
from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from sc2jax.model.config import ACTIVATIONS, ModelConfig
from sc2jax.model.params import Table, parameter_table
from sc2jax.parallel import rules
from sc2jax.plan.compilation import PlannedStep
from sc2jax.training.config import TrainingConfig
from sc2jax.training.global_batch import abstract_batch
from sc2jax.training.objective import trained_table, untrained_table
from sc2jax.training.step import abstract_state

_FLOAT32 = 4
TILE_ROWS = 16
"""Of bfloat16. Gradients whose shards have no multiple of these are not scattered: the TPU's compiler sums the whole,
which then is there twice."""
_KEPT_BY_DOTS = {"layer_input", "q", "k", "v", "attention_output", "attention_projection", "mlp_up"}
"""Results of products and of attention, but for those that no gradient asks for, and what enters the layer."""


def estimated_bytes(step: PlannedStep, mesh_sizes: Mapping[str, int]) -> int:
    """The bytes of a device that a step takes at most at a time.

    Args:
        step: the step; its own mesh does not count.
        mesh_sizes: the sizes of all axes of the mesh.

    Raises:
        UserError: the mesh does not divide the model or the batch.
    """
    mesh = AbstractMesh(tuple(mesh_sizes.values()), tuple(mesh_sizes))
    trained = trained_table(step.model, step.adapters)
    tokens = _tokens(step, mesh)
    return round(
        _argument_bytes(step, mesh)
        + _gradient_bytes(trained, step, mesh)
        + step.model.num_layers * tokens * _kept_bytes(step.model, mesh)
        + max(_loss_bytes(step, mesh, tokens), _layer_bytes(step, mesh, tokens))
    )


def offloaded_bytes(step: PlannedStep, mesh_sizes: Mapping[str, int]) -> int:
    """The bytes of its host's memory in which a device keeps activations."""
    model, mesh = step.model, AbstractMesh(tuple(mesh_sizes.values()), tuple(mesh_sizes))
    widths = _widths(model, mesh)
    kept = _itemsize(model) * sum(widths[name] for name in model.offloaded_activations)
    return round(model.num_layers * _tokens(step, mesh) * kept)


def _argument_bytes(step: PlannedStep, mesh: Any) -> int:
    """Of parameters, moments, frozen parameters and the batch."""
    batch = abstract_batch(mesh, step.training.batch_size, step.model.context_length)
    optimizer = TrainingConfig(optimizer=step.training.optimizer, moments_dtype=step.training.moments_dtype)
    tables = trained_table(step.model, step.adapters), untrained_table(step.model, step.adapters)
    return _bytes_on_device(batch) + _state_bytes(*tables, optimizer, mesh)


@functools.lru_cache(maxsize=1024)
def _state_bytes(trained: Table, frozen: Table, optimizer: TrainingConfig, mesh: Any) -> int:
    """Of all but the batch, which differs from mesh to mesh alone: tracing what makes it takes a tenth of a second."""
    return _bytes_on_device(abstract_state(trained, optimizer, mesh, frozen))


def _bytes_on_device(arrays: Any) -> int:
    return sum(
        math.prod(each.sharding.shard_shape(each.shape)) * each.dtype.itemsize for each in jax.tree.leaves(arrays)
    )


def _gradient_bytes(trained: Table, step: PlannedStep, mesh: Any) -> int:
    """Of all gradients, with their sums where a batch is computed in parts; and of the parameters as computed in."""
    gradients = _FLOAT32 * (1 + (step.training.accumulation > 1))
    computed = _itemsize(step.model) if step.model.compute_dtype != "float32" else 0
    return (gradients + computed) * _elements(trained, mesh)


def _tokens(step: PlannedStep, mesh: Any) -> float:
    """Positions that a device computes at a time."""
    rows = step.training.batch_size / step.training.accumulation / rules.shard_count(mesh, rules.BATCH)
    return rows * step.model.context_length / rules.shard_count(mesh, rules.LENGTH)


def _kept_bytes(model: ModelConfig, mesh: Any) -> float:
    """Of a position and layer, until the layer's backward pass."""
    widths, itemsize = _widths(model, mesh), _itemsize(model)
    sums = _FLOAT32 * model.num_heads / rules.shard_count(mesh, rules.HEADS)
    if model.rematerialization == "none":
        # Each norm keeps three arrays and two numbers in float32, and what it hands on; GELU what its polynomial has.
        residual, mlp = widths["layer_input"], widths["mlp_up"]
        attention = 3 * widths["q"] + widths["k"] + widths["v"]
        return _FLOAT32 * (6 * residual + 4) + itemsize * (4 * residual + 6 * mlp + attention) + sums
    kept = _kept_names(model)
    return itemsize * sum(widths[name] for name in kept) + sums * ("attention_output" in kept)


def _kept_names(model: ModelConfig) -> Set[str]:
    if model.rematerialization == "dots":
        return _KEPT_BY_DOTS
    # No gradient asks for what is only added to the residual stream behind it.
    named = set(model.kept_activations) - {"mlp_down"}
    return (named | {"layer_input"}) - set(model.offloaded_activations)


def _layer_bytes(step: PlannedStep, mesh: Any, tokens: float) -> float:
    """Of a layer's backward pass: its activations and their gradients, its weights and theirs, gathered."""
    model = step.model
    # Of the norms also what they hand on.
    widths = _widths(model, mesh)
    width = sum(widths.values()) + 2 * widths["layer_input"]
    layer = tuple(each for each in parameter_table(model) if each.stacked)
    weights = _elements(layer, _gathered(mesh)) / model.num_layers
    return 2 * _itemsize(model) * width * tokens + _with_gradient(step, mesh) * weights


def _loss_bytes(step: PlannedStep, mesh: Any, tokens: float) -> float:
    """Of the loss: the logits of a chunk and their gradients, the output projection and its gradient, gathered."""
    model, itemsize = step.model, _itemsize(step.model)
    vocabulary = model.vocab_size / rules.shard_count(mesh, rules.VOCAB)
    chunk = min(step.training.loss_chunk or tokens, tokens)
    logits = (2 * _FLOAT32 + itemsize) * chunk * vocabulary
    return logits + (_with_gradient(step, mesh) * vocabulary + 2 * itemsize * tokens) * model.embed_dim


def _with_gradient(step: PlannedStep, mesh: Any) -> int:
    """Bytes of an element of gathered weights in the type of the computation, and of its gradient if it has one."""
    if step.adapters.rank:
        return _itemsize(step.model)
    shards = rules.shard_count(mesh, rules.EMBED)
    is_summed_whole = shards > 1 and step.model.embed_dim // shards % TILE_ROWS
    return _itemsize(step.model) + _FLOAT32 * (2 if is_summed_whole else 1)


def _widths(model: ModelConfig, mesh: Any) -> dict[str, float]:
    """Elements of a position on a device, by the names of a layer's activations."""
    heads, kv_heads = (rules.shard_count(mesh, axis) for axis in (rules.HEADS, rules.KV_HEADS))
    channels = model.num_heads / heads * model.head_dim
    own = model.num_kv_heads / kv_heads if model.num_kv_heads % kv_heads == 0 else model.num_kv_heads
    mlp = model.mlp_dim / rules.shard_count(mesh, rules.MLP)
    split = {"q": channels, "attention_output": channels, "mlp_up": mlp, "mlp_hidden": mlp}
    split |= dict.fromkeys(("k", "v"), own * model.head_dim)
    return {name: split.get(name, model.embed_dim) for name in ACTIVATIONS}


def _elements(table: Table, mesh: Any) -> int:
    """Of a device's part of the parameters."""
    return sum(math.prod(rules.sharding(mesh, each.axes, each.shape).shard_shape(each.shape)) for each in table)


def _gathered(mesh: Any) -> AbstractMesh:
    """The mesh as it is for parameters that have been gathered for use."""
    sizes = dict(mesh.shape) | {"fsdp": 1}
    return AbstractMesh(tuple(sizes.values()), tuple(sizes))


def _itemsize(model: ModelConfig) -> int:
    return jnp.dtype(model.compute_dtype).itemsize
