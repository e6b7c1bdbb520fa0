"""Completions of token ids: many prompts at once, or one prompt token by token.

It knows token ids only: documents, prompts and stop sets are made elsewhere.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.errors import UserError
from sc2jax.inference.config import MOST_NEW_TOKENS
from sc2jax.inference.decode import DecodeState, Prompts, free_slots, insert, prefill, step
from sc2jax.inference.finite import refuse_not_finite
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params

LENGTH_MULTIPLE = 64
"""Prompts are padded to a multiple of this many tokens, so that few lengths are compiled."""


@dataclasses.dataclass(frozen=True)
class Completion:
    """The tokens after a prompt, without the stop token; `finished` tells whether one was reached."""

    ids: list[int]
    finished: bool


class Choice(TypedDict):
    """How tokens are chosen and when to stop: the arguments that `generate` and `stream` share and explain."""

    max_new_tokens: int
    stop_ids: frozenset[int]
    temperature: NotRequired[float]
    top_p: NotRequired[float]
    seed: NotRequired[int]


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

    A completion does not depend on the other prompts in its batch. But a backend may add in a different order for a
    different batch size, and in bfloat16 that can decide between two tokens of almost equal probability.

    Args:
        params: the model's parameters.
        config: the model's shape.
        prompts: token ids, at least one each.
        max_new_tokens: the most tokens that a completion may have.
        stop_ids: tokens that end a completion.
        vocab_size: only ids below it are chosen; a model may have a larger vocabulary than its tokenizer. 0 allows
            every id of the model.
        temperature: divides the logits before a token is drawn; 0 takes the likeliest token.
        top_p: draws from the fewest likeliest tokens whose probabilities sum to at least this.
        seed: prompt i is completed with random numbers that depend on the seed and i alone.
        batch_size: how many prompts are decoded together.

    Raises:
        UserError: an empty prompt, a token that the model does not know, a number out of range, or logits that are not
            finite.
    """
    check_request(prompts, config, max_new_tokens, batch_size, vocab_size, temperature, top_p)
    if max_new_tokens == 0:
        return [Completion([], finished=False) for _ in prompts]
    completions: dict[int, Completion] = {}
    # Prompts of similar length share a batch, to keep the padding small.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen)) if len(order) > batch_size else chosen
        out = _generate_batch(
            params,
            numbered([prompts[index] for index in padded], padded, temperature, top_p, seed),
            stop_array(stop_ids),
            config=config,
            max_new_tokens=max_new_tokens,
            choices=min(vocab_size or config.vocab_size, config.vocab_size),
        )
        ids_BT, counts_B, finished_B, finite_B = (np.asarray(array) for array in out)
        refuse_not_finite(finite_B)
        for row, index in enumerate(chosen):
            completions[index] = Completion(ids_BT[row, : counts_B[row]].tolist(), bool(finished_B[row]))
    return [completions[index] for index in range(len(prompts))]


def stream(
    params: Params,
    config: ModelConfig,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int],
    vocab_size: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[int]:
    """Yields the tokens with which `generate` continues a single prompt, each as soon as it is chosen.

    If there are fewer than `max_new_tokens`, a stop token was reached.

    Raises:
        UserError: as `generate`, when the first token is requested or, for logits, the next one.
    """
    check_request([prompt], config, max_new_tokens, 1, vocab_size, temperature, top_p)
    if max_new_tokens == 0:
        return
    choices = min(vocab_size or config.vocab_size, config.vocab_size)
    prompts = numbered([prompt], [0], temperature, top_p, seed)
    stops = stop_array(stop_ids)
    params, state = start(params, prompts, stops, config=config, max_new_tokens=max_new_tokens, choices=choices)
    for count in range(max_new_tokens):
        if count:
            state = _step(params, state, stops, config=config, choices=choices)
        if state.done_B[0]:
            refuse_not_finite(state.finite_B)
            return
        yield int(state.tokens_B[0])


def check_request(
    prompts: Sequence[Sequence[int]],
    config: ModelConfig,
    max_new_tokens: int,
    batch_size: int,
    vocab_size: int,
    temperature: float,
    top_p: float,
) -> None:
    """Makes sure that prompts can be completed as they are asked to be.

    Raises:
        UserError: they cannot.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise UserError("a prompt has no token; begin it with text or with a special token")
    for token in (min(map(min, prompts), default=0), max(map(max, prompts), default=0)):
        if not 0 <= token < config.vocab_size:
            raise UserError(
                f"a prompt holds the token {token}, and the model knows {config.vocab_size}, from 0 on: it was not "
                "trained with this tokenizer; name its own with --config.paths.tokenizer"
            )
    if not 0 <= max_new_tokens <= MOST_NEW_TOKENS:
        raise UserError(f"max_new_tokens {max_new_tokens} must be at least 0 and at most {MOST_NEW_TOKENS:,}")
    if batch_size < 1 or vocab_size < 0:
        raise UserError(f"vocab_size {vocab_size} must be at least 0, batch_size {batch_size} at least 1")
    if not 0.0 <= temperature < math.inf or not 0.0 < top_p <= 1.0:
        raise UserError(f"temperature {temperature} must be at least 0 and finite, top_p {top_p} in (0, 1]")


def numbered(
    prompts: Sequence[Sequence[int]], numbers: Sequence[int], temperature: float, top_p: float, seed: int
) -> Prompts:
    """Pads prompts to one length and gives each a random key, which follows from the seed and the prompt's number."""
    lengths = [len(prompt) for prompt in prompts]
    tokens_BT = np.zeros((len(prompts), -(-max(lengths) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, : len(prompt)] = prompt
    return Prompts(
        tokens_BT=jnp.asarray(tokens_BT),
        lengths_B=jnp.array(lengths, jnp.int32),
        keys_B=jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.array(numbers)),
        sampling_B2=jnp.tile(jnp.array([[temperature, top_p]], jnp.float32), (len(prompts), 1)),
    )


def stop_array(stop_ids: frozenset[int]) -> np.ndarray:
    """Stop tokens as they go to the device."""
    return np.array(sorted(stop_ids), np.int32)


@partial(jax.jit, static_argnames=("config", "max_new_tokens", "choices"))
def start(
    params: Params,
    prompts: Prompts,
    stop_ids: jax.Array,
    *,
    config: ModelConfig,
    max_new_tokens: int,
    choices: int,
) -> tuple[Params, DecodeState]:
    """The parameters for `step`, and as many slots as prompts, each with its prompt's first new token."""
    B, T = prompts.tokens_BT.shape
    total_length = T + max_new_tokens
    prefilled = prefill(params, prompts, stop_ids, config, total_length=total_length, choices=choices)
    params, state = free_slots(params, config, B, total_length)
    return params, insert(state, prefilled, np.arange(B))


_step = jax.jit(step, static_argnames=("config", "choices"), donate_argnames="state")


@partial(jax.jit, static_argnames=("config", "max_new_tokens", "choices"))
def _generate_batch(
    params: Params,
    prompts: Prompts,
    stop_ids: jax.Array,
    *,
    config: ModelConfig,
    max_new_tokens: int,
    choices: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """New tokens (B, max_new_tokens), how many of them count, and whether a stop token was reached by finite logits."""
    params, state = start(params, prompts, stop_ids, config=config, max_new_tokens=max_new_tokens, choices=choices)

    def unfinished(carry: Any) -> jax.Array:
        count, state, _ = carry
        return (count < max_new_tokens) & ~jnp.all(state.done_B)

    def one_more(carry: Any) -> Any:
        count, state, out_BT = carry
        state = step(params, state, stop_ids, config, choices=choices)
        return count + 1, state, out_BT.at[:, count].set(state.tokens_B)

    out_BT = jnp.zeros((len(state.tokens_B), max_new_tokens), jnp.int32).at[:, 0].set(state.tokens_B)
    _, state, out_BT = jax.lax.while_loop(unfinished, one_more, (1, state, out_BT))
    return out_BT, state.counts_B, state.done_B, state.finite_B
