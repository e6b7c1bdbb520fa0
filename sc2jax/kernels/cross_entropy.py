"""The output projection and its cross-entropy in chunks of tokens: logits of a whole row never exist.

The gradients are computed together with the loss, chunk by chunk, as in Liger Kernel's fused linear cross-entropy
(arXiv 2410.10989). That takes three products, where a backward pass that recomputes the logits takes four, and memory
holds no more than one chunk of logits and the gradients themselves. Dimensions: M tokens, C tokens of a chunk, D embed,
V vocabulary.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class LossAndGradients(NamedTuple):
    """The weighted sum of the losses, the losses, and the gradients of the sum; float32 but for the hidden states'.

    With a z-loss the gradients are those of the sum of both; the values are without it.
    """

    total: jax.Array
    losses_M: jax.Array
    d_hidden_MD: jax.Array
    d_output_VD: jax.Array


def reference_cross_entropy(hidden_MD: jax.Array, output_VD: jax.Array, targets_M: jax.Array) -> jax.Array:
    """The cross-entropy of each target in nats, float32, from all logits at once."""
    logits_MV = jnp.einsum(
        "MD,VD->MV", hidden_MD, output_VD.astype(hidden_MD.dtype), preferred_element_type=jnp.float32
    )
    target_M = jnp.take_along_axis(logits_MV, targets_M[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(logits_MV, axis=-1) - target_M


def chunked_cross_entropy(
    hidden_MD: jax.Array,
    output_VD: jax.Array,
    targets_M: jax.Array,
    weights_M: jax.Array,
    chunk: int,
    vocab_axes: tuple[str, ...] = (),
    z_loss: float = 0.0,
) -> LossAndGradients:
    """The loss and its gradients, `chunk` tokens at a time (the last chunk is padded).

    Args:
        hidden_MD: final hidden states, in the type of the products.
        output_VD: the output projection, float32; inside a shard_map, this shard's part of the vocabulary.
        targets_M: the token to predict at each position.
        weights_M: how much each target counts.
        chunk: how many tokens' logits exist at a time.
        vocab_axes: the mesh axes that the vocabulary is split over.
        z_loss: weight of the square of the logarithm of the softmax's sum.
    """
    chunked = partial(_chunked, chunk=chunk, vocab_axes=vocab_axes, z_loss=z_loss)
    return jax.lax.platform_dependent(
        hidden_MD,
        output_VD,
        targets_M,
        weights_M,
        # A CPU's product is slower with the larger operand transposed; elsewhere the other order costs a copy of the
        # whole gradient.
        cpu=partial(chunked, embed_first=True),
        default=partial(chunked, embed_first=False),
    )


def _chunked(
    hidden_MD: jax.Array,
    output_VD: jax.Array,
    targets_M: jax.Array,
    weights_M: jax.Array,
    *,
    chunk: int,
    vocab_axes: tuple[str, ...],
    z_loss: float,
    embed_first: bool,
) -> LossAndGradients:
    """The same; the gradient of the output projection is summed as (D, V) if `embed_first`, else as (V, D)."""
    M, D = hidden_MD.shape
    V = output_VD.shape[0]
    chunk = min(chunk, M)
    chunks = -(-M // chunk)
    cast_VD = output_VD.astype(hidden_MD.dtype)
    first_word = jax.lax.axis_index(vocab_axes) * V if vocab_axes else 0

    def over_vocab(x: jax.Array) -> jax.Array:
        return jax.lax.psum(x, vocab_axes) if vocab_axes else x

    def body(d_output: jax.Array, scanned: tuple[jax.Array, jax.Array, jax.Array]):
        hidden_CD, targets_C, weights_C = scanned
        logits_CV = jnp.einsum("CD,VD->CV", hidden_CD, cast_VD, preferred_element_type=jnp.float32)
        greatest_C1 = jnp.max(logits_CV, axis=-1, keepdims=True)
        if vocab_axes:
            greatest_C1 = jax.lax.pmax(greatest_C1, vocab_axes)
        log_sum_C1 = greatest_C1 + jnp.log(
            over_vocab(jnp.sum(jnp.exp(logits_CV - greatest_C1), axis=-1, keepdims=True))
        )
        is_target_CV = jnp.arange(V)[None, :] + first_word == targets_C[:, None]
        losses_C = log_sum_C1[:, 0] - over_vocab(jnp.sum(jnp.where(is_target_CV, logits_CV, 0.0), axis=-1))
        shares_CV = jnp.exp(logits_CV - log_sum_C1)
        if z_loss:
            shares_CV *= 1 + 2 * z_loss * log_sum_C1
        d_logits_CV = (shares_CV - is_target_CV) * weights_C[:, None]
        d_logits_CV = d_logits_CV.astype(hidden_MD.dtype)
        d_hidden_CD = over_vocab(jnp.einsum("CV,VD->CD", d_logits_CV, cast_VD, preferred_element_type=jnp.float32))
        if embed_first:
            d_output += jnp.einsum("CD,CV->DV", hidden_CD, d_logits_CV, preferred_element_type=jnp.float32)
        else:
            d_output += jnp.einsum("CV,CD->VD", d_logits_CV, hidden_CD, preferred_element_type=jnp.float32)
        return d_output, (losses_C, d_hidden_CD.astype(hidden_MD.dtype))

    def in_chunks(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, chunks * chunk - M)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(chunks, chunk, *x.shape[1:])

    scanned = (in_chunks(hidden_MD), in_chunks(targets_M), in_chunks(weights_M.astype(jnp.float32)))
    nothing = jnp.zeros((D, V) if embed_first else (V, D), jnp.float32)
    d_output, (losses, d_hidden) = jax.lax.scan(body, nothing, scanned)
    d_output_VD = d_output.T if embed_first else d_output
    losses_M = losses.reshape(-1)[:M]
    total = jnp.sum(losses_M * weights_M)
    return LossAndGradients(total, losses_M, d_hidden.reshape(-1, D)[:M], d_output_VD)
