"""What is timed is what completions are made of, and bytes are those of the arrays."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.inference import speed
from sc2jax.inference.generate import generate
from sc2jax.inference.speed import REPEATS, decoding_bytes, decoding_speed
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params


def test_a_read_prompt_and_the_steps_after_it_are_those_of_completions(toy_params: Params, toy_config: ModelConfig):
    """The tokens of `generate` for the same prompts."""
    prompts = [[(place + row) % 50 for place in range(9)] for row in range(3)]
    read = speed.numbered(prompts, range(3), 0.0, 1.0, 0)
    state = speed._read(toy_params, read, config=toy_config, new_tokens=4, choices=50)
    assert state.cache.positions_BS.shape == (3, toy_config.window)
    count = speed._steps(speed._laid_out(toy_params, config=toy_config), state, config=toy_config, count=4, choices=50)
    written = generate(toy_params, toy_config, prompts, max_new_tokens=5, stop_ids=frozenset())
    assert count.tokens_B.tolist() == [completion.ids[-1] for completion in written]
    assert count.counts_B.tolist() == [5, 5, 5]


def test_medians_of_what_the_clock_says(
    toy_params: Params, toy_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes 10, 20, 40, 30 and 1,000 seconds by the test's clock, four steps 8, 80, 4, 12 and 16."""
    reads, steps = [10.0, 20.0, 40.0, 30.0, 1000.0], [8.0, 80.0, 4.0, 12.0, 16.0]
    lengths = itertools.chain.from_iterable((0.0, read, 0.0, step) for read, step in zip(reads, steps, strict=True))
    clock = itertools.accumulate(lengths)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    found = decoding_speed(toy_params, toy_config, batch_size=2, prompt_tokens=9, new_tokens=4, choices=50)
    assert (found.read_seconds, found.step_seconds) == (30.0, 3.0)
    assert len(reads) == REPEATS
    assert next(clock, None) is None, "the first run, which compiles, was not timed"
    parameters, cache = decoding_bytes(toy_params, toy_config)
    assert found.program_bytes > parameters + 2 * cache


def test_logits_that_are_not_finite_are_no_speed(toy_params: Params, toy_config: ModelConfig) -> None:
    broken = jax.tree.map(lambda array: array * np.nan, toy_params)
    with pytest.raises(UserError, match="finite"):
        decoding_speed(broken, toy_config, batch_size=1, prompt_tokens=9, new_tokens=2, choices=50)


@pytest.mark.parametrize(("window", "slots"), [(6, 6), (0, 16), (64, 16)])
@pytest.mark.parametrize(
    ("kv_heads", "dtype", "bytes_each"), [(2, "float32", 4), (1, "bfloat16", 2), (4, "bfloat16", 2)]
)
def test_bytes_by_hand(
    toy_params: Params, toy_config: ModelConfig, window: int, slots: int, kv_heads: int, dtype: str, bytes_each: int
) -> None:
    """Keys and values of 2 layers and heads of 4, and the position of each slot; five norms of 16 stay in float32."""
    config = dataclasses.replace(toy_config, window=window, num_kv_heads=kv_heads, compute_dtype=dtype)
    parameters, cache = decoding_bytes(toy_params, config)
    assert cache == 2 * 2 * kv_heads * slots * 4 * bytes_each + 4 * slots
    numbers = sum(array.size for array in jax.tree.leaves(toy_params))
    assert parameters == (numbers - 5 * 2 * 16) * bytes_each + 5 * 2 * 16 * 4
