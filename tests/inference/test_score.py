"""Scores against the forward at every token, and rows longer than the context."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc2jax.inference.score import token_log_likelihoods
from sc2jax.model.transformer import forward, output_logits


@partial(jax.jit, static_argnames="config")
def last_logits(params, tokens, length, config):
    return output_logits(params, forward(params, tokens, config), config)[0, length - 1]


def test_scores_equal_the_forward_and_cover_every_token_once(toy_config, toy_params):
    config = dataclasses.replace(toy_config, window=0)  # every token sees the whole context
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50, length).tolist() for length in (0, 1, 2, 15, 16, 17, 24, 41)]
    scores = token_log_likelihoods(toy_params, config, rows, batch_size=3)
    assert [len(score) for score in scores] == [max(len(row) - 1, 0) for row in rows]
    for row, score in zip(rows, scores, strict=True):
        assert np.isfinite(score).all()
        for token in range(1, len(row)):
            # The context starts anew every half context: at 16, 24, 32, ... after the first whole one.
            block_end = min(16 + -(-max(token + 1 - 16, 0) // 8) * 8, len(row))
            start = max(block_end - 16, 0)
            padded = jnp.zeros((1, 48), jnp.int32).at[0, : token - start].set(jnp.array(row[start:token]))
            logits = last_logits(toy_params, padded, token - start, config)
            np.testing.assert_allclose(score[token - 1], jax.nn.log_softmax(logits)[row[token]], atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_do_not_depend_on_the_batch(toy_config, toy_params, batch_size) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 50, length).tolist() for length in (40, 3, 17, 9, 33)]
    together = token_log_likelihoods(toy_params, toy_config, rows, batch_size=8)
    apart = token_log_likelihoods(toy_params, toy_config, rows, batch_size=batch_size)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
