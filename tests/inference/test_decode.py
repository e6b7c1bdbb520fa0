"""The three functions of decoding: a sequence is what it would be alone, whenever and wherever it was inserted."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.inference.decode import DecodeState, Prompts, choose_tokens, free_slots, insert, prefill, step
from sc2jax.inference.generate import generate

TOTAL = 64
NEW = 20  # three times the window
STOPS = jnp.array([3], jnp.int32)
# Prompt, temperature, top_p and seed of each request: greedy ones beside drawn ones.
REQUESTS = [([5, 6, 7], 0.0, 1.0, 0), ([9] * 9, 0.9, 0.8, 1), ([1], 1.5, 1.0, 2), ([30, 4], 0.0, 1.0, 3)]

SLOTS = 3

read = jax.jit(prefill, static_argnames=("config", "total_length", "choices"))
put = jax.jit(insert)
advance = jax.jit(step, static_argnames=("config", "choices"))


@pytest.fixture(scope="module")
def alone(toy_config, toy_params) -> list[list[int]]:
    """What `generate` makes of each request by itself, its stop token included."""
    made = []
    for prompt, temperature, top_p, seed in REQUESTS:
        options = {"max_new_tokens": NEW, "stop_ids": frozenset([3]), "temperature": temperature, "top_p": top_p}
        (completion,) = generate(toy_params, toy_config, [prompt], seed=seed, **options)
        made.append([*completion.ids, *([3] if completion.finished else [])])
    return made


def prefilled(params, config, numbers: list[int]) -> DecodeState:
    requests = [REQUESTS[number] for number in numbers]
    tokens = np.zeros((len(requests), 12), np.int32)
    for row, (prompt, *_) in enumerate(requests):
        tokens[row, : len(prompt)] = prompt
    prompts = Prompts(
        tokens_BT=jnp.asarray(tokens),
        lengths_B=jnp.array([len(prompt) for prompt, *_ in requests]),
        keys_B=jnp.stack([jax.random.fold_in(jax.random.key(seed), 0) for *_, seed in requests]),
        sampling_B2=jnp.array([[temperature, top_p] for _, temperature, top_p, _ in requests]),
    )
    return read(params, prompts, STOPS, config, total_length=TOTAL, choices=config.vocab_size)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_sequences_inserted_at_any_time_become_what_they_are_alone(
    toy_config, toy_params, alone, backend, monkeypatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # layers in a list, or stacked
    params, state = free_slots(toy_params, toy_config, SLOTS, TOTAL)
    assert isinstance(state.cache.k_LBKSH, list) == (backend == "cpu")
    take = partial(advance, config=toy_config, choices=toy_config.vocab_size)
    tokens: dict[int, list[int]] = {number: [] for number in range(len(REQUESTS))}
    slots: dict[int, int] = {}  # from slot to request

    def admit(numbers: list[int], into: list[int]) -> None:
        nonlocal state
        state = put(state, prefilled(toy_params, toy_config, numbers), jnp.array(into))
        slots.update(zip(into, numbers, strict=True))
        for slot in into:
            tokens[slots[slot]].append(int(state.tokens_B[slot]))

    def advance_all(times: int) -> None:
        nonlocal state
        for _ in range(times):
            was_done = np.asarray(state.done_B)
            state = take(params, state, STOPS)
            for slot, number in slots.items():
                if not was_done[slot]:
                    tokens[number].append(int(state.tokens_B[slot]))

    admit([0], [2])
    advance_all(4)
    admit([2, 1], [0, 1])
    advance_all(NEW)
    admit([3], [2])  # in place of the first, beside two that go on
    advance_all(NEW)
    for number, expected in enumerate(alone):
        assert tokens[number][: len(expected)] == expected
    assert len({len(expected) for expected in alone}) > 1  # some reach the stop token, some do not


def test_free_and_finished_slots_stay_as_they_are(toy_config, toy_params) -> None:
    params, state = free_slots(toy_params, toy_config, SLOTS, TOTAL)
    assert state.done_B.all()
    finished = dataclasses.replace(prefilled(toy_params, toy_config, [0]), done_B=jnp.array([True]))
    state = put(state, finished, jnp.array([1]))
    after = advance(params, state, STOPS, toy_config, choices=toy_config.vocab_size)
    for name in ("tokens_B", "positions_B", "counts_B", "done_B"):
        np.testing.assert_array_equal(getattr(after, name), getattr(state, name))


def test_counts_and_positions_are_those_of_the_newest_token(toy_config, toy_params) -> None:
    params, state = free_slots(toy_params, toy_config, SLOTS, TOTAL)
    state = put(state, prefilled(toy_params, toy_config, [1, 3]), jnp.array([0, 1]))
    np.testing.assert_array_equal(state.positions_B[:2], [9, 2])
    np.testing.assert_array_equal(state.counts_B[:2], [1, 1])
    after = advance(params, state, STOPS, toy_config, choices=toy_config.vocab_size)
    np.testing.assert_array_equal(after.positions_B[:2], [10, 3])
    np.testing.assert_array_equal(after.counts_B[:2], [2, 2])
    first, second = after.tokens_B[:2]
    assert first != second
    stopped = advance(params, state, first[None], toy_config, choices=toy_config.vocab_size)
    np.testing.assert_array_equal(stopped.tokens_B[:2], [first, second])
    np.testing.assert_array_equal(stopped.positions_B[:2], [10, 3])
    np.testing.assert_array_equal(stopped.counts_B[:2], [1, 2])  # the stop token does not count
    np.testing.assert_array_equal(stopped.done_B[:2], [True, False])


PROBABILITIES = np.array([0.5, 0.3, 0.15, 0.05])


def shares(temperature: float, top_p: float, draws: int = 4000) -> np.ndarray:
    logits = jnp.broadcast_to(jnp.log(PROBABILITIES), (draws, 4))
    sampling = jnp.tile(jnp.array([[temperature, top_p]]), (draws, 1))
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = choose_tokens(logits, keys, jnp.zeros(draws, jnp.int32), sampling)
    return np.bincount(np.asarray(drawn), minlength=4) / draws


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (1.0, PROBABILITIES),
        (0.9, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        (0.7, [0.625, 0.375, 0, 0]),  # 0.5 falls short of 0.7, so the second token is needed
        (0.4, [1, 0, 0, 0]),
        (1e-6, [1, 0, 0, 0]),
    ],
)
def test_draws_come_from_the_nucleus(top_p, expected) -> None:
    np.testing.assert_allclose(shares(1.0, top_p), expected, atol=0.03)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_divides_the_logits_before_the_nucleus_is_taken(temperature) -> None:
    tempered = PROBABILITIES ** (1 / temperature)
    tempered /= tempered.sum()
    np.testing.assert_allclose(shares(temperature, 1.0), tempered, atol=0.03)
    # 0.8 are the first two tokens at 0.5, and the first three at 2, where the likeliest is less likely.
    kept = tempered * (np.cumsum(tempered) - tempered < 0.8)
    np.testing.assert_allclose(shares(temperature, 0.8), kept / kept.sum(), atol=0.03)


@pytest.mark.parametrize("temperature", [1e-45, 1e-39, 1.2e-38, 1e-37, 1e-30, 1e-6])
@pytest.mark.parametrize("top_p", [0.95, 1.0])
def test_at_the_tiniest_temperature_the_likeliest_token_is_drawn(temperature, top_p) -> None:
    logits = jnp.tile(jnp.array([[3.0, 79.9, 80.0, -90.0]]), (50, 1))
    sampling = jnp.tile(jnp.array([[temperature, top_p]], jnp.float32), (50, 1))
    drawn = choose_tokens(logits, jax.random.split(jax.random.key(0), 50), jnp.zeros(50, jnp.int32), sampling)
    assert set(np.asarray(drawn).tolist()) == {2}


def test_a_nucleus_that_is_full_takes_no_other_token() -> None:
    logits = jnp.tile(jnp.array([[0.0, 1.0, 0.0]]) * jnp.log(2.0), (300, 1))  # exactly a half, and two quarters
    keys, sampling = jax.random.split(jax.random.key(2), 300), jnp.tile(jnp.array([[1.0, 0.5]]), (300, 1))
    assert set(np.asarray(choose_tokens(logits, keys, jnp.zeros(300, int), sampling)).tolist()) == {1}


def test_a_greedy_sequence_beside_drawn_ones_takes_the_likeliest() -> None:
    logits = jnp.log(jnp.tile(PROBABILITIES[None, ::-1], (300, 1)))
    sampling = jnp.array([[0.0, 1.0], [5.0, 1.0], [5.0, 1.0]] * 100)
    drawn = np.asarray(choose_tokens(logits, jax.random.split(jax.random.key(1), 300), jnp.zeros(300, int), sampling))
    assert set(drawn[::3]) == {3}
    assert set(drawn[1::3]) == set(drawn[2::3]) == {0, 1, 2, 3}


def test_each_token_of_a_sequence_is_drawn_anew() -> None:
    logits, key = jnp.zeros((200, 50)), jax.random.key(7)
    keys = jnp.stack([key] * 200)
    drawn = np.asarray(choose_tokens(logits, keys, jnp.arange(200), jnp.ones((200, 2))))
    assert len(set(drawn.tolist())) > 40
    again = np.asarray(choose_tokens(logits, keys, jnp.zeros(200, int), jnp.ones((200, 2))))
    assert set(again.tolist()) == {int(drawn[0])}
