"""A model opened for use: what completing, scoring, serving and measuring share."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
from jax.sharding import Mesh

from sc2jax.inference.config import TEMPERATURE
from sc2jax.inference.generate import Choice, Completion, generate, stream
from sc2jax.inference.score import token_log_likelihoods
from sc2jax.inference.stops import TextCompletion, Texts
from sc2jax.inference.texts import complete_texts
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """The parameters of a model, its shape, its tokenizer, and the mesh on which the parameters live.

    Attributes:
        end_ids: tokens that end every completion of an imported model, beside those that the caller names.
        temperature: what it is completed with where nobody asks for another.
    """

    params: Params
    config: ModelConfig
    tokenizer: Tokenizer
    mesh: Mesh
    end_ids: frozenset[int] = dataclasses.field(default=frozenset(), kw_only=True)
    temperature: float = dataclasses.field(default=TEMPERATURE, kw_only=True)

    def complete(
        self, prompts: Sequence[Sequence[int]], *, batch_size: int = 16, **choice: Unpack[Choice]
    ) -> list[Completion]:
        """Continues each prompt with tokens that the tokenizer knows; the arguments are those of `generate`.

        Raises:
            UserError: an empty prompt, a token that the model does not know, a number out of range, or logits that are
                not finite.
        """
        known = self.tokenizer.vocab_size
        choice["stop_ids"] |= self.end_ids
        return generate(self.params, self.config, prompts, vocab_size=known, batch_size=batch_size, **choice)

    def stream(self, prompt: Sequence[int], **choice: Unpack[Choice]) -> Iterator[int]:
        """The tokens with which `complete` continues a prompt, each as soon as it is chosen.

        If there are fewer than `max_new_tokens`, a stop token was reached.
        """
        choice["stop_ids"] |= self.end_ids
        return stream(self.params, self.config, prompt, vocab_size=self.tokenizer.vocab_size, **choice)

    def complete_texts(
        self, prompts: Sequence[Sequence[int]], *, batch_size: int = 16, **texts: Unpack[Texts]
    ) -> Iterator[TextCompletion]:
        """The completions of prompts as texts, in their order, each as soon as it and all before it have ended.

        Raises:
            UserError: as `complete`, or a prompt with its completion may be longer than the model's context.
        """
        texts["stop_ids"] |= self.end_ids
        return complete_texts(self.params, self.config, self.tokenizer, prompts, texts, batch_size=batch_size)

    def score(self, rows: Sequence[Sequence[int]], *, batch_size: int) -> list[np.ndarray]:
        """The log-likelihood of every token but the first of each row; see `token_log_likelihoods`."""
        return token_log_likelihoods(self.params, self.config, rows, batch_size=batch_size)
