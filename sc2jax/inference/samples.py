"""Completions for people: of a prompt that a user gives, or of files chosen as samples."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence

from sc2jax.errors import UserError
from sc2jax.inference.config import CompletionConfig
from sc2jax.inference.generate import Completion
from sc2jax.text.formats import FORMATS, repository_prompt
from sc2jax.text.special_tokens import Piece
from sc2jax.text.tokenizer import Tokenizer

Generate = Callable[..., list[Completion]]
"""`generate` of this room with the model's parameters already given."""

STOP_IDS = frozenset(map(int, FORMATS["repository"].stops))
LEAST_LINES = 8
"""Filled lines that a file must have to be sampled."""


def complete_prompt(generate: Generate, tokenizer: Tokenizer, config: CompletionConfig, seed: int) -> dict[str, str]:
    """The completion of the config's prompt, up to its suffix if it has one.

    The prompt is taken as it is: one that ends in a newline or in half of a word splits a token, and the model sees
    what it has rarely seen in training.
    """
    (sample,) = _complete(generate, tokenizer, [_request(config, config.prompt, config.suffix)], config, seed)
    return sample


def samples_from_files(
    generate: Generate,
    tokenizer: Tokenizer,
    files: Iterable[tuple[str, str]],
    config: CompletionConfig,
    seed: int,
) -> list[dict[str, str]]:
    """One left-to-right and one infilling sample from (path, text) files, chosen by a hash of their path.

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
    requests = [
        _request(config, _opening(chosen[0][1], config.context_characters), ""),
        _request(config, *_around_a_line(chosen[-1][1], config.context_characters)),
    ]
    return _complete(generate, tokenizer, requests, config, seed)


def _request(config: CompletionConfig, before: str, after: str) -> tuple[str, str, list[Piece]]:
    pieces = repository_prompt(
        config.repository, [], config.path, before, suffix=after or None, with_metadata=bool(config.path)
    )
    return before, after, pieces


def _complete(
    generate: Generate,
    tokenizer: Tokenizer,
    requests: Sequence[tuple[str, str, list[Piece]]],
    config: CompletionConfig,
    seed: int,
) -> list[dict[str, str]]:
    completions = generate(
        [tokenizer.encode(pieces) for _, _, pieces in requests],
        max_new_tokens=config.max_new_tokens,
        stop_ids=STOP_IDS,
        vocab_size=tokenizer.vocab_size,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=seed,
    )
    samples = []
    for (before, after, _), completion in zip(requests, completions, strict=True):
        written = {
            "completion": tokenizer.decode(completion.ids),
            "finish": "stop" if completion.finished else "length",
        }
        if after:
            samples.append({"kind": "infill", "prefix": before, "suffix": after} | written)
        else:
            samples.append({"kind": "left_to_right", "prompt": before} | written)
    return samples


def _filled_lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.split("\n"))


def _opening(text: str, characters: int) -> str:
    """The first half of a file, at most so many characters, without the newline that the model is to write."""
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
