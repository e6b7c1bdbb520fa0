"""How long a model takes to read prompts and to write tokens, and how much memory the writing takes."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from sc2jax.inference.decode import DecodeState, Prompts, free_slots, step
from sc2jax.inference.finite import refuse_not_finite
from sc2jax.inference.generate import numbered, start
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.model.transformer import cast_params
from sc2jax.parallel.memory import peak_device_bytes, peak_process_bytes

REPEATS = 5
"""How often both are timed, after once that is not; the medians count."""

_NO_STOPS: Any = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class Speed:
    """What completions of a batch of prompts cost.

    Attributes:
        read_seconds: until all prompts are in the cache, and the first token after each is chosen.
        step_seconds: a further token of every prompt.
        program_bytes: what the compiled loop of steps holds: parameters, cache and what it computes with.
    """

    read_seconds: float
    step_seconds: float
    program_bytes: int


def decoding_speed(
    params: Params, config: ModelConfig, *, batch_size: int, prompt_tokens: int, new_tokens: int, choices: int
) -> Speed:
    """Times greedy completions of made-up prompts, all of one length and none ending early.

    Args:
        params: the model's parameters.
        config: the model's shape.
        batch_size: prompts that are read and completed together.
        prompt_tokens: of each prompt; as in every completion it is padded to a multiple of `LENGTH_MULTIPLE`.
        new_tokens: chosen by steps, beside the first token that reading a prompt gives.
        choices: only ids below it stand in prompts and are chosen.

    Raises:
        UserError: logits are not finite.
    """
    ids = [(np.arange(prompt_tokens) + row) % choices for row in range(batch_size)]
    prompts = numbered([row.tolist() for row in ids], range(batch_size), 0.0, 1.0, 0)
    read = partial(_read, params, prompts, config=config, new_tokens=new_tokens, choices=choices)
    laid_out = _laid_out(params, config=config)
    state = read()
    steps = _steps.lower(laid_out, state, config=config, count=new_tokens, choices=choices).compile()
    state = jax.block_until_ready(steps(laid_out, state))
    refuse_not_finite(np.asarray(state.finite_B))
    read_seconds, step_seconds = [], []
    for _ in range(REPEATS):
        seconds, state = _timed(read)
        read_seconds.append(seconds)
        seconds, _ = _timed(partial(steps, laid_out, state))
        step_seconds.append(seconds / new_tokens)
    return Speed(statistics.median(read_seconds), statistics.median(step_seconds), _program_bytes(steps))


def decoding_bytes(params: Params, config: ModelConfig) -> tuple[int, int]:
    """Bytes of the parameters in the type that they are computed in, and of the cache of one sequence.

    The sequence is as long as the context, and its cache no longer than the window. Both are those of the arrays, whose
    shapes are worked out without making them.
    """
    computed = jax.eval_shape(partial(cast_params, config=config), params)
    _, slots = jax.eval_shape(lambda params: free_slots(params, config, 1, config.context_length), params)
    return _nbytes(computed), _nbytes(slots.cache)


def most_held() -> tuple[int, Literal["device", "process"]]:
    """The most bytes that one device has held since the process began; the process, where devices do not tell it."""
    of_devices = peak_device_bytes()
    return (of_devices, "device") if of_devices else (peak_process_bytes(), "process")


def _nbytes(arrays: Any) -> int:
    return sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(arrays))


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = jax.block_until_ready(work())
    return time.perf_counter() - began, result


@partial(jax.jit, static_argnames=("config", "new_tokens", "choices"))
def _read(params: Params, prompts: Prompts, *, config: ModelConfig, new_tokens: int, choices: int) -> DecodeState:
    _, state = start(params, prompts, _NO_STOPS, config=config, max_new_tokens=new_tokens + 1, choices=choices)
    return state


@partial(jax.jit, static_argnames="config")
def _laid_out(params: Params, *, config: ModelConfig) -> Any:
    return free_slots(params, config, slots=1, total_length=1)[0]


@partial(jax.jit, static_argnames=("config", "count", "choices"), donate_argnames="state")
def _steps(params: Any, state: DecodeState, *, config: ModelConfig, count: int, choices: int) -> DecodeState:
    return jax.lax.fori_loop(0, count, lambda _, state: step(params, state, _NO_STOPS, config, choices=choices), state)


def _program_bytes(program: Any) -> int:
    """What a compiled program holds at once; an output that takes the place of an argument is counted once."""
    needed = program.memory_analysis()
    held = needed.argument_size_in_bytes + needed.output_size_in_bytes - needed.alias_size_in_bytes
    return int(held + needed.temp_size_in_bytes)
