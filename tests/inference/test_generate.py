"""Generation against a plain loop over the uncached forward, and its stopping, sampling and batching."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from sc2jax.errors import UserError
from sc2jax.inference.config import CompletionConfig
from sc2jax.inference.generate import Completion, choose_tokens, generate
from sc2jax.inference.samples import complete_prompt
from sc2jax.inference.score import token_log_likelihoods
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import init_params, parameter_table
from sc2jax.model.transformer import forward, output_logits
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import load_tokenizer

CONFIG = ModelConfig(
    vocab_size=50,
    context_length=16,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    window=6,
    rope_theta=100.0,
    init_stddev=0.4,
    compute_dtype="float32",
)
PROMPTS = [[1], [5, 6, 7], list(range(20)), [9] * 7]


@pytest.fixture(scope="module")
def params():
    return init_params(parameter_table(CONFIG), jax.random.key(2))


@jax.jit
def last_logits(params, tokens, length):
    return output_logits(params, forward(params, tokens, CONFIG), CONFIG)[0, length - 1]


def plain_greedy(params, prompt, count, vocab_size=CONFIG.vocab_size):
    ids = list(prompt)
    for _ in range(count):
        padded = jnp.zeros((1, 48), jnp.int32).at[0, : len(ids)].set(jnp.array(ids))
        ids.append(int(np.argmax(np.asarray(last_logits(params, padded, len(ids)))[:vocab_size])))
    return ids[len(prompt) :]


def write_byte_level(path):
    """A tokenizer.json of the special tokens and a token for each byte, by GPT-2's names for bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(code) for code in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]
    words = [token.literal for token in Special] + characters
    tokenizer = tokenizers.Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([tokenizers.AddedToken(token.literal, special=True) for token in Special])
    tokenizer.save(str(path))


def test_greedy_equals_a_plain_loop_past_the_window(params):
    completions = generate(params, CONFIG, PROMPTS, max_new_tokens=20, stop_ids=frozenset())
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        assert completion.ids == plain_greedy(params, prompt, 20)
        assert not completion.finished


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_completion_does_not_depend_on_its_batch(params, batch_size):
    options = {"max_new_tokens": 8, "stop_ids": frozenset(), "temperature": 0.9, "top_p": 0.8, "seed": 4}
    together = generate(params, CONFIG, PROMPTS, **options)
    apart = generate(params, CONFIG, PROMPTS, batch_size=batch_size, **options)
    assert [completion.ids for completion in apart] == [completion.ids for completion in together]


def test_stops_before_a_stop_token(params):
    free = plain_greedy(params, PROMPTS[1], 12)
    stop = free[5]
    expected = free[: free.index(stop)]
    (completion,) = generate(params, CONFIG, [PROMPTS[1]], max_new_tokens=12, stop_ids=frozenset({stop}))
    assert completion.ids == expected
    assert completion.finished


def test_seeds_decide_the_draws(params):
    def draw(seed):
        options = {"max_new_tokens": 12, "stop_ids": frozenset(), "temperature": 1.0}
        return generate(params, CONFIG, [[3]] * 2, seed=seed, **options)

    assert draw(1) == draw(1) != draw(2)
    first, second = draw(1)
    assert first != second


def test_draws_follow_the_nucleus():
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    keys = jax.random.split(jax.random.key(0), 4000)
    logits = jnp.broadcast_to(jnp.log(probabilities), (4000, 4))
    drawn = np.asarray(choose_tokens(logits, keys, jnp.int32(0), jnp.array([1.0, 0.7]), greedy=False))
    # 0.5 falls short of 0.7, so the second token is needed; the two others never are.
    shares = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.625, 0.375, 0, 0], atol=0.03)
    every = np.asarray(choose_tokens(logits, keys, jnp.int32(0), jnp.array([1.0, 1.0]), greedy=False))
    np.testing.assert_allclose(np.bincount(every, minlength=4) / 4000, probabilities, atol=0.03)


def test_ids_beyond_a_smaller_vocabulary_are_never_chosen(params):
    options: dict[str, Any] = {"max_new_tokens": 20, "stop_ids": frozenset[int](), "vocab_size": 12}
    free = generate(params, CONFIG, PROMPTS, **{**options, "vocab_size": 0})
    assert max(max(completion.ids) for completion in free) >= 12
    for prompt, completion in zip(PROMPTS, generate(params, CONFIG, PROMPTS, **options), strict=True):
        assert completion.ids == plain_greedy(params, prompt, 20, vocab_size=12)
    drawn = generate(params, CONFIG, PROMPTS, temperature=5.0, **options)
    assert {token for completion in drawn for token in completion.ids} == set(range(12))


@pytest.mark.parametrize(("suffix", "kind"), [("", "left_to_right"), ("\n", "infill")])
def test_a_model_of_more_tokens_than_the_tokenizer_completes_text(tmp_path, suffix, kind):
    config = dataclasses.replace(CONFIG, vocab_size=4096)
    write_byte_level(tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    assert tokenizer.vocab_size == len(Special) + 256
    model = partial(generate, init_params(parameter_table(config), jax.random.key(3)), config)
    (free,) = model([tokenizer.encode_text("def f(")], max_new_tokens=20, stop_ids=frozenset())
    assert max(free.ids) >= tokenizer.vocab_size
    asked = CompletionConfig(prompt="def f(", suffix=suffix, max_new_tokens=20)
    assert complete_prompt(model, tokenizer, asked, seed=0)["kind"] == kind


def test_no_new_tokens_are_an_empty_completion(params):
    (completion,) = generate(params, CONFIG, [[1, 2]], max_new_tokens=0, stop_ids=frozenset())
    assert completion == Completion([], finished=False)


@pytest.mark.parametrize(
    ("prompt", "change", "message"),
    [
        ([], {}, "no token"),
        ([1, -1], {}, "holds the token -1"),
        ([1, 50], {}, "holds the token 50"),
        ([1], {"max_new_tokens": -1}, "max_new_tokens -1"),
        ([1], {"batch_size": 0}, "batch_size 0"),
        ([1], {"vocab_size": -1}, "vocab_size -1"),
        ([1], {"temperature": math.nan}, "temperature nan"),
        ([1], {"temperature": math.inf}, "temperature inf"),
        ([1], {"temperature": -0.5}, "temperature -0.5"),
        ([1], {"temperature": 1.0, "top_p": 0.0}, "top_p 0.0"),
        ([1], {"temperature": 1.0, "top_p": math.nan}, "top_p nan"),
    ],
)
def test_bad_requests_are_refused(params, prompt, change, message):
    options = {"max_new_tokens": 1, "stop_ids": frozenset()} | change
    with pytest.raises(UserError, match=message):
        generate(params, CONFIG, [prompt], **options)


def test_scores_equal_the_forward_and_cover_every_token_once(params):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50, length).tolist() for length in (0, 1, 2, 15, 16, 17, 24, 41)]
    scores = token_log_likelihoods(params, CONFIG, rows, batch_size=3)
    assert [len(score) for score in scores] == [max(len(row) - 1, 0) for row in rows]
    for row, score in zip(rows, scores, strict=True):
        assert np.isfinite(score).all()
        for token in range(1, len(row)):
            # The context starts anew every half context: at 16, 24, 32, ... after the first whole one.
            block_end = min(16 + -(-max(token + 1 - 16, 0) // 8) * 8, len(row))
            start = max(block_end - 16, 0)
            padded = jnp.zeros((1, 48), jnp.int32).at[0, : token - start].set(jnp.array(row[start:token]))
            logits = last_logits(params, padded, token - start)
            np.testing.assert_allclose(score[token - 1], jax.nn.log_softmax(logits)[row[token]], atol=1e-4)
