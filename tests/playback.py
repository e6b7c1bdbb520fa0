"""A stand-in for a model: it writes what it was given for each prompt, as tokens, and then writes on."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Unpack

from sc2jax.evaluation.problems import Problem
from sc2jax.inference.stops import TextCompletion, Texts, WrittenText, refuse_too_long
from sc2jax.model.config import ModelConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

AFTERWARDS = (
    "\nprint(1)\n\n\ndef more():\n    raise SystemExit(1)\n",
    "\n\nif __name__ == '__main__':\n    import doctest\n    doctest.testmod()\n",
    "\n\n\ndef main():\n    assert False\n\n\nmain()\n",
    Special.END_OF_TEXT.literal,
)
"""What models write after a solution, all of which a judge must not see."""


@dataclasses.dataclass(frozen=True)
class Playback:
    """Has of a `LoadedModel` what evaluation uses; the same stop logic ends what it writes.

    Attributes:
        continuations: by the prompt, special tokens as literals: what a right answer writes after it.
        afterwards: the texts of which one follows, again and again; another one for each number of a prompt.
    """

    tokenizer: Tokenizer
    continuations: Mapping[str, str]
    afterwards: Sequence[str] = AFTERWARDS
    config: ModelConfig = dataclasses.field(default_factory=ModelConfig)

    def complete_texts(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        batch_size: int = 16,  # noqa: ARG002 (nothing is computed together)
        **texts: Unpack[Texts],
    ) -> Iterator[TextCompletion]:
        refuse_too_long(prompts, texts["names"], texts["max_new_tokens"], self.config.context_length)
        return (self._complete(place, prompts[place], texts) for place in range(texts["first"], len(prompts)))

    def _complete(self, place: int, prompt: Sequence[int], texts: Texts) -> TextCompletion:
        written = WrittenText(self.tokenizer, texts["stop_texts"][place], texts["stop_ids"], texts["max_new_tokens"])
        text = self.continuations[self.tokenizer.decode(prompt)]
        after = self.afterwards[texts["numbers"][place] % len(self.afterwards)]
        if after == Special.END_OF_TEXT.literal:
            tokens = iter([*self.tokenizer.encode_text(text), int(Special.END_OF_TEXT)])
        else:
            # As one text, so that tokens may hold the end of the solution and the beginning of what follows.
            first = self.tokenizer.encode_text(text + after)
            tokens = itertools.chain(first, itertools.cycle(self.tokenizer.encode_text(after)))
        return next(completion for token in tokens if (completion := written.push(token)) is not None)


def playback(tokenizer: Tokenizer, problems: Sequence[Problem], programs: Mapping[str, str]) -> Playback:
    """A model that writes the given program of each task; it must begin with the prompt of its problem."""
    continuations = {}
    for problem in problems:
        program = programs[problem.task_id]
        assert program.startswith(problem.prompt), problem.task_id
        continuations[problem.prompt] = program.removeprefix(problem.prompt)
    return Playback(tokenizer, continuations)


def byte_tokens() -> Tokenizer:
    """A tokenizer with one token a byte, above the special tokens."""
    return Tokenizer(
        vocab_size=len(Special) + 256,
        digest="bytes",
        _encode=lambda text: [len(Special) + byte for byte in text.encode()],
        _token_bytes=[b""] * len(Special) + [bytes([byte]) for byte in range(256)],
        _escapes=False,
    )
