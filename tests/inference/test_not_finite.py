"""A model whose logits are not finite has no answer: it is refused, and never taken for one that has stopped."""

import dataclasses
import math

import jax.numpy as jnp
import pytest

from sc2jax.errors import UserError
from sc2jax.inference.generate import Choice, generate, stream
from sc2jax.inference.score import token_log_likelihoods


def choice(max_new_tokens: int = 3, stop_ids: tuple[int, ...] = (), temperature: float = 0.0) -> Choice:
    return {"max_new_tokens": max_new_tokens, "stop_ids": frozenset(stop_ids), "temperature": temperature}


def poisoned(params, value):
    """With a number in the last norm, which reaches every logit; the finite one is too large for what follows."""
    return params | {"final_norm": params["final_norm"] | {"scale": params["final_norm"]["scale"].at[0].set(value)}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_first_token_is_refused(toy_config, toy_params, value, temperature):
    params = poisoned(toy_params, value)
    with pytest.raises(UserError, match="logits are not finite"):
        generate(params, toy_config, [[1], [2, 3]], **choice(temperature=temperature))
    with pytest.raises(UserError, match="logits are not finite"):
        next(stream(params, toy_config, [1], **choice(temperature=temperature)))


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_no_likelihood_is_given(toy_config, toy_params, value):
    with pytest.raises(UserError, match="logits are not finite"):
        token_log_likelihoods(poisoned(toy_params, value), toy_config, [[1, 2, 3], [4]], batch_size=2)


@pytest.mark.parametrize("max_new_tokens", [2, 5])
def test_a_later_token_is_refused(toy_config, toy_params, max_new_tokens):
    """The embedding of the token that is chosen first is no number, and nothing else reads it."""
    config = dataclasses.replace(toy_config, tie_embeddings=False)
    params = toy_params | {"output": toy_params["embedding"]}
    wanted = choice(max_new_tokens)
    first = generate(params, config, [[1]], **wanted)[0].ids[0]
    assert first != 1
    params["embedding"] = params["embedding"].at[first].set(jnp.nan)
    (completion,) = generate(params, config, [[1]], **choice(1))
    assert completion.ids == [first]
    tokens = stream(params, config, [1], **wanted)
    assert next(tokens) == first
    with pytest.raises(UserError, match="logits are not finite"):
        next(tokens)
    with pytest.raises(UserError, match="logits are not finite"):
        generate(params, config, [[1], [1, 1]], **wanted)


def test_what_comes_after_a_stop_token_is_not_looked_at(toy_config, toy_params):
    """The slot of the one that has stopped is computed on, from its stop token, while the other goes on."""
    config = dataclasses.replace(toy_config, tie_embeddings=False)
    params = toy_params | {"output": toy_params["embedding"]}
    free = [completion.ids for completion in generate(params, config, [[n] for n in range(1, 9)], **choice())]
    stop = free[0][0]
    other = next(n for n, ids in enumerate(free, start=1) if stop not in (n, *ids))
    params["embedding"] = params["embedding"].at[stop].set(jnp.nan)
    stopped, goes_on = generate(params, config, [[1], [other]], **choice(stop_ids=(stop,)))
    assert stopped.finished and stopped.ids == []
    assert goes_on.ids == free[other - 1]
