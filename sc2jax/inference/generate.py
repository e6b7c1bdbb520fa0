"""Generation by KV-cache decoding. It knows token ids only: documents, prompts and stop sets are made elsewhere."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.errors import UserError
from sc2jax.model.cache import cache_slots, decode_step, prefill, unstack
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params

LENGTH_MULTIPLE = 64
"""Prompts are padded to a multiple of this many tokens, so that few lengths are compiled."""


@dataclasses.dataclass(frozen=True)
class Completion:
    """The tokens after a prompt, without the stop token; `finished` tells whether one was reached."""

    ids: list[int]
    finished: bool


def generate(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int],
    vocab_size: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
) -> list[Completion]:
    """Continues each prompt until a stop token or `max_new_tokens`.

    What stands beside a prompt does not change its completion: rows of a batch never see each other. Backends may sum
    in another order for another batch size, which in bfloat16 can tip the balance between two almost equal tokens.

    Args:
        params: the model's parameters.
        config: the model's shape.
        prompts: token ids, at least one each.
        max_new_tokens: of each completion.
        stop_ids: tokens that end a completion.
        vocab_size: only ids below it are chosen, as if the model had no others: those of the tokenizer, which a model
            may have been given a larger vocabulary than. 0: all that the model knows.
        temperature: 0 takes the likeliest token; else tokens are drawn from the logits divided by it.
        top_p: draws only from the likeliest tokens that together have this probability.
        seed: of the draws; prompt i draws the same tokens whatever stands beside it.
        batch_size: prompts decoded together.

    Raises:
        UserError: an empty prompt, a token that the model does not know, or a number out of range.
    """
    _check_prompts(prompts, config)
    if max_new_tokens < 0 or batch_size < 1 or vocab_size < 0:
        raise UserError(
            f"max_new_tokens {max_new_tokens} and vocab_size {vocab_size} must be at least 0, batch_size {batch_size} "
            "at least 1"
        )
    if not 0.0 <= temperature < math.inf or not 0.0 < top_p <= 1.0:
        raise UserError(f"temperature {temperature} must be at least 0 and finite, top_p {top_p} in (0, 1]")
    if max_new_tokens == 0:
        return [Completion([], finished=False) for _ in prompts]
    completions: dict[int, Completion] = {}
    # Prompts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen)) if len(order) > batch_size else chosen
        lengths = np.array([len(prompts[index]) for index in padded], np.int32)
        tokens = np.zeros((len(padded), -(-lengths.max() // LENGTH_MULTIPLE) * LENGTH_MULTIPLE), np.int32)
        for row, index in enumerate(padded):
            tokens[row, : lengths[row]] = prompts[index]
        out = _generate_batch(
            params,
            tokens,
            lengths,
            np.array(padded, np.int32),
            np.array(sorted(stop_ids), np.int32),
            np.array([temperature, top_p], np.float32),
            jax.random.key(seed),
            config=config,
            max_new_tokens=max_new_tokens,
            greedy=temperature == 0.0,
            choices=min(vocab_size or config.vocab_size, config.vocab_size),
        )
        ids_BT, counts_B, finished_B = (np.asarray(array) for array in out)
        for row, index in enumerate(chosen):
            completions[index] = Completion(ids_BT[row, : counts_B[row]].tolist(), bool(finished_B[row]))
    return [completions[index] for index in range(len(prompts))]


def _check_prompts(prompts: Sequence[Sequence[int]], config: ModelConfig) -> None:
    if any(len(prompt) == 0 for prompt in prompts):
        raise UserError("a prompt has no token; begin it with text or with a special token")
    for token in (min(map(min, prompts), default=0), max(map(max, prompts), default=0)):
        if not 0 <= token < config.vocab_size:
            raise UserError(
                f"a prompt holds the token {token}, and the model knows {config.vocab_size}, from 0 on: it was not "
                "trained with this tokenizer; name its own with --config.paths.tokenizer"
            )


@partial(jax.jit, static_argnames=("config", "max_new_tokens", "greedy", "choices"))
def _generate_batch(
    params: Params,
    tokens_BT: jax.Array,
    lengths_B: jax.Array,
    prompt_B: jax.Array,
    stop_ids: jax.Array,
    sampling: jax.Array,
    key: jax.Array,
    *,
    config: ModelConfig,
    max_new_tokens: int,
    greedy: bool,
    choices: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """New tokens (B, max_new_tokens), how many of them count, and whether a stop token was reached."""
    B = tokens_BT.shape[0]
    keys_B = jax.vmap(partial(jax.random.fold_in, key))(prompt_B)
    logits_BV, cache = prefill(
        params, tokens_BT, lengths_B, config, cache_slots(config, tokens_BT.shape[1] + max_new_tokens)
    )
    if jax.default_backend() == "cpu":
        params, cache = unstack(params, cache, config)

    def unfinished(carry: Any) -> jax.Array:
        return (carry[0] < max_new_tokens) & ~jnp.all(carry[-1])

    def step(carry: Any) -> Any:
        count, logits_BV, cache, out_BT, counts_B, done_B = carry
        chosen_B = choose_tokens(logits_BV[:, :choices], keys_B, count, sampling, greedy)
        done_B |= jnp.isin(chosen_B, stop_ids)
        out_BT = out_BT.at[:, count].set(chosen_B)
        counts_B += ~done_B
        logits_BV, cache = decode_step(params, chosen_B, lengths_B + count, cache, config)
        return count + 1, logits_BV, cache, out_BT, counts_B, done_B

    out_BT = jnp.zeros((B, max_new_tokens), jnp.int32)
    carry = (0, logits_BV, cache, out_BT, jnp.zeros(B, jnp.int32), jnp.zeros(B, bool))
    *_, out_BT, counts_B, done_B = jax.lax.while_loop(unfinished, step, carry)
    return out_BT, counts_B, done_B


def choose_tokens(
    logits_BV: jax.Array, keys_B: jax.Array, count: jax.Array, sampling: jax.Array, greedy: bool
) -> jax.Array:
    """The next token of each sequence: the likeliest, or a draw with (temperature, top_p) = `sampling`."""
    if greedy:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    temperature, top_p = sampling
    scaled_BV = logits_BV / temperature
    sorted_BV = -jnp.sort(-scaled_BV, axis=-1)
    probabilities_BV = jax.nn.softmax(sorted_BV, axis=-1)
    # A token stays if the likelier ones together fall short of top_p: the first always does.
    kept_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV < top_p
    least_B1 = jnp.min(jnp.where(kept_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
    nucleus_BV = jnp.where(scaled_BV >= least_B1, scaled_BV, -jnp.inf)
    keys_B = jax.vmap(lambda key: jax.random.fold_in(key, count))(keys_B)
    return jax.vmap(jax.random.categorical)(keys_B, nucleus_BV).astype(jnp.int32)
