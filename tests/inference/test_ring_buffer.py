"""Generation at and far beyond the window's edges, by rows of unlike length, alone and in company."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.inference.generate import generate
from sc2jax.model.cache import cache_slots, prefill
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import abstract_params, init_params, parameter_table
from sc2jax.model.transformer import forward, output_logits

WINDOW = 8
NEW = 30
LONGEST = 3 * WINDOW + NEW
BASE = ModelConfig(
    vocab_size=64,
    context_length=64,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    window=WINDOW,
    rope_theta=100.0,
    init_stddev=0.3,
    compute_dtype="float32",
)
# Around the window's edges, far past it, and the shortest that there is.
LENGTHS = (1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 3 * WINDOW)
PROMPTS = [np.random.default_rng(length).integers(0, 64, length).tolist() for length in LENGTHS]


@pytest.fixture(scope="module")
def params():
    return init_params(parameter_table(BASE), jax.random.key(0))


def continue_with(params, prompts, config=BASE, **options):
    options = {"max_new_tokens": NEW, "stop_ids": frozenset()} | options
    return generate(params, config, prompts, **options)


def ids(completions):
    return [completion.ids for completion in completions]


@partial(jax.jit, static_argnames="config")
def next_token(params, row, length, config):
    """The likeliest token after `length` tokens of a padded row, by the forward without a cache."""
    hidden = forward(params, row[None], config)
    return jnp.argmax(output_logits(params, hidden[:, length - 1], config)[0])


def continued_without_cache(params, prompt, config):
    row = np.zeros(LONGEST, np.int32)
    row[: len(prompt)] = prompt
    for length in range(len(prompt), len(prompt) + NEW):
        row[length] = next_token(params, row, length, config)
    return row[len(prompt) : len(prompt) + NEW].tolist()


@pytest.mark.parametrize(
    "change",
    [{}, {"num_kv_heads": 1}, {"num_kv_heads": 4, "tie_embeddings": False}, {"window": 0}, {"window": 1}],
    ids=str,
)
def test_ragged_prompts_go_on_as_without_a_cache_far_past_the_window(change):
    config = dataclasses.replace(BASE, **change)
    params = init_params(parameter_table(config), jax.random.key(1))
    expected = [continued_without_cache(params, prompt, config) for prompt in PROMPTS]
    assert ids(continue_with(params, PROMPTS, config)) == expected


def test_greedy_completions_do_not_depend_on_their_company(params):
    together = continue_with(params, PROMPTS)
    assert [completion for prompt in PROMPTS for completion in continue_with(params, [prompt])] == together
    assert continue_with(params, PROMPTS[::-1])[::-1] == together
    for batch_size in (1, 4):
        assert continue_with(params, PROMPTS, batch_size=batch_size) == together
    long = np.random.default_rng(9).integers(0, 64, 150).tolist()  # pads all others to another length
    assert continue_with(params, [long, *PROMPTS])[1:] == together


def test_a_stop_token_ends_its_own_row_alone(params):
    free = continue_with(params, PROMPTS)
    stop = free[2].ids[4]
    stopped = continue_with(params, PROMPTS, stop_ids=frozenset([stop]))
    for before, after in zip(free, stopped, strict=True):
        assert after.finished == (stop in before.ids)
        assert after.ids == (before.ids[: before.ids.index(stop)] if after.finished else before.ids)
    assert stopped[2].finished


def test_the_cache_of_a_long_context_is_as_large_as_the_window():
    config = ModelConfig(vocab_size=49152)  # StarCoder2-3B
    slots = cache_slots(config, 16384)
    tokens, lengths = jax.ShapeDtypeStruct((1, 16384), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    _, cache = jax.eval_shape(
        partial(prefill, config=config, slots=slots), abstract_params(parameter_table(config)), tokens, lengths
    )
    assert cache.k_LBKSH.shape == cache.v_LBKSH.shape == (30, 1, 2, 4096, 128)
    assert cache_slots(config, 100) == 100


def test_reading_a_long_prompt_holds_the_keys_of_all_layers_in_the_window_only():
    def compiled_bytes(length, layers):
        config = dataclasses.replace(BASE, num_layers=layers, window=64, head_dim=32)
        shapes = jax.ShapeDtypeStruct((1, length), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
        read = jax.jit(partial(prefill, config=config, slots=cache_slots(config, length)))
        memory: Any = read.lower(abstract_params(parameter_table(config)), *shapes).compile().memory_analysis()
        return memory.temp_size_in_bytes, memory.output_size_in_bytes

    few, many = compiled_bytes(512, 2), compiled_bytes(512, 10)
    keys_and_values = 2 * 2 * 32 * 4  # of one token and layer, two heads
    # Eight more layers need their 64 slots in the cache, and nothing for the 448 tokens before them.
    assert many[1] - few[1] == 8 * 64 * keys_and_values
    assert many[0] - few[0] < 8 * 64 * keys_and_values / 4


def test_a_token_of_another_vocabulary_is_refused(params):
    with pytest.raises(UserError, match="holds the token 64, and the model knows 64, from 0 on"):
        continue_with(params, [[1], [2, 64]])


def test_no_prompts_no_completions(params):
    assert continue_with(params, []) == []
