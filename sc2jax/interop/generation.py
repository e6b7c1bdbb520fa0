"""How an imported model wants to be completed: what its generation_config.json, or else its config.json, says."""

import dataclasses
from collections.abc import Mapping
from typing import TypedDict

from sc2jax.errors import UserError
from sc2jax.interop.architecture import CONFIG
from sc2jax.json_files import decode_json

GENERATION_CONFIG = "generation_config.json"
GENERATION_FILES = (GENERATION_CONFIG, CONFIG)


@dataclasses.dataclass(frozen=True)
class Generation:
    """The tokens that end a completion, and the temperature at which tokens are drawn; 0: the likeliest is taken."""

    end_ids: frozenset[int]
    temperature: float


class _Values(TypedDict, total=False):
    """The keys that are read, of either file."""

    eos_token_id: int | list[int] | None
    do_sample: bool | None
    temperature: float | None


def read_generation(files: Mapping[str, bytes], where: str, vocab_size: int) -> Generation:
    """What the files of an imported model say; `where` names them in messages.

    As in transformers, tokens are drawn where `do_sample` is set. An end token that the model does not have is none.

    Raises:
        UserError: a file is damaged, or its temperature is negative.
    """
    generation, config = (_read(files, name, where) for name in GENERATION_FILES)
    ends = generation.get("eos_token_id")
    ends = config.get("eos_token_id") if ends is None else ends
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    temperature = generation.get("temperature")
    temperature = 1.0 if temperature is None else temperature
    if temperature < 0:
        raise UserError(f"{where}/{GENERATION_CONFIG}: the temperature is {temperature}; it must be at least 0")
    return Generation(
        frozenset(token for token in listed if 0 <= token < vocab_size),
        temperature if generation.get("do_sample") else 0.0,
    )


def _read(files: Mapping[str, bytes], name: str, where: str) -> _Values:
    if name not in files:
        return {}
    return decode_json(files[name], _Values, f"{where}/{name}", "get it again from where it came")
