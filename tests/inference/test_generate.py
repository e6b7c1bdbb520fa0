"""Generation against a plain loop over the uncached forward, and its stopping, sampling and batching."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.inference.generate import Completion, generate, stream
from sc2jax.model.transformer import forward, output_logits
from sc2jax.text.formats import FORMATS

PROMPTS = [[1], [5, 6, 7], list(range(20)), [9] * 7]


@partial(jax.jit, static_argnames="config")
def last_logits(params, tokens, length, config):
    return output_logits(params, forward(params, tokens, config), config)[0, length - 1]


def plain_greedy(params, config, prompt, count, vocab_size=None):
    ids = list(prompt)
    for _ in range(count):
        padded = jnp.zeros((1, 48), jnp.int32).at[0, : len(ids)].set(jnp.array(ids))
        ids.append(int(np.argmax(np.asarray(last_logits(params, padded, len(ids), config))[:vocab_size])))
    return ids[len(prompt) :]


def test_greedy_equals_a_plain_loop_past_the_window(toy_config, toy_params):
    completions = generate(toy_params, toy_config, PROMPTS, max_new_tokens=20, stop_ids=frozenset())
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        assert completion.ids == plain_greedy(toy_params, toy_config, prompt, 20)
        assert not completion.finished


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_completion_does_not_depend_on_its_batch(toy_config, toy_params, batch_size):
    options = {"max_new_tokens": 8, "stop_ids": frozenset(), "temperature": 0.9, "top_p": 0.8, "seed": 4}
    together = generate(toy_params, toy_config, PROMPTS, **options)
    apart = generate(toy_params, toy_config, PROMPTS, batch_size=batch_size, **options)
    assert [completion.ids for completion in apart] == [completion.ids for completion in together]


def test_stops_before_a_stop_token(toy_config, toy_params):
    free = plain_greedy(toy_params, toy_config, PROMPTS[1], 12)
    stop = free[5]
    expected = free[: free.index(stop)]
    (completion,) = generate(toy_params, toy_config, [PROMPTS[1]], max_new_tokens=12, stop_ids=frozenset({stop}))
    assert completion.ids == expected
    assert completion.finished


def test_seeds_decide_the_draws(toy_config, toy_params):
    def draw(seed):
        options = {"max_new_tokens": 12, "stop_ids": frozenset(), "temperature": 1.0}
        return generate(toy_params, toy_config, [[3]] * 2, seed=seed, **options)

    assert draw(1) == draw(1) != draw(2)
    first, second = draw(1)
    assert first != second


def test_ids_beyond_a_smaller_vocabulary_are_never_chosen(toy_config, toy_params):
    options: dict[str, Any] = {"max_new_tokens": 20, "stop_ids": frozenset[int](), "vocab_size": 12}
    free = generate(toy_params, toy_config, PROMPTS, **{**options, "vocab_size": 0})
    assert max(max(completion.ids) for completion in free) >= 12
    for prompt, completion in zip(PROMPTS, generate(toy_params, toy_config, PROMPTS, **options), strict=True):
        assert completion.ids == plain_greedy(toy_params, toy_config, prompt, 20, vocab_size=12)
    drawn = generate(toy_params, toy_config, PROMPTS, temperature=5.0, **options)
    assert {token for completion in drawn for token in completion.ids} == set(range(12))


def test_a_loaded_model_writes_what_its_tokenizer_knows(byte_model) -> None:
    prompt = byte_model.tokenizer.encode_text("def f(")
    options: dict[str, Any] = {"max_new_tokens": 20, "stop_ids": FORMATS["repository"].stops}
    (free,) = generate(byte_model.params, byte_model.config, [prompt], **options)
    assert max(free.ids) >= byte_model.tokenizer.vocab_size == 294
    for temperature in (0.0, 5.0):
        (completion,) = byte_model.complete([prompt], temperature=temperature, **options)
        assert max(completion.ids) < 294


@pytest.mark.parametrize("change", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 5}], ids=str)
def test_a_stream_is_the_completion_token_by_token(toy_config, toy_params, change) -> None:
    for prompt in PROMPTS:
        options = {"max_new_tokens": 20, "stop_ids": frozenset([50, 51])} | change  # ids that the model does not have
        (free,) = generate(toy_params, toy_config, [prompt], **options)
        assert list(stream(toy_params, toy_config, prompt, **options)) == free.ids
        options["stop_ids"] = frozenset([free.ids[9], 51])
        (stopped,) = generate(toy_params, toy_config, [prompt], **options)
        assert stopped.finished
        assert list(stream(toy_params, toy_config, prompt, **options)) == stopped.ids


@pytest.mark.parametrize("count", [0, 2])
def test_a_stream_ends_at_its_limit(toy_config, toy_params, count) -> None:
    made = list(stream(toy_params, toy_config, [1, 2], max_new_tokens=count, stop_ids=frozenset()))
    assert made == plain_greedy(toy_params, toy_config, [1, 2], count)


def test_no_new_tokens_are_an_empty_completion(toy_config, toy_params):
    (completion,) = generate(toy_params, toy_config, [[1, 2]], max_new_tokens=0, stop_ids=frozenset())
    assert completion == Completion([], finished=False)


@pytest.mark.parametrize(
    ("prompt", "change", "message"),
    [
        ([], {}, "no token"),
        ([1, -1], {}, "holds the token -1"),
        ([1, 50], {}, "holds the token 50"),
        ([1], {"max_new_tokens": -1}, "max_new_tokens -1"),
        ([1], {"max_new_tokens": 3_000_000_000}, "max_new_tokens 3000000000 must be .* at most 1,000,000"),
        ([1], {"batch_size": 0}, "batch_size 0"),
        ([1], {"vocab_size": -1}, "vocab_size -1"),
        ([1], {"temperature": math.nan}, "temperature nan"),
        ([1], {"temperature": math.inf}, "temperature inf"),
        ([1], {"temperature": -0.5}, "temperature -0.5"),
        ([1], {"temperature": 1.0, "top_p": 0.0}, "top_p 0.0"),
        ([1], {"temperature": 1.0, "top_p": math.nan}, "top_p nan"),
    ],
)
def test_bad_requests_are_refused(toy_config, toy_params, prompt, change, message):
    options = {"max_new_tokens": 1, "stop_ids": frozenset()} | change
    with pytest.raises(UserError, match=message):
        generate(toy_params, toy_config, [prompt], **options)
