"""The parameter table: every parameter is described once, and everything else is a map over the table.

Initialisation, abstract state, sharding, the optimizer's decay mask, counting and conversion read a table; none of them
names a parameter again, and none knows which model the table describes.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sc2jax.model.config import ModelConfig
from sc2jax.parallel import rules

Params: TypeAlias = Any
"""A tree of arrays with the paths of the table: nested dicts, the layers stacked along the first dimension."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An initialisation: numbers between -bound and bound, all equally likely."""

    bound: float


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a model; those of layers that are scanned have a leading layers dimension."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    axes: tuple[str, ...]  # logical names of the dimensions, see parallel/rules.py
    # A number is the standard deviation of a normal distribution around 0.
    init: float | Uniform | Literal["zeros", "ones"]
    decayed: bool  # weight decay applies to it: to matrices, not to biases and norms
    hf_name: str = ""  # its name in Hugging Face's format; {layer} where there is one tensor a layer
    # For each dimension of Hugging Face's tensor, the dimensions of one layer's array that it flattens: heads and their
    # sizes are one dimension there, and a kernel is stored as (outputs, inputs).
    hf_dims: tuple[tuple[int, ...], ...] = ()
    dtype: str = "float32"  # what it is held in

    @property
    def stacked(self) -> bool:
        """Whether it is stacked over the layers, along its first dimension."""
        return self.axes[0] == rules.LAYERS

    @property
    def layer_shape(self) -> tuple[int, ...]:
        """The shape of one layer's array, or of the whole array if it belongs to no layer."""
        return self.shape[1:] if self.stacked else self.shape

    @property
    def sides(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The dimensions of a kernel's inputs and those of its outputs, in one layer's array: sizes, inputs first."""
        inputs = len(self.hf_dims[1])
        return self.layer_shape[:inputs], self.layer_shape[inputs:]

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """The shape of its tensor in Hugging Face's format."""
        return tuple(math.prod(self.layer_shape[dim] for dim in dims) for dims in self.hf_dims)


Table: TypeAlias = tuple[Parameter, ...]
"""All parameters of one model."""


def parameter_table(config: ModelConfig) -> Table:
    """The parameters of StarCoder2 (shapes: paper, section 6.1; names: released weights)."""
    L, D, F, V = config.num_layers, config.embed_dim, config.mlp_dim, config.vocab_size
    N, K, H, normal = config.num_heads, config.num_kv_heads, config.head_dim, config.init_stddev
    layers, embed, mlp, vocab = rules.LAYERS, rules.EMBED, rules.MLP, rules.VOCAB
    heads, kv_heads, head_dim = rules.HEADS, rules.KV_HEADS, rules.HEAD_DIM

    def norm(name: str, hf_name: str) -> list[Parameter]:
        path, shape, axes = ("layers", name), (L, D), (layers, embed)
        weight, bias = f"model.layers.{{layer}}.{hf_name}.weight", f"model.layers.{{layer}}.{hf_name}.bias"
        return [
            Parameter((*path, "scale"), shape, axes, "ones", False, weight, ((0,),)),
            Parameter((*path, "bias"), shape, axes, "zeros", False, bias, ((0,),)),
        ]

    def linear(
        path: tuple[str, str], hf_name: str, shape: tuple[int, ...], axes: tuple[str, ...], inputs: int
    ) -> list[Parameter]:
        full = ("layers", *path)
        weight, bias = f"model.layers.{{layer}}.{hf_name}.weight", f"model.layers.{{layer}}.{hf_name}.bias"
        into, out = tuple(range(inputs)), tuple(range(inputs, len(shape)))
        out_shape, out_axes, out_dims = shape[inputs:], axes[inputs:], tuple(range(len(out)))
        return [
            Parameter((*full, "kernel"), (L, *shape), (layers, *axes), normal, True, weight, (out, into)),
            Parameter((*full, "bias"), (L, *out_shape), (layers, *out_axes), "zeros", False, bias, (out_dims,)),
        ]

    table = [
        Parameter(("embedding",), (V, D), (vocab, embed), normal, True, "model.embed_tokens.weight", ((0,), (1,))),
        *norm("attention_norm", "input_layernorm"),
        *linear(("attention", "q"), "self_attn.q_proj", (D, N, H), (embed, heads, head_dim), 1),
        *linear(("attention", "k"), "self_attn.k_proj", (D, K, H), (embed, kv_heads, head_dim), 1),
        *linear(("attention", "v"), "self_attn.v_proj", (D, K, H), (embed, kv_heads, head_dim), 1),
        *linear(("attention", "o"), "self_attn.o_proj", (N, H, D), (heads, head_dim, embed), 2),
        *norm("mlp_norm", "post_attention_layernorm"),
        *linear(("mlp", "up"), "mlp.c_fc", (D, F), (embed, mlp), 1),
        *linear(("mlp", "down"), "mlp.c_proj", (F, D), (mlp, embed), 1),
        Parameter(("final_norm", "scale"), (D,), (embed,), "ones", False, "model.norm.weight", ((0,),)),
        Parameter(("final_norm", "bias"), (D,), (embed,), "zeros", False, "model.norm.bias", ((0,),)),
    ]
    if not config.tie_embeddings:
        table.append(Parameter(("output",), (V, D), (vocab, embed), normal, True, "lm_head.weight", ((0,), (1,))))
    return tuple(table)


def map_table(table: Table, function: Callable[[Parameter], Any]) -> Params:
    """A tree with the table's paths, holding `function(parameter)` for each parameter."""
    tree: dict[str, Any] = {}
    for parameter in table:
        node = tree
        for name in parameter.path[:-1]:
            node = node.setdefault(name, {})
        node[parameter.path[-1]] = function(parameter)
    return tree


def join_trees(one: Params, other: Params) -> Params:
    """The tree with the paths of both, which have none in common."""
    joined = dict(one)
    for name, node in other.items():
        joined[name] = join_trees(joined[name], node) if name in joined else node
    return joined


def frozen_table(table: Table, compute_dtype: str) -> Table:
    """The same parameters for a run that does not train them: held in the type they are computed in."""
    return tuple(dataclasses.replace(each, dtype=computed_in(each.path, compute_dtype)) for each in table)


def computed_in(path: tuple[str, ...], compute_dtype: str) -> str:
    """The type that a parameter enters the computation in: those of norms stay float32."""
    return "float32" if any(name.endswith("norm") for name in path) else compute_dtype


def init_params(table: Table, key: jax.Array) -> Params:
    """Random parameters, each from a key derived from its path, so that adding one changes no other."""

    def init(parameter: Parameter) -> jax.Array:
        if parameter.init == "ones":
            return jnp.ones(parameter.shape, parameter.dtype)
        if parameter.init == "zeros":
            return jnp.zeros(parameter.shape, parameter.dtype)
        own_key = jax.random.fold_in(key, zlib.crc32("/".join(parameter.path).encode()))
        if isinstance(parameter.init, Uniform):
            bound = parameter.init.bound
            drawn = jax.random.uniform(own_key, parameter.shape, jnp.float32, -bound, bound)
        else:
            drawn = parameter.init * jax.random.normal(own_key, parameter.shape, jnp.float32)
        return drawn.astype(parameter.dtype)

    return map_table(table, init)


def abstract_params(table: Table, mesh: Mesh | None = None) -> Params:
    """Shapes and types of the parameters, with their shardings if a mesh is given; nothing is allocated."""

    def abstract(parameter: Parameter) -> jax.ShapeDtypeStruct:
        placement = None if mesh is None else rules.sharding(mesh, parameter.axes, parameter.shape)
        return jax.ShapeDtypeStruct(parameter.shape, parameter.dtype, sharding=placement)

    return map_table(table, abstract)


def param_shardings(table: Table, mesh: Mesh) -> Params:
    """Where each parameter lives.

    Raises:
        UserError: the mesh does not divide one; the message names the nearest meshes that divide all.
    """
    rules.refuse_indivisible(mesh, (pair for each in table for pair in zip(each.axes, each.shape, strict=True)))
    return map_table(table, lambda parameter: rules.sharding(mesh, parameter.axes, parameter.shape))


def decay_mask(table: Table) -> Params:
    """True where weight decay applies."""
    return map_table(table, lambda parameter: parameter.decayed)


def stacked_mask(table: Table) -> Params:
    """True where layers are stacked along the first dimension."""
    return map_table(table, lambda parameter: parameter.stacked)


def count_params(table: Table) -> int:
    """The number of parameters, without allocating any."""
    return sum(math.prod(parameter.shape) for parameter in table)
