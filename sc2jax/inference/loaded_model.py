"""A model opened for use: what completing, scoring, serving and measuring share."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from sc2jax.inference.generate import Completion, generate, stream
from sc2jax.inference.score import token_log_likelihoods
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import Params
from sc2jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """The parameters of a model, its shape, its tokenizer, and the mesh on which the parameters live."""

    params: Params
    config: ModelConfig
    tokenizer: Tokenizer
    mesh: Mesh

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int],
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int = 16,
    ) -> list[Completion]:
        """Continues each prompt with tokens that the tokenizer knows; the arguments are those of `generate`.

        Raises:
            UserError: an empty prompt, a token that the model does not know, or a number out of range.
        """
        return generate(
            self.params,
            self.config,
            prompts,
            max_new_tokens=max_new_tokens,
            stop_ids=stop_ids,
            vocab_size=self.tokenizer.vocab_size,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            batch_size=batch_size,
        )

    def stream(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int],
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[int]:
        """Yields the tokens with which `complete` continues a single prompt, each as soon as it is chosen.

        If there are fewer than `max_new_tokens`, a stop token was reached.
        """
        return stream(
            self.params,
            self.config,
            prompt,
            max_new_tokens=max_new_tokens,
            stop_ids=stop_ids,
            vocab_size=self.tokenizer.vocab_size,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )

    def score(self, rows: Sequence[Sequence[int]], *, batch_size: int) -> list[np.ndarray]:
        """The log-likelihood of every token but the first of each row; see `token_log_likelihoods`."""
        return token_log_likelihoods(self.params, self.config, rows, batch_size=batch_size)
