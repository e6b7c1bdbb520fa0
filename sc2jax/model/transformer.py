"""The functional StarCoder2: a plain function from parameters and tokens to hidden states and logits.

Pre-LayerNorm blocks with biases everywhere but on the output projection, GELU with the tanh approximation, rotary
embeddings (StarCoder2 paper, section 6.1, and the released config.json). Layers are stacked and scanned. Dimensions: B
batch, T position, D embed, N query heads, K key-value heads, H head size, F mlp, V vocabulary, L layers.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh

from sc2jax.errors import UserError
from sc2jax.kernels.reference import ATTENTION_OUTPUT, dropout, rotary_angles, rotate
from sc2jax.model.attention import attention
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params, computed_in
from sc2jax.parallel import rules

Kept = TypeVar("Kept")

HOST_MEMORY = "pinned_host"
"""What JAX calls the memory of the host that a device reads and writes by itself."""

ACTIVATION = (rules.BATCH, rules.LENGTH, rules.ACTIVATION_EMBED)


def forward(
    params: Params,
    tokens_BT: jax.Array,
    config: ModelConfig,
    *,
    segment_ids_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    mesh: Mesh | None = None,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Final hidden states (B, T, D) of whole sequences.

    Args:
        params: a tree with the paths of the parameter table, float32.
        tokens_BT: token ids.
        config: the model's shape.
        segment_ids_BT: tokens of different segments do not see each other; by default each row is one segment.
        positions_BT: for the rotary embedding; by default 0, 1, 2, ...
        mesh: where the activations live, if sharded.
        dropout_key: for the dropout masks; without it there is no dropout.
    """
    hidden_BTD, _ = forward_with_keys(
        params,
        tokens_BT,
        config,
        segment_ids_BT=segment_ids_BT,
        positions_BT=positions_BT,
        mesh=mesh,
        dropout_key=dropout_key,
    )
    return hidden_BTD


def forward_with_keys(
    params: Params,
    tokens_BT: jax.Array,
    config: ModelConfig,
    *,
    segment_ids_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    mesh: Mesh | None = None,
    dropout_key: jax.Array | None = None,
    keep: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
    """The same as `forward`, and what `keep` returns for each layer's rotated keys and for its values (B, T, K, H).

    It is applied within each layer, so that only its results, not all keys and values, are held for all layers at once.
    """
    B, T = tokens_BT.shape
    if positions_BT is None:
        positions_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    # If batch and length are both split, flattened tokens would have no placement, and each layer would gather them.
    # TPUs compute either form in the same tiles, and fuse more of what is around a product that is not reshaped.
    flat = device.platform != "tpu" and (mesh is None or rules.shard_count(mesh, rules.LENGTH) == 1)
    params = cast_params(params, config)
    angles = rotary_angles(positions_BT, config.head_dim, config.rope_theta)
    # The table is gathered over its embed dimension before the look-up. Otherwise XLA looks up all rows in each part of
    # the table and gathers the activations of the whole batch.
    embedding_VD = rules.constrain(params["embedding"], mesh, (rules.VOCAB, rules.ACTIVATION_EMBED))
    x_BTD = embedding_VD[tokens_BT]
    x_BTD = dropout(x_BTD, config.embedding_dropout, _fold(dropout_key, config.num_layers))
    x_BTD = rules.constrain(x_BTD, mesh, ACTIVATION)

    def body(x_BTD: jax.Array, scanned: tuple[Params, jax.Array]) -> tuple[jax.Array, Any]:
        layer_params, index = scanned
        x_BTD = checkpoint_name(x_BTD, "layer_input")
        layer_key = _fold(dropout_key, index)

        def attend(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array) -> tuple[jax.Array, Any]:
            mixed_BTNH = attention(
                q_BTNH,
                k_BTKH,
                v_BTKH,
                angles,
                config,
                segment_ids_BT=segment_ids_BT,
                mesh=mesh,
                dropout_key=_fold(layer_key, 0),
            )
            return mixed_BTNH, None if keep is None else (keep(rotate(k_BTKH, *angles)), keep(v_BTKH))

        x_BTD, kept = transformer_layer(layer_params, x_BTD, config, attend, layer_key, flat=flat)
        return rules.constrain(x_BTD, mesh, ACTIVATION), kept

    body = _rematerialized(body, config, device)
    layers = (params["layers"], jnp.arange(config.num_layers))
    x_BTD, keys = jax.lax.scan(body, x_BTD, layers, unroll=config.scan_unroll)
    return layer_norm(x_BTD, params["final_norm"], config.norm_epsilon), keys


def transformer_layer(
    params: Params,
    x_BTD: jax.Array,
    config: ModelConfig,
    attend: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Kept]],
    dropout_key: jax.Array | None = None,
    *,
    flat: bool = True,
) -> tuple[jax.Array, Kept]:
    """One layer. Returns its output, and what is kept of its keys and values.

    `attend(q, k, v)` is given queries and keys as projected, and returns the mixed values and what is to be kept. The
    rotation is left to it, since some kernels rotate what they read and only the cache needs rotated keys. `flat` is
    that of `linear`.
    """
    project = partial(linear, flat=flat)
    normed_BTD = layer_norm(x_BTD, params["attention_norm"], config.norm_epsilon)
    mixed_BTNH, kept = attend(*(project(normed_BTD, params["attention"][name], name) for name in ("q", "k", "v")))
    mixed_BTD = project(mixed_BTNH, params["attention"]["o"], "attention_projection", input_dims=2)
    x_BTD = x_BTD + dropout(mixed_BTD, config.residual_dropout, _fold(dropout_key, 1))

    normed_BTD = layer_norm(x_BTD, params["mlp_norm"], config.norm_epsilon)
    up_BTF = project(normed_BTD, params["mlp"]["up"], "mlp_up")
    hidden_BTF = checkpoint_name(jax.nn.gelu(up_BTF, approximate=True), "mlp_hidden")
    out_BTD = project(hidden_BTF, params["mlp"]["down"], "mlp_down")
    x_BTD = x_BTD + dropout(out_BTD, config.residual_dropout, _fold(dropout_key, 2))
    return x_BTD, kept


def output_projection(params: Params, config: ModelConfig) -> jax.Array:
    """The output projection (V, D): the embedding where they are tied. It has no bias."""
    return params["embedding"] if config.tie_embeddings else params["output"]


def output_logits(params: Params, hidden_BTD: jax.Array, config: ModelConfig) -> jax.Array:
    """Logits over the vocabulary, float32, (..., V)."""
    output_VD = output_projection(params, config).astype(hidden_BTD.dtype)
    return jnp.einsum("...D,VD->...V", hidden_BTD, output_VD, preferred_element_type=jnp.float32)


def linear(
    x: jax.Array, params: Mapping[str, jax.Array], name: str, input_dims: int = 1, *, flat: bool = True
) -> jax.Array:
    """`x @ kernel + bias` over the last `input_dims` dimensions of x.

    Heads lie side by side in the product: a TPU's layout of (tokens, heads, head size) is another one than that of
    (tokens, heads * head size), and each change between them is a pass over memory. Barriers keep the TPU's compiler
    from moving the change into the product again, forward and backward. Where adapters lie beside the kernel
    (`model/adapters.py`), `(x @ lora_a) @ lora_b` is added.

    Args:
        x: the inputs.
        params: `kernel` of input and output dimensions, `bias` of the output dimensions, perhaps adapters.
        name: of the result, for rematerialization.
        input_dims: how many dimensions of x are summed over.
        flat: whether tokens are one dimension: XLA's CPU backend computes a product of two matrices faster than one
            with a batch dimension.
    """
    kernel = params["kernel"]
    into, outputs = math.prod(kernel.shape[:input_dims]), kernel.shape[input_dims:]
    before = x.shape[:-input_dims]
    rows = x.reshape(-1, into) if flat else x.reshape(*before, into)
    if input_dims > 1 and not flat:
        rows = jax.lax.optimization_barrier(rows)
    out = rows @ kernel.reshape(into, -1)
    if "lora_a" in params:
        a, b = params["lora_a"], params["lora_b"]
        out = out + (rows @ a.reshape(into, -1)) @ b.reshape(b.shape[0], -1)
    out = checkpoint_name(out + params["bias"].reshape((1,) * (out.ndim - 1) + (-1,)), name)
    if len(outputs) > 1 and not flat:
        out = jax.lax.optimization_barrier(out)
    return out.reshape(*before, *outputs)


def layer_norm(x: jax.Array, params: Mapping[str, jax.Array], epsilon: float) -> jax.Array:
    """LayerNorm over the last dimension with scale and bias, computed in float32."""
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, axis=-1, keepdims=True)
    centred = x32 - mean
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    scale, bias = (params[name].reshape((1,) * (x.ndim - 1) + (-1,)) for name in ("scale", "bias"))
    return (centred * jax.lax.rsqrt(variance + epsilon) * scale + bias).astype(x.dtype)


def cast_params(params: Params, config: ModelConfig) -> Params:
    """The parameters in the computation's type, but those of norms in float32. No other place casts parameters."""

    def cast(path: tuple[Any, ...], array: jax.Array) -> jax.Array:
        names = tuple(str(entry.key) for entry in path if isinstance(entry, jax.tree_util.DictKey))
        return array.astype(computed_in(names, config.compute_dtype))

    return jax.tree_util.tree_map_with_path(cast, params)


def _rematerialized(body: Callable[..., Any], config: ModelConfig, device: Any) -> Callable[..., Any]:
    """A layer of whose activations only some are held until its backward pass, on the device or in its host's memory.

    Raises:
        UserError: some are to be offloaded, and the device cannot reach memory of the host.
    """
    if config.rematerialization == "none":
        return body
    policies = jax.checkpoint_policies
    saved = None
    if config.rematerialization == "dots":
        # Attention is products too, within a kernel that would run twice.
        attended = policies.save_only_these_names(ATTENTION_OUTPUT)
        saved = policies.save_from_both_policies(policies.dots_with_no_batch_dims_saveable, attended)
    elif config.offloaded_activations:
        kinds = [memory.kind for memory in device.addressable_memories()]
        if HOST_MEMORY not in kinds:
            raise UserError(
                f"model.offloaded_activations need memory of kind {HOST_MEMORY}, and {device.device_kind} has "
                f"{', '.join(kinds)}; name them in model.kept_activations, or leave them out"
            )
        saved = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=config.kept_activations,
            names_which_can_be_offloaded=config.offloaded_activations,
            offload_src="device",
            offload_dst=HOST_MEMORY,
        )
    elif config.kept_activations:
        saved = policies.save_only_these_names(*config.kept_activations)
    return jax.checkpoint(body, policy=saved, prevent_cse=False)


def _fold(key: jax.Array | None, data: int | jax.Array) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, data)
