"""What generation costs: the memory of parameters and cache, how long a prompt takes to be read, and how many tokens
are written in a second, one completion at a time and many together.

Prompts fill the model's context but for the tokens that are written after them, so that every step sees all of the
cache. They are made up: which tokens they hold costs nothing. Tokens are chosen greedily, and nothing ends early.

What the memory of arrays is follows from the model. What was timed differs from run to run and from machine to machine,
so it stands apart (`timing`), and nothing is made of it.
"""

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from sc2jax.errors import UserError
from sc2jax.evaluation.config import DecodingConfig
from sc2jax.evaluation.heldout import Splits
from sc2jax.evaluation.not_measured import NotMeasured
from sc2jax.json_files import Amount, Count, Positive

if TYPE_CHECKING:
    from sc2jax.inference.loaded_model import LoadedModel

VERSION = 1
"""Raised when a change to this measure changes its results."""

Config = DecodingConfig


class Together(TypedDict):
    """Completions of `batch` prompts at once.

    `program_bytes` is what the compiled program holds: parameters, the cache of all of them and what it computes with.
    """

    batch: Count
    prefill_milliseconds: Amount
    tokens_per_second: Positive
    program_bytes: Count


class Timing(TypedDict):
    """What was timed, and where.

    `peak_bytes` is the most memory that one device had held since the process began, or where devices do not tell it,
    the process itself: an upper bound, for the model was opened, and perhaps measured, in the same process.
    """

    device: str
    alone: Together
    together: Together
    peak_bytes: Count
    peak_of: Literal["device", "process"]


class Decoding(TypedDict):
    """Bytes of the parameters as they are computed with, and of one sequence's cache for the context."""

    measured: Literal[True]
    context: Count
    prompt_tokens: Count
    new_tokens: Count
    parameter_bytes: Count
    cache_bytes: Count
    timing: NotRequired[Timing]


Result = Decoding


def measure(model: "LoadedModel", _splits: Splits, config: DecodingConfig, _seed: int) -> Decoding | NotMeasured:
    """Times completions of both batches.

    Raises:
        UserError: the tokens leave no room for a prompt in the context, or logits are not finite.
    """
    if not config.decoding_tokens:
        return NotMeasured(measured=False, reason="switched off (evaluation.decoding_tokens is 0)")
    context = model.config.context_length
    prompt_tokens = context - config.decoding_tokens
    if prompt_tokens < 1:
        raise UserError(
            f"evaluation.decoding_tokens is {config.decoding_tokens}, and leaves no room for a prompt in the model's "
            f"context of {context}; lower it"
        )
    from sc2jax.inference.speed import decoding_bytes, most_held

    parameter_bytes, cache_bytes = decoding_bytes(model.params, model.config)
    alone, together = (_together(model, batch, prompt_tokens, config) for batch in (1, config.decoding_batch))
    peak_bytes, peak_of = most_held()
    return Decoding(
        measured=True,
        context=context,
        prompt_tokens=prompt_tokens,
        new_tokens=config.decoding_tokens,
        parameter_bytes=parameter_bytes,
        cache_bytes=cache_bytes,
        timing=Timing(
            device=model.mesh.devices.flat[0].device_kind,
            alone=alone,
            together=together,
            peak_bytes=peak_bytes,
            peak_of=peak_of,
        ),
    )


def summary(result: Decoding | NotMeasured) -> str:
    """The result in a sentence."""
    if result["measured"] is False:
        return f"decoding: not measured, {result['reason']}"
    said = (
        f"decoding: parameters {result['parameter_bytes'] / 1e6:.1f} MB, cache of {result['context']:,} tokens "
        f"{result['cache_bytes'] / 1e6:.2f} MB"
    )
    if "timing" not in result:
        return said
    timing = result["timing"]
    alone, together = timing["alone"], timing["together"]
    return (
        f"{said}; a prompt of {result['prompt_tokens']:,} tokens is read in {alone['prefill_milliseconds']:.1f} ms, "
        f"{alone['tokens_per_second']:,.0f} tokens/s alone and {together['tokens_per_second']:,.0f} in a batch of "
        f"{together['batch']} ({timing['device']})"
    )


def _together(model: "LoadedModel", batch: int, prompt_tokens: int, config: DecodingConfig) -> Together:
    from sc2jax.inference.speed import decoding_speed

    speed = decoding_speed(
        model.params,
        model.config,
        batch_size=batch,
        prompt_tokens=prompt_tokens,
        new_tokens=config.decoding_tokens,
        choices=min(model.tokenizer.vocab_size, model.config.vocab_size),
    )
    return Together(
        batch=batch,
        prefill_milliseconds=1000 * speed.read_seconds,
        tokens_per_second=batch / speed.step_seconds,
        program_bytes=speed.program_bytes,
    )
