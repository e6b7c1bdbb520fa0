"""StarCoder2's training loss: the cross-entropy of the next token.

The output projection and the cross-entropy are computed together, chunk by chunk, so that the logits of a batch never
exist. Over several devices each computes the losses of its rows and positions, with its part of the vocabulary.
Dimensions: B batch, T position, D embed, V vocabulary, M tokens.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sc2jax.kernels.cross_entropy import chunked_cross_entropy
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params, join_trees
from sc2jax.model.transformer import forward, output_logits, output_projection
from sc2jax.parallel import rules

HIDDEN = (rules.BATCH, rules.LENGTH, rules.ACTIVATION_EMBED)
TOKENS = (rules.BATCH, rules.LENGTH)
OUTPUT = (rules.VOCAB, rules.EMBED)

BATCH = {"tokens": "int32", "targets": "int32", "segment_ids": "int32", "positions": "int32", "weights": "float32"}
"""The arrays (B, T) of a batch, with their types."""


def next_token_loss(
    config: ModelConfig, chunk: int, mesh: Mesh | None = None, z_loss: float = 0.0
) -> Callable[[Params, Params, Mapping[str, jax.Array], jax.Array], tuple[jax.Array, jax.Array]]:
    """The loss of a batch as the train step takes it: weighted sum of the cross-entropies, and sum of the weights.

    The model's parameters are those that are trained and the frozen ones together. A batch is the arrays of
    `BATCH`; its weights are those of the targets.

    Args:
        config: the model.
        chunk: tokens whose logits exist at a time on each device; 0: all of them.
        mesh: where the arrays live, if sharded.
        z_loss: weight of log(Z)^2, where Z is the sum of the softmax (PaLM, arXiv 2204.02311, section 5). Its gradient
            is added to that of the sum, its value is not.
    """

    def loss(
        params: Params, frozen: Params, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        params = join_trees(params, frozen)
        targets_BT, weights_BT = batch["targets"], batch["weights"]
        if chunk:
            hidden_BTD, output_VD = _hidden(params, batch, config, mesh, key), output_projection(params, config)
            total: Any = total_loss(hidden_BTD, output_VD, targets_BT, weights_BT, chunk, mesh, z_loss)
        else:
            logits_BTV = output_logits(params, _hidden(params, batch, config, mesh, key), config)
            losses_BT = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, targets_BT)
            total = jnp.sum(losses_BT * weights_BT)
            if z_loss:
                z = z_loss * jnp.sum(jnp.square(jax.nn.logsumexp(logits_BTV, axis=-1)) * weights_BT)
                total += z - jax.lax.stop_gradient(z)
        return total, jnp.sum(weights_BT)

    return loss


def token_losses(
    params: Params, batch: Mapping[str, jax.Array], config: ModelConfig, mesh: Mesh | None, key: jax.Array
) -> jax.Array:
    """The cross-entropy of each target (B, T), in nats, float32, from all logits at once."""
    logits_BTV = output_logits(params, _hidden(params, batch, config, mesh, key), config)
    return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, batch["targets"])


def _hidden(
    params: Params, batch: Mapping[str, jax.Array], config: ModelConfig, mesh: Mesh | None, key: jax.Array
) -> jax.Array:
    drops = max(config.embedding_dropout, config.attention_dropout, config.residual_dropout) > 0.0
    return forward(
        params,
        batch["tokens"],
        config,
        segment_ids_BT=batch["segment_ids"],
        positions_BT=batch["positions"],
        mesh=mesh,
        dropout_key=key if drops else None,
    )


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def total_loss(
    hidden_BTD: jax.Array,
    output_VD: jax.Array,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
    chunk: int,
    mesh: Mesh | None = None,
    z_loss: float = 0.0,
) -> jax.Array:
    """The weighted sum of the targets' cross-entropies in nats, float32.

    The gradients come with the value, see `chunked_cross_entropy`; the backward pass only scales them. Each device
    gathers the output projection once, in the type of the products, and sums its gradient over devices once, after the
    last chunk.

    Args:
        hidden_BTD: final hidden states.
        output_VD: the output projection, float32.
        targets_BT: the token that follows each.
        weights_BT: how much each target counts; no gradient flows to them.
        chunk: tokens whose logits exist at a time on each device.
        mesh: where the arrays live, if sharded.
        z_loss: as in `next_token_loss`.
    """
    return _forward(hidden_BTD, output_VD, targets_BT, weights_BT, chunk, mesh, z_loss)[0]


def _forward(
    hidden_BTD: jax.Array,
    output_VD: jax.Array,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
    chunk: int,
    mesh: Mesh | None,
    z_loss: float,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if mesh is None or mesh.size == 1:
        total, d_hidden_BTD, d_output_VD = _local(
            hidden_BTD, output_VD, targets_BT, weights_BT, chunk=chunk, mesh=None, z_loss=z_loss
        )
    else:
        mapped = rules.map_shards(
            partial(_local, chunk=chunk, mesh=mesh, z_loss=z_loss),
            mesh,
            [HIDDEN, OUTPUT, TOKENS, TOKENS],
            [((), ()), (HIDDEN, hidden_BTD.shape), (OUTPUT, output_VD.shape)],
        )
        total, d_hidden_BTD, d_output_VD = mapped(hidden_BTD, output_VD, targets_BT, weights_BT)
    return total, (d_hidden_BTD, d_output_VD)


def _backward(
    chunk: int, mesh: Mesh | None, z_loss: float, gradients: tuple[jax.Array, jax.Array], scale: jax.Array
) -> Any:
    del chunk, mesh, z_loss
    return *((gradient * scale).astype(gradient.dtype) for gradient in gradients), None, None


total_loss.defvjp(_forward, _backward)


def _local(
    hidden_BTD: jax.Array,
    output_VD: jax.Array,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
    *,
    chunk: int,
    mesh: Mesh | None,
    z_loss: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Total, and gradients of hidden states and output projection, of the part of the arrays that is here."""

    def axes_of(*axes: str) -> tuple[str, ...]:
        return () if mesh is None else tuple(name for axis in axes for name in rules.mesh_axes(mesh, axis))

    embed, vocab, tokens = axes_of(rules.EMBED), axes_of(rules.VOCAB), axes_of(rules.BATCH, rules.LENGTH)
    assert set(embed) <= set(tokens)  # so that each part of the embed dimension is summed over its own tokens below
    gathered_VD = output_VD.astype(hidden_BTD.dtype)
    if embed:
        gathered_VD = jax.lax.all_gather(gathered_VD, embed, axis=1, tiled=True)
    hidden_MD = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
    total, _, d_hidden_MD, d_output_VD = chunked_cross_entropy(
        hidden_MD, gathered_VD, targets_BT.reshape(-1), weights_BT.reshape(-1), chunk, vocab, z_loss
    )
    if tokens:
        total = jax.lax.psum(total, tokens)
    if embed:
        d_output_VD = jax.lax.psum_scatter(d_output_VD, embed, scatter_dimension=1, tiled=True)
    rest = tuple(name for name in tokens if name not in embed)
    if rest:
        d_output_VD = jax.lax.psum(d_output_VD, rest)
    return total, d_hidden_MD.reshape(hidden_BTD.shape), d_output_VD


def target_losses(
    params: Params, batch: Mapping[str, jax.Array], config: ModelConfig, chunk: int, mesh: Mesh | None = None
) -> jax.Array:
    """The cross-entropy of each target (B, T), in nats, float32, without dropout, for models that are only measured.

    Args:
        params: all parameters of the model.
        batch: as for `next_token_loss`.
        config: the model.
        chunk: tokens whose logits exist at a time on each device; 0: all of them.
        mesh: where the arrays live, if sharded.
    """
    hidden_BTD = forward(
        params,
        batch["tokens"],
        config,
        segment_ids_BT=batch["segment_ids"],
        positions_BT=batch["positions"],
        mesh=mesh,
    )
    targets_BT, local = batch["targets"], partial(_local_losses, chunk=chunk, mesh=mesh)
    if mesh is not None and mesh.size > 1:
        local = rules.map_shards(local, mesh, [HIDDEN, OUTPUT, TOKENS], [(TOKENS, targets_BT.shape)])
    return local(hidden_BTD, output_projection(params, config), targets_BT)[0]


def _local_losses(
    hidden_BTD: jax.Array, output_VD: jax.Array, targets_BT: jax.Array, chunk: int, mesh: Mesh | None
) -> tuple[jax.Array]:
    """The losses of the targets that are here; the gradients that come with them are not used, nor computed."""
    embed, vocab = ((), ()) if mesh is None else (rules.mesh_axes(mesh, axis) for axis in (rules.EMBED, rules.VOCAB))
    gathered_VD = output_VD.astype(hidden_BTD.dtype)
    if embed:
        gathered_VD = jax.lax.all_gather(gathered_VD, embed, axis=1, tiled=True)
    hidden_MD, targets_M = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), targets_BT.reshape(-1)
    weights_M = jnp.zeros(targets_M.shape, jnp.float32)
    found = chunked_cross_entropy(hidden_MD, gathered_VD, targets_M, weights_M, chunk or len(targets_M), vocab)
    return (found.losses_M.reshape(targets_BT.shape),)
