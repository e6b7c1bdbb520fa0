"""Low-rank adapters (LoRA, arXiv 2106.09685): a further map over the parameter table, and how they join the parameters.

A linear layer with the kernel W gets two small ones, A and B, and computes `x W + alpha / rank * (x A) B`. They alone
are trained; what they are added to is frozen: it has neither gradients nor moments, and is held in the type of the
computation. They are initialised as `peft` does it: B with zeros, so that training begins with the model as it was.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sc2jax.model.config import AdapterConfig
from sc2jax.model.params import Parameter, Params, Table, Uniform, join_trees
from sc2jax.parallel import rules

A, B = "lora_a", "lora_b"
"""The names of an adapter's two kernels, beside the kernel that they are added to."""

_KERNEL = "kernel"
_HF_PREFIX = "base_model.model."
"""Before the names of a model's modules in the format of `peft`, which wraps the model twice."""

AdaptedLoss = Callable[[Params, Params, Mapping[str, jax.Array], jax.Array], tuple[jax.Array, jax.Array]]


def adapter_table(table: Table, adapters: AdapterConfig) -> Table:
    """The parameters of the adapters of a model's linear layers, those that the config names.

    Both kernels are split over devices as the one that they are added to, and their rank over none. Weight decay
    applies to both, as to other matrices: it draws the model back to what it was.
    """
    kernels = [entry for entry in table if entry.path[-1] == _KERNEL and entry.path[-2] in adapters.targets]
    return tuple(part for kernel in kernels for part in _adapter_of(kernel, adapters.rank))


def _adapter_of(kernel: Parameter, rank: int) -> tuple[Parameter, Parameter]:
    into, out = kernel.sides
    inputs = len(into)
    axes_in, axes_out = kernel.axes[1 : 1 + inputs], kernel.axes[1 + inputs :]
    layers, layer_axis, path = kernel.shape[0], kernel.axes[0], kernel.path[:-1]
    name_a, name_b = (
        _HF_PREFIX + kernel.hf_name.removesuffix("weight") + f"{part}.weight" for part in ("lora_A", "lora_B")
    )
    dims_in, dims_out = tuple(range(inputs)), tuple(range(1, 1 + len(out)))
    bound = Uniform(1 / math.sqrt(math.prod(into)))  # what `kaiming_uniform_(a=sqrt(5))` of torch comes to
    return (
        Parameter(
            (*path, A), (layers, *into, rank), (layer_axis, *axes_in, rules.RANK), bound, True, name_a,
            ((inputs,), dims_in),
        ),
        Parameter(
            (*path, B), (layers, rank, *out), (layer_axis, rules.RANK, *axes_out), "zeros", True, name_b,
            (dims_out, (0,)),
        ),
    )  # fmt: skip


def with_adapters(params: Params, adapters: Params, config: AdapterConfig) -> Params:
    """The parameters with each adapter beside its kernel, as `linear` takes it: B is multiplied by alpha / rank."""
    scale = config.alpha / config.rank

    def scaled(path: tuple[Any, ...], array: jax.Array) -> jax.Array:
        return array * scale if path[-1].key == B else array

    return join_trees(params, jax.tree_util.tree_map_with_path(scaled, adapters))


def adapted(loss: AdaptedLoss, config: AdapterConfig) -> AdaptedLoss:
    """The loss of a model whose trained parameters are adapters and whose frozen ones are all others."""

    def with_frozen(
        params: Params, frozen: Params, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return loss(with_adapters(frozen, params, config), {}, batch, key)

    return with_frozen


def merged(params: Params, adapters: Params, config: AdapterConfig) -> Params:
    """The parameters of the model without adapters that computes the same, in the types of `params`.

    The products are taken in float32, one layer at a time.
    """
    return _merge(with_adapters(params, adapters, config))


def _merge(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    if A not in node:
        return {name: _merge(below) for name, below in node.items()}
    kernel = jax.lax.map(lambda layer: _merged_kernel(*layer), (node[_KERNEL], node[A], node[B]))
    return {name: array for name, array in node.items() if name not in (A, B)} | {_KERNEL: kernel}


def _merged_kernel(kernel: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    product = jnp.tensordot(a, b, axes=1, precision=jax.lax.Precision.HIGHEST)
    return (kernel.astype(jnp.float32) + product).astype(kernel.dtype)
