"""Decoding as three functions over the state of a fixed number of slots.

`prefill` reads prompts in one pass and chooses the first token after each. `insert` copies them into slots of a running
batch. `step` reads the newest token of every slot and chooses the next. Slots do not see each other, so a completion is
the same whenever its prompt was inserted and whatever the other slots hold.

Dimensions: B slots or prompts, T position, V vocabulary, L layers, K key-value heads, S positions that the cache keeps,
H head size.
"""

import dataclasses
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.model import cache as kv_cache
from sc2jax.model.cache import EMPTY, Cache, cache_slots, decode_step, unstack
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.model.transformer import cast_params

_TINIEST = float(jnp.finfo(jnp.float32).tiny)
"""The smallest number that processors which treat tinier ones as 0 can divide by."""


@flax.struct.dataclass
class Prompts:
    """Prompts to read in one pass.

    Attributes:
        tokens_BT: int32, padded on the right to one length.
        lengths_B: int32, tokens of each prompt, at least one.
        keys_B: the random key of each sequence.
        sampling_B2: float32, temperature (0 takes the likeliest token) and top_p of each sequence.
    """

    tokens_BT: jax.Array
    lengths_B: jax.Array
    keys_B: jax.Array
    sampling_B2: jax.Array


@flax.struct.dataclass
class DecodeState:
    """What decoding knows of the sequence in each slot.

    Attributes:
        cache: keys and values of the tokens before the newest one.
        tokens_B: int32, the newest token: chosen, but not in the cache yet.
        positions_B: int32, the newest token's position in its sequence, which begins with the prompt.
        counts_B: int32, how many tokens were chosen; a stop token is not counted.
        done_B: bool, whether the newest token is a stop token, `finite_B` is false or the slot is free; `step` does not
            change such a slot.
        finite_B: bool, whether all logits that tokens were chosen from were finite; a choice from others means nothing.
        keys_B: the random key of each sequence; the count of tokens before it is folded in to draw a token.
        sampling_B2: float32, temperature and top_p of each sequence.
    """

    cache: Cache
    tokens_B: jax.Array
    positions_B: jax.Array
    counts_B: jax.Array
    done_B: jax.Array
    finite_B: jax.Array
    keys_B: jax.Array
    sampling_B2: jax.Array


def free_slots(params: Params, config: ModelConfig, slots: int, total_length: int) -> tuple[Params, DecodeState]:
    """The parameters as `step` reads them fastest, and free slots for sequences of at most `total_length` tokens."""
    S = cache_slots(config, total_length)
    zeros = partial(jnp.zeros, (config.num_layers, slots, config.num_kv_heads, S, config.head_dim))
    dtype = jnp.dtype(config.compute_dtype)
    cache = Cache(zeros(dtype), zeros(dtype), jnp.full((slots, S), EMPTY, jnp.int32))
    params = cast_params(params, config)
    if jax.default_backend() == "cpu":
        params, cache = unstack(params, cache, config)
    return params, DecodeState(
        cache=cache,
        tokens_B=jnp.zeros(slots, jnp.int32),
        positions_B=jnp.zeros(slots, jnp.int32),
        counts_B=jnp.zeros(slots, jnp.int32),
        done_B=jnp.ones(slots, bool),
        finite_B=jnp.ones(slots, bool),
        keys_B=jax.random.split(jax.random.key(0), slots),
        sampling_B2=jnp.zeros((slots, 2), jnp.float32),
    )


def prefill(
    params: Params,
    prompts: Prompts,
    stop_ids: jax.Array,
    config: ModelConfig,
    *,
    total_length: int,
    choices: int,
) -> DecodeState:
    """Reads prompts in one pass and chooses the first token after each.

    `total_length` is that of the slots into which they will be inserted. Only ids below `choices` are chosen.
    """
    sequences, logits_BV = read(params, prompts, config, total_length=total_length)
    return choose(sequences, logits_BV[:, :choices], stop_ids)


def read(params: Params, prompts: Prompts, config: ModelConfig, *, total_length: int) -> tuple[DecodeState, jax.Array]:
    """Reads prompts in one pass; the logits after each (B, V) are those that its first token is chosen from."""
    S = cache_slots(config, total_length)
    logits_BV, cache = kv_cache.prefill(params, prompts.tokens_BT, prompts.lengths_B, config, S)
    zeros_B = jnp.zeros_like(prompts.lengths_B)
    sequences = DecodeState(
        cache=cache,
        tokens_B=zeros_B,
        positions_B=prompts.lengths_B - 1,
        counts_B=zeros_B,
        done_B=zeros_B > 0,
        finite_B=zeros_B == 0,
        keys_B=prompts.keys_B,
        sampling_B2=prompts.sampling_B2,
    )
    return sequences, logits_BV


def insert(state: DecodeState, prefilled: DecodeState, slots_B: jax.Array | np.ndarray) -> DecodeState:
    """Puts prefilled sequences into slots of a running batch, in place of what was there.

    Where a NumPy array says that every slot is replaced, in its order, the sequences are the new state uncopied.
    """
    if isinstance(slots_B, np.ndarray) and np.array_equal(slots_B, np.arange(len(state.tokens_B))):
        layers = list if isinstance(state.cache.k_LBKSH, list) else jnp.asarray
        old = prefilled.cache
        return dataclasses.replace(prefilled, cache=Cache(layers(old.k_LBKSH), layers(old.v_LBKSH), old.positions_BS))
    slots_B = jnp.asarray(slots_B)

    def put(slots: jax.Array, sequences: jax.Array, sequence: jax.Array, axis: int = 0) -> jax.Array:
        value = jax.lax.dynamic_index_in_dim(sequences, sequence, axis, keepdims=True)
        return jax.lax.dynamic_update_index_in_dim(slots, value, slots_B[sequence], axis)

    def put_layers(slots_LBKSH: Any, sequences_LBKSH: Any, sequence: jax.Array) -> Any:
        if isinstance(slots_LBKSH, list):
            return [put(*layer, sequence) for layer in zip(slots_LBKSH, sequences_LBKSH, strict=True)]
        return put(slots_LBKSH, sequences_LBKSH, sequence, axis=1)

    def insert_one(sequence: jax.Array, state: DecodeState) -> DecodeState:
        cache = Cache(
            put_layers(state.cache.k_LBKSH, prefilled.cache.k_LBKSH, sequence),
            put_layers(state.cache.v_LBKSH, prefilled.cache.v_LBKSH, sequence),
            put(state.cache.positions_BS, prefilled.cache.positions_BS, sequence),
        )
        slots, sequences = (dataclasses.replace(whole, cache=None) for whole in (state, prefilled))
        others = jax.tree.map(partial(put, sequence=sequence), slots, sequences)
        return dataclasses.replace(others, cache=cache)

    # One at a time: XLA's CPU backend takes eight times longer for a scatter of all of them.
    return jax.lax.fori_loop(0, len(slots_B), insert_one, state)


def step(params: Params, state: DecodeState, stop_ids: jax.Array, config: ModelConfig, *, choices: int) -> DecodeState:
    """Reads the newest token of each slot and chooses the next; `params` are those that `free_slots` returned."""
    logits_BV, cache = decode_step(params, state.tokens_B, state.positions_B, state.cache, config)
    return choose(dataclasses.replace(state, cache=cache), logits_BV[:, :choices], stop_ids)


def choose(state: DecodeState, logits_BV: jax.Array, stop_ids: jax.Array) -> DecodeState:
    """Chooses the next token of each sequence, and sees whether it ends with it."""
    chosen_B = choose_tokens(logits_BV, state.keys_B, state.counts_B, state.sampling_B2)
    goes_on_B = ~state.done_B
    finite_B = state.finite_B & (state.done_B | jnp.isfinite(logits_BV).all(axis=-1))
    done_B = state.done_B | jnp.isin(chosen_B, stop_ids) | ~finite_B
    return dataclasses.replace(
        state,
        tokens_B=jnp.where(goes_on_B, chosen_B, state.tokens_B),
        positions_B=state.positions_B + goes_on_B,
        counts_B=state.counts_B + ~done_B,
        done_B=done_B,
        finite_B=finite_B,
    )


def choose_tokens(logits_BV: jax.Array, keys_B: jax.Array, counts_B: jax.Array, sampling_B2: jax.Array) -> jax.Array:
    """The next token of each sequence: the likeliest if its temperature is 0, otherwise a draw from its nucleus."""
    temperature_B1, top_p_B1 = sampling_B2[:, :1], sampling_B2[:, 1:]
    likeliest_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)

    def draw() -> jax.Array:
        # Below the likeliest: however small the temperature, its own logit stays 0 and the others fall at most to -inf.
        below_BV = logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)
        divisor_B1 = jnp.where(temperature_B1 > 0, jnp.maximum(temperature_B1, _TINIEST), 1.0)
        drawn_B = _draw(below_BV / divisor_B1, top_p_B1, keys_B, counts_B)
        return jnp.where(temperature_B1[:, 0] > 0, drawn_B, likeliest_B)

    # Drawing sorts the vocabulary, which can take longer than the step itself: skipped when every slot is greedy.
    return jax.lax.cond(jnp.any(temperature_B1 > 0), draw, lambda: likeliest_B)


def _draw(scaled_BV: jax.Array, top_p_B1: jax.Array, keys_B: jax.Array, counts_B: jax.Array) -> jax.Array:
    """Draws from the fewest likeliest tokens whose probabilities sum to at least `top_p`."""
    sorted_BV = -jnp.sort(-scaled_BV, axis=-1)
    probabilities_BV = jax.nn.softmax(sorted_BV, axis=-1)
    # A token is kept if those before it sum to less than top_p; so the first always is.
    kept_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV < top_p_B1
    least_B1 = jnp.min(jnp.where(kept_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
    nucleus_BV = jnp.where(scaled_BV >= least_B1, scaled_BV, -jnp.inf)
    keys_B = jax.vmap(jax.random.fold_in)(keys_B, counts_B)
    return jax.vmap(jax.random.categorical)(keys_B, nucleus_BV).astype(jnp.int32)
