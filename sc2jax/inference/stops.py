"""Where a completion ends: at a stop token, at a text that it must not hold, or at its limit of tokens.

What ends a completion is found in its decoded text and not in its tokens: a stop may begin or end within one.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal, TypedDict

from sc2jax.errors import UserError
from sc2jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class TextCompletion:
    """What was written after a prompt.

    Attributes:
        text: up to the first stop, which is left out.
        ids: the tokens as they were chosen, up to and with the one that completed the stop.
        finish: whether a stop was reached, or the limit of tokens.
    """

    text: str
    ids: list[int]
    finish: Literal["stop", "length"]


class Texts(TypedDict):
    """What `complete_texts` is asked for beside the prompts.

    Attributes:
        stop_texts: of each prompt, the texts that end its completion.
        stop_ids: the tokens that end every completion.
        max_new_tokens: the most tokens that a completion may have.
        temperature: divides the logits before a token is drawn; 0 takes the likeliest token.
        top_p: draws from the fewest likeliest tokens whose probabilities sum to at least this.
        seed: of all draws.
        numbers: of each prompt, 32 bits; its draws follow from the seed and its number alone.
        names: what an error calls each prompt.
        first: the place of the first prompt that is completed. Those before it were completed earlier; they count
            for the shapes of what is computed, so that the rest is rounded as if all of them were completed now.
    """

    stop_texts: Sequence[Sequence[str]]
    stop_ids: frozenset[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    numbers: Sequence[int]
    names: Sequence[str]
    first: int


def refuse_too_long(
    prompts: Sequence[Sequence[int]], names: Sequence[str], max_new_tokens: int, context_length: int
) -> None:
    """Makes sure that no prompt together with its completion can be longer than the model's context.

    Raises:
        UserError: one of them can.
    """
    for prompt, name in zip(prompts, names, strict=True):
        if len(prompt) + max_new_tokens > context_length:
            raise UserError(
                f"{name} has {len(prompt):,} tokens; with max_new_tokens {max_new_tokens:,} that is more than the "
                f"model's context of {context_length:,}: ask for fewer tokens, or take a model of a longer context"
            )


class WrittenText:
    """The text of one completion while its tokens arrive, until it ends.

    It ends with the first token after which its text holds a stop, and is cut where the first stop in it begins. What
    stands in the prompt is no part of that text. Half a character is no text yet.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop_texts: Sequence[str], stop_ids: Collection[int], max_new_tokens: int
    ) -> None:
        self._stream = tokenizer.stream()
        self._stop_texts = stop_texts
        self._stop_ids = stop_ids
        self._max_new_tokens = max_new_tokens
        self._text = ""
        self._ids: list[int] = []

    def push(self, token: int) -> TextCompletion | None:
        """Takes the next token; the completion, if it ends with this one.

        Raises:
            ValueError: the token lies outside of the vocabulary.
        """
        self._ids.append(token)
        stopped = token in self._stop_ids
        at_end = stopped or len(self._ids) == self._max_new_tokens
        cut = self._add(self._stream.finish() if stopped else self._stream.push(token))
        if cut is None and at_end:
            cut = self._add(self._stream.finish())
        if cut is not None:
            return TextCompletion(self._text[:cut], self._ids, "stop")
        return TextCompletion(self._text, self._ids, "stop" if stopped else "length") if at_end else None

    def _add(self, text: str) -> int | None:
        """Where the first stop begins in the text so far; one that was not there before ends in what is added now."""
        before = len(self._text)
        self._text += text
        places = [self._text.find(stop, max(0, before - len(stop) + 1)) for stop in self._stop_texts]
        return min((place for place in places if place >= 0), default=None)
