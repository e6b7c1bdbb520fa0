"""Completions as text, for very many prompts: a slot takes the next prompt as soon as its completion ends.

The device chooses some tokens for all slots, then the host decodes them and looks for stops. What a slot writes beyond
its stop is dropped, so that a completion does not depend on how many tokens are chosen at a time.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc2jax.inference.decode import DecodeState, choose, free_slots, insert, read, step
from sc2jax.inference.finite import refuse_not_finite
from sc2jax.inference.generate import LENGTH_MULTIPLE, check_request, numbered, stop_array
from sc2jax.inference.stops import TextCompletion, Texts, WrittenText, refuse_too_long
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.text.tokenizer import Tokenizer

STEPS = 16
"""Tokens that are chosen before the host looks at them; after a stop, half as many are chosen in vain on average."""

_NOT_FINITE = -1  # in place of a token that was chosen from logits that are not finite


def complete_texts(
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    texts: Texts,
    *,
    batch_size: int,
) -> Iterator[TextCompletion]:
    """The completions of prompts, in their order, each as soon as it and all before it have ended.

    Tokens are those that `generate` chooses, but for the rounding of another batch; only ids of the tokenizer are
    chosen. All prompts are checked before the first is completed.

    Raises:
        UserError: as `generate`, or a prompt together with its completion may be longer than the model's context.
    """
    most, choices = texts["max_new_tokens"], min(tokenizer.vocab_size, config.vocab_size)
    check_request(prompts, config, most, batch_size, choices, texts["temperature"], texts["top_p"])
    refuse_too_long(prompts, texts["names"], most, config.context_length)
    todo = range(texts["first"], len(prompts))
    if not todo or most == 0:
        return iter([TextCompletion("", [], "length") for _ in todo])
    longest = max(map(len, prompts)) + most
    slots = _Slots(params, config, texts, count=min(batch_size, len(prompts)), longest=longest, choices=choices)
    return _in_order(slots, tokenizer, prompts, texts)


def _in_order(
    slots: "_Slots", tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], texts: Texts
) -> Iterator[TextCompletion]:
    waiting = iter(range(texts["first"], len(prompts)))
    held: dict[int, tuple[int, WrittenText]] = {}  # by slot, the place of its prompt and what is written after it
    ended: dict[int, TextCompletion] = {}
    due = texts["first"]
    while due < len(prompts):
        for slot in sorted(set(range(slots.count)) - held.keys()):
            place = next(waiting, None)
            if place is not None:
                slots.put(slot, prompts[place], texts["numbers"][place])
                stops = texts["stop_texts"][place]
                held[slot] = place, WrittenText(tokenizer, stops, texts["stop_ids"], texts["max_new_tokens"])
        for slot, tokens in slots.choose(held).items():
            place, written = held[slot]
            completion = _write(written, tokens)
            if completion is not None:
                ended[place] = completion
                del held[slot]
        while due in ended:
            yield ended.pop(due)
            due += 1


def _write(written: WrittenText, tokens: Sequence[int]) -> TextCompletion | None:
    """Takes tokens until the completion ends; what was chosen after that counts for nothing."""
    for token in tokens:
        refuse_not_finite(np.array(token != _NOT_FINITE))
        completion = written.push(token)
        if completion is not None:
            return completion
    return None


class _Slots:
    """The slots of a running batch, on the device.

    A prompt is read alone, padded by its own length, so that its numbers do not depend on which slots were free at a
    time. Of equal prompts that follow one another, as those of a task's samples do, one is read.
    """

    def __init__(
        self, params: Params, config: ModelConfig, texts: Texts, *, count: int, longest: int, choices: int
    ) -> None:
        self.count = count
        self._params = params
        self._shape: dict[str, Any] = {
            "config": config,
            "total_length": -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE,
        }
        self._numbered = partial(
            numbered, numbers=[0], temperature=texts["temperature"], top_p=texts["top_p"], seed=texts["seed"]
        )
        self._key = jax.random.key(texts["seed"])
        self._stop_ids = stop_array(texts["stop_ids"])
        self._choices, self._limit, self._config = choices, texts["max_new_tokens"], config
        self._step_params, self._state = _free(params, slots=count, **self._shape)
        self._read: tuple[Sequence[int], Any] | None = None
        self._fresh: set[int] = set()

    def put(self, slot: int, prompt: Sequence[int], number: int) -> None:
        """Gives a slot to a prompt, whose first new token is chosen."""
        if self._read is None or self._read[0] != prompt:
            self._read = prompt, _read(self._params, self._numbered([prompt]), **self._shape)
        place = np.array([slot], np.int32), self._key, np.uint32(number), self._stop_ids
        self._state = _put(self._state, *self._read[1], *place, choices=self._choices)
        self._fresh.add(slot)

    def choose(self, held: "dict[int, Any]") -> dict[int, list[int]]:
        """The next tokens of the slots that are held; the others are free."""
        free_B = np.array([slot not in held for slot in range(self.count)])
        self._state, tokens_BC = _choose_some(
            self._step_params,
            self._state,
            free_B,
            self._stop_ids,
            self._limit,
            config=self._config,
            choices=self._choices,
            steps=STEPS,
        )
        tokens = np.asarray(tokens_BC)
        # The newest token was seen last time, but where it is the first after its prompt.
        new = {slot: tokens[slot, 0 if slot in self._fresh else 1 :].tolist() for slot in held}
        self._fresh.clear()
        return new


_free = jax.jit(free_slots, static_argnames=("config", "slots", "total_length"))
_read = jax.jit(read, static_argnames=("config", "total_length"))


@partial(jax.jit, static_argnames="choices", donate_argnames="state")
def _put(
    state: DecodeState,
    sequence: DecodeState,
    logits_1V: jax.Array,
    slots_1: jax.Array,
    key: jax.Array,
    number: jax.Array,
    stop_ids: jax.Array,
    *,
    choices: int,
) -> DecodeState:
    """Chooses the first token after a prompt, by the random numbers of its own number, and puts it into a slot."""
    sequence = dataclasses.replace(sequence, keys_B=jax.random.fold_in(key, number)[None])
    return insert(state, choose(sequence, logits_1V[:, :choices], stop_ids), jnp.asarray(slots_1))


@partial(jax.jit, static_argnames=("config", "choices", "steps"), donate_argnames="state")
def _choose_some(
    params: Params,
    state: DecodeState,
    free_B: jax.Array,
    stop_ids: jax.Array,
    limit: jax.Array,
    *,
    config: ModelConfig,
    choices: int,
    steps: int,
) -> tuple[DecodeState, jax.Array]:
    """The newest token of each slot and those of some steps after it (B, 1 + steps); none after the slot has ended."""

    def ended(state: DecodeState) -> DecodeState:
        return dataclasses.replace(state, done_B=state.done_B | (state.counts_B >= limit))

    def newest(state: DecodeState) -> jax.Array:
        return jnp.where(state.finite_B, state.tokens_B, _NOT_FINITE)

    def unfinished(carry: Any) -> jax.Array:
        count, state, _ = carry
        return (count <= steps) & ~jnp.all(state.done_B)

    def one_more(carry: Any) -> Any:
        count, state, out_BC = carry
        state = ended(step(params, state, stop_ids, config, choices=choices))
        return count + 1, state, out_BC.at[:, count].set(newest(state))

    state = ended(dataclasses.replace(state, done_B=state.done_B | free_B))
    out_BC = jnp.full((len(free_B), 1 + steps), _NOT_FINITE, jnp.int32).at[:, 0].set(newest(state))
    _, state, out_BC = jax.lax.while_loop(unfinished, one_more, (1, state, out_BC))
    return state, out_BC
