"""Completions for people to read: of a user's prompt, or of samples taken from files."""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

import msgspec

from sc2jax.errors import UserError
from sc2jax.inference.config import BY_THE_MODEL, CompletionConfig
from sc2jax.json_files import decode_json
from sc2jax.text.formats import FORMATS, repository_prompt
from sc2jax.text.special_tokens import Piece

if TYPE_CHECKING:
    from sc2jax.inference.generate import Choice
    from sc2jax.inference.loaded_model import LoadedModel

LEAST_LINES = 8
"""The fewest lines that are not blank in a file from which a sample is taken."""

Finish: TypeAlias = Literal["stop", "length"]
"""Whether the model stopped by itself or reached the limit of tokens."""


class LeftToRight(TypedDict):
    """A continuation of a prompt."""

    kind: Literal["left_to_right"]
    prompt: str
    completion: str
    finish: Finish


class Infill(TypedDict):
    """A completion between a prefix and a suffix."""

    kind: Literal["infill"]
    prefix: str
    suffix: str
    completion: str
    finish: Finish


CompletionSample: TypeAlias = LeftToRight | Infill


class _Kind(TypedDict):
    kind: Literal["left_to_right", "infill"]


def samples_of(content: bytes, where: str, remedy: str) -> list[CompletionSample]:
    """The samples of a JSON that a list of them was written to.

    Raises:
        UserError: it holds something else.
    """
    samples: list[CompletionSample] = []
    for number, item in enumerate(decode_json(content, list[msgspec.Raw], where, remedy), start=1):
        named = f"{where}, sample {number},"
        kind = decode_json(item, _Kind, named, remedy)["kind"]
        samples.append(decode_json(item, LeftToRight if kind == "left_to_right" else Infill, named, remedy))
    return samples


def complete_prompt(
    model: "LoadedModel", config: CompletionConfig, seed: int, show: Callable[[str], object] = lambda _: None
) -> CompletionSample:
    """Completes the config's prompt, or fills the gap before its suffix; `show` gets the text piece by piece.

    The prompt is not changed. If it ends in a newline or inside of a word, it cuts a token in two, which the model has
    rarely seen in training.
    """
    prompt = model.tokenizer.encode(_prompt(config, config.prompt, config.suffix))
    text = model.tokenizer.stream()
    ids: list[int] = []
    for token in model.stream(prompt, **_choice(model, config, seed)):
        ids.append(token)
        show(text.push(token))
    show(text.finish())
    finished = len(ids) < config.max_new_tokens
    return _sample(config.prompt, config.suffix, model.tokenizer.decode(ids), finished)


def samples_from_files(
    model: "LoadedModel", files: Iterable[tuple[str, str]], config: CompletionConfig, seed: int
) -> list[CompletionSample]:
    """One left-to-right and one infilling sample from (path, text) files, which are chosen by a hash of their paths.

    Raises:
        UserError: no file is long enough.
    """
    long_enough = ((path, text) for path, text in files if _filled_lines(text) >= LEAST_LINES)
    chosen = heapq.nsmallest(2, long_enough, key=lambda file: hashlib.sha256(f"{seed}/{file[0]}".encode()).digest())
    if not chosen:
        raise UserError(
            f"no file of the corpus has {LEAST_LINES} filled lines to make a sample from; give a prompt with "
            "--config.completion.prompt=TEXT"
        )
    shown = [
        (_opening(chosen[0][1], config.context_characters), ""),
        _around_a_line(chosen[-1][1], config.context_characters),
    ]
    prompts = [model.tokenizer.encode(_prompt(config, before, after)) for before, after in shown]
    completions = model.complete(prompts, **_choice(model, config, seed))
    return [
        _sample(before, after, model.tokenizer.decode(completion.ids), completion.finished)
        for (before, after), completion in zip(shown, completions, strict=True)
    ]


def _prompt(config: CompletionConfig, before: str, after: str) -> list[Piece]:
    return repository_prompt(
        config.repository, [], config.path, before, suffix=after or None, with_metadata=bool(config.path)
    )


def _choice(model: "LoadedModel", config: CompletionConfig, seed: int) -> "Choice":
    return {
        "max_new_tokens": config.max_new_tokens,
        "stop_ids": FORMATS["repository"].stops,
        "temperature": model.temperature if config.temperature == BY_THE_MODEL else config.temperature,
        "top_p": config.top_p,
        "seed": seed,
    }


def _sample(before: str, after: str, completion: str, finished: bool) -> CompletionSample:
    finish: Finish = "stop" if finished else "length"
    if after:
        return Infill(kind="infill", prefix=before, suffix=after, completion=completion, finish=finish)
    return LeftToRight(kind="left_to_right", prompt=before, completion=completion, finish=finish)


def _filled_lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.split("\n"))


def _opening(text: str, characters: int) -> str:
    """The first half of a file, or less, in whole lines; its last newline is left for the model to write."""
    cut = min(len(text) // 2, characters)
    end = text.rfind("\n", 0, cut + 1)
    return (text[:end] if end > 0 else text[:cut]).rstrip("\n") or text[:cut]


def _around_a_line(text: str, characters: int) -> tuple[str, str]:
    """The text before and after the filled line nearest to a file's middle."""
    lines = text.split("\n")
    filled = [index for index, line in enumerate(lines) if line.strip()]
    hidden = filled[len(filled) // 2]
    before, after = "\n".join([*lines[:hidden], ""]), "\n".join(["", *lines[hidden + 1 :]])
    return before[-characters:], after[:characters]
